#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# gdb attaches to the program, reads what was on the device, and lets it go on.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

requires gdb
size=32
mkfifo "$T/in"
exec 8<>"$T/in"
start "$ZONEDEV" run --verbose --report "$T/report.json" --device ram:size=256M --ram 12M -- \
	"$H/run_mem" hold "$size" <"$T/in" >"$T/out" 2>"$T/err"
wait_for 20 "grep -q ready '$T/out'" || fail "didn't start: $(cat "$T/err")"
read -r _ pid addr <"$T/out"
end=$((addr + size * 1048576))

# A debugger can't wait for a page: it reads when zonedev has said that all are home.
timeout 50 gdb -nx -batch -p "$pid" \
	-ex "shell i=0; until grep -q 'all pages are home' '$T/err' || [ \$i = 300 ]; do sleep 0.1; i=\$((i + 1)); done" \
	-ex "dump binary memory $T/mem $addr $end" -ex detach </dev/null >"$T/gdb" 2>&1 ||
	fail "gdb: $(tail -n 5 "$T/gdb")"
grep -q "process $pid is traced: its pages come home" "$T/err" || fail "not noticed: $(cat "$T/err")"
[ "$(stat -c %s "$T/mem")" = $((size * 1048576)) ] || fail "gdb could not read all: $(tail -n 5 "$T/gdb")"
python3 - "$T/mem" <<'END' || fail "gdb read something else"
import struct, sys
M = 2**64 - 1
data = open(sys.argv[1], "rb").read()
for page in range(0, len(data) // 4096, 5):
    first = (7 + (page << 20) + 1) * 0x9E3779B97F4A7C15
    want = [(first + i * 0xBF58476D1CE4E5B9) & M for i in range(512)]
    if list(struct.unpack_from("<512Q", data, page * 4096)) != want:
        sys.exit(f"page {page}")
END

# The program goes on, also beyond its RAM.
echo >&8
wait_for 20 "grep -q ok '$T/out'" || fail "the program doesn't go on: $(cat "$T/err")"
exec 8>&-
end "$PID"
