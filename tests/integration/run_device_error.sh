#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A device that fails.  What can't be written stays in memory; what can't be read is
# SIGBUS, never zeros.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 96)
[ "$size" -ge 48 ] || size=48

# A file system without room for what the file's size promises.
if mkdir "$T/small" && mount -t tmpfs -o "size=$((size / 6))M" tmpfs "$T/small" 2>/dev/null; then
	on_exit "umount '$T/small'"
	zd_run --device "file:$T/small/dev,size=1G" --ram "$((size / 3))M" -- \
		"$H/run_mem" check "$size" 2>"$T/err" || fail "ended with $?: $(cat "$T/err")"
	[ "$(grep -c "can't write: No space left" "$T/err")" = 1 ] ||
		fail "not one warning: $(cat "$T/err")"
	[ "$(wc -l <"$T/err")" = 1 ] || fail "more than that: $(head "$T/err")"
	expect_in_report 'refused["device"] > 0' 'pages["poisoned"] == 0' 'pages["live"] == 0'
else
	say "mount is not allowed: a full file system is not tried"
fi

# The file is truncated: the pages are lost, and a thread that touches one gets SIGBUS.
: >"$T/dev"
mkfifo "$T/in"
exec 8<>"$T/in"
start "$ZONEDEV" run --report "$T/report.json" --device "file:$T/dev,size=512M" \
	--ram "$((size / 3))M" -- \
	"$H/run_mem" hold "$size" <"$T/in" >"$T/out" 2>"$T/err"
wait_for 20 "grep -q ready '$T/out'" || fail "didn't start: $(cat "$T/err")"
truncate -s 0 "$T/dev"
echo >&8
status=0
wait "$PID" || status=$?
[ "$status" = $((128 + 7)) ] ||
	fail "the file was cut, and the program ended with $status: $(cat "$T/out" "$T/err")"
! grep -q ok "$T/out" || fail "what was lost was read as good"
grep -q "truncated by somebody else" "$T/err" || fail "$(head "$T/err")"
grep -q "is lost: whoever touches it gets SIGBUS" "$T/err" || fail "$(head "$T/err")"
expect_in_report 'status["signal"] == 7' 'pages["poisoned"] > 0' 'pages["live"] == 0'
