#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The drivers to copy that have threads, under zonedev run: a program gets back what it wrote,
# also in a process that it leaves behind, which a forked copy of zonedev serves: there the
# driver's threads are not, and must be made anew.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

requires python3
ZONEDEV=$ROOT/bin/zonedev
requires_run

# shellcheck disable=SC2046 # flags are words
gcc -D_GNU_SOURCE -Wall -Wextra -Werror -pthread -shared -fPIC -I "$EXAMPLES" -o "$T/threads.so" \
	"$(dirname "$0")/driver_threads.c" $(pc --cflags) || fail "the drivers to copy do not compile"

cat >"$T/prog.py" <<'EOP'
import hashlib, os, sys, time
def fill():
    blocks = [bytearray(os.urandom(4096) * 64) for _ in range(100)]
    return blocks, [hashlib.md5(b).digest() for b in blocks]
def check(blocks, sums):
    assert [hashlib.md5(b).digest() for b in blocks] == sums
blocks, sums = fill()
check(blocks, sums)
if os.fork():
    os._exit(0)
os.setsid()
while not os.path.exists(sys.argv[1] + ".left"):
    time.sleep(0.01)
check(blocks, sums)
check(*fill())
with open(sys.argv[1], "w") as f:
    f.write("good")
EOP

for which in async "$T/device"; do
	rm -f "$T/result" "$T/result.left"
	"$ZONEDEV" run --ram 14M --device "plugin:$T/threads.so,$which,size=200M" -- \
		python3 "$T/prog.py" "$T/result" </dev/null >"$T/out" 2>&1 || fail "$which: $(cat "$T/out")"
	grep -q "left 1 process behind" "$T/out" || fail "$which: $(cat "$T/out")"
	touch "$T/result.left"
	# shellcheck disable=SC2016 # wait_for expands it
	wait_for 40 '[ -s "$T/result" ]' || fail "$which: what was left behind doesn't end"
	[ "$(cat "$T/result")" = good ] || fail "$which: $(cat "$T/result")"
done
