#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A server of memory that dies.  Started again in time, nothing is lost; for good, the threads
# that touch what it had get SIGBUS.  Never zeros.
#
# Dead for 1 s, or for 5: ZD_NBD_FULL=1.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/remote.sh
. "$(dirname "$0")/../lib/remote.sh"
requires_run
requires nbdkit

size=$(scaled 32 16)
pause=1
[ "${ZD_NBD_FULL:-0}" = 0 ] || pause=5

# hold TIMEOUT: a program with $size MiB, of which half is on the server; ask it with check_all
hold() {
	rm -f "$T/in"
	mkfifo "$T/in"
	exec 8<>"$T/in"
	: >"$T/out"
	start "$ZONEDEV" run --report "$T/report.json" --device "nbd:$URI,timeout=$1" \
		--ram "$((size / 2))M" -- "$H/run_mem" hold "$size" <"$T/in" >"$T/out" 2>"$T/err" 8>&-
	RUN=$PID
	wait_for 20 "grep -q ready '$T/out'" || fail "didn't start: $(cat "$T/err")"
}

: >"$T/disk"
truncate -s 256M "$T/disk"
remote file "$T/disk"

# While the program checks all of its memory, three times.
hold 60s
for n in 1 2 3; do
	echo >&8
	kill_remote
	sleep "$pause"
	remote file "$T/disk"
	wait_for 40 "[ \$(grep -c ok '$T/out') = $n ] || gone $RUN"
	[ "$(grep -c ok "$T/out")" = "$n" ] || fail "not checked: $(cat "$T/out" "$T/err")"
done
exec 8>&-
wait "$RUN" || fail "ended with $?: $(cat "$T/err")"
grep -q "lost the server" "$T/err" || fail "no word of the loss: $(cat "$T/err")"
grep -q "connected again" "$T/err" || fail "no word of the return: $(cat "$T/err")"
expect_report pages.poisoned -eq 0
expect_report pages.live -eq 0

# For good.
hold 1s
kill_remote
echo >&8
status=0
wait "$RUN" || status=$?
exec 8>&-
[ "$status" = $((128 + 7)) ] || fail "ended with $status: $(cat "$T/out" "$T/err")"
! grep -q ok "$T/out" || fail "what was lost was read as good"
grep -q "no server for 1 s" "$T/err" || fail "$(head "$T/err")"
expect_in_report 'status["signal"] == 7' 'pages["poisoned"] > 0' 'pages["live"] == 0'

# Started again, but with an empty memory.
remote memory 256M
hold 60s
kill_remote
remote memory 256M
echo >&8
status=0
wait "$RUN" || status=$?
exec 8>&-
[ "$status" = $((128 + 7)) ] || fail "ended with $status: $(cat "$T/out" "$T/err")"
! grep -q ok "$T/out" || fail "zeros were read as good"
grep -q "other data than it was given" "$T/err" || fail "$(head "$T/err")"
