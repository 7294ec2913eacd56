#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A device that fills up: one warning, and the program goes on.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 128)
[ "$size" -ge 64 ] || size=64
for device in "ram:size=$((size / 4))M" "file:$T/dev,size=$((size / 4))M"; do
	zd_run --device "$device" --ram "$((size / 4))M" -- "$H/run_mem" check "$size" 2>"$T/err" ||
		fail "$device: ended with $?: $(cat "$T/err")"
	[ "$(grep -c 'is full' "$T/err")" = 1 ] || fail "$device: not one warning: $(cat "$T/err")"
	[ "$(wc -l <"$T/err")" = 1 ] || fail "$device: more than that: $(cat "$T/err")"
	expect_in_report 'pages["out"] > 0' 'pages["live"] == 0' 'pages["poisoned"] == 0' \
		'peak_ram > ram * 1.5'
done

# When there is room again, pages go out again.
zd_run --device "ram:size=$((size / 4))M" --ram "$((size / 8))M" -- \
	sh -c "$H/run_mem check $size; $H/run_mem check $((size / 4)) 8" 2>"$T/err" ||
	fail "ended with $?: $(cat "$T/err")"
expect_in_report "pages['out'] * 4096 > $((size * 5 / 16)) << 20" 'pages["live"] == 0'

expect_status 0 "$ZONEDEV" run --quiet --device "ram:size=$((size / 4))M" --ram "$((size / 4))M" -- \
	"$H/run_mem" check "$size"
[ -z "$ERR" ] || fail "not quiet: $ERR"
