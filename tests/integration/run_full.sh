#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A device that fills up: one warning, and the program goes on.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 128)
[ "$size" -ge 64 ] || size=64
mkfifo "$T/in"
for device in "ram:size=$((size / 4))M" "file:$T/dev,size=$((size / 4))M"; do
	exec 8<>"$T/in"
	# not zd_run: a shell that waits for it would hold the fifo open
	start "$ZONEDEV" run --report "$T/report.json" --device "$device" \
		--ram "$((size / 4))M" -- "$H/run_mem" hold "$size" <"$T/in" >"$T/out" 2>"$T/err" 8>&-
	wait_for 30 "grep -q 'is full' '$T/err'" || fail "$device: no warning: $(cat "$T/err")"
	echo >&8
	wait_for 30 "grep -q ok '$T/out'" || fail "$device: it doesn't go on: $(cat "$T/err")"
	exec 8>&-
	wait "$PID" || fail "$device: ended with $?: $(cat "$T/err")"
	[ "$(wc -l <"$T/err")" = 1 ] || fail "$device: not one line: $(cat "$T/err")"
	expect_in_report 'pages["out"] > 0' 'pages["live"] == 0' 'pages["poisoned"] == 0' \
		'peak_ram > ram * 1.5' 'refused["device"] > 0'
done

# When there is room again, pages go out again.  The second program waits for that
# (RUN_MEM_RAM, run_mem.c), since a program that fits into RAM may be done before zonedev has
# looked.
zd_run --device "ram:size=$((size / 4))M" --ram "$((size / 8))M" -- \
	sh -c "$H/run_mem check $size; RUN_MEM_RAM=$((size / 8)) $H/run_mem check $((size / 4)) 8" 2>"$T/err" ||
	fail "ended with $?: $(cat "$T/err")"
expect_in_report "pages['out'] * 4096 > $((size * 5 / 16)) << 20" 'pages["live"] == 0'

expect_status 0 "$ZONEDEV" run --quiet --device "ram:size=$((size / 4))M" --ram "$((size / 4))M" -- \
	"$H/run_mem" check "$size"
[ -z "$ERR" ] || fail "not quiet: $ERR"

# Also where a device above it still takes what it is given, and has no place for these pages.
zd_run --device lz4 --device "file:$T/dev,size=8M" --ram 16M -- python3 -c "
import os, time
kept = [os.urandom(1 << 20) for i in range(48)]
time.sleep(1)
" 2>"$T/err" || fail "python3 ended with $?: $(cat "$T/err")"
[ "$(grep -c "file:$T/dev is full" "$T/err")" = 1 ] || fail "not one warning: $(cat "$T/err")"
expect_in_report 'devices[1]["full"]' 'pages["live"] == 0 == pages["poisoned"]'
