#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A device that can't be reached for a while, or doesn't answer: the program gets all of its
# memory back, the log says what it waits for, and the command ends when it can.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 64 32)
ram=$((size / 4))
device="plugin:$H/moody.so,size=1G,mood=$T/mood"

mood() {
	echo "$1" >"$T/mood.new"
	mv "$T/mood.new" "$T/mood"
}

# run_moody NAME COMMAND...: in the background, with standard input from descriptor 8
run_moody() {
	local name=$1
	shift
	start "$ZONEDEV" run --report "$T/report.json" --device "$device" --ram "${ram}M" -- "$@" \
		<&8 >"$T/$name.out" 2>"$T/$name.err"
}

# said NAME COUNT TEXT: so often in the log of the run
said() {
	[ "$(grep -c "$3" "$T/$1.err")" = "$2" ] || fail "$1: not $2 times '$3': $(cat "$T/$1.err")"
}

mkfifo "$T/in"
exec 8<>"$T/in"

# Away while a program needs its pages.
mood ok
run_moody away "$H/run_mem" hold "$size"
wait_for 30 "grep -q ready '$T/away.out'" || fail "didn't start: $(cat "$T/away.err")"
mood away
echo >&8
wait_for 30 "grep -q \"moody: can't be reached\" '$T/away.err'" || fail "$(cat "$T/away.err")"
! grep -q ok "$T/away.out" || fail "the program didn't need the device"
mood ok
wait_for 30 "grep -q ok '$T/away.out'" || fail "not all came back: $(cat "$T/away.err")"
# that was the first of a line for each check: the input's end ends the program
kill -TERM "$(awk '/ready/ { print $2 }' "$T/away.out")"
wait "$PID" || true
said away 1 "can't be reached"
said away 1 "can be reached again"
expect_in_report 'pages["poisoned"] == 0' 'pages["live"] == 0' 'pages["home"] > 0'

# Stalled from the first page on: the program fills all of its memory, beyond --ram, and reads
# it all; nothing that it needs is on the device.
mood stall
run_moody stall "$H/run_mem" hold "$size"
wait_for 30 "grep -q ready '$T/stall.out'" || fail "the program waits: $(cat "$T/stall.err")"
echo >&8
wait_for 30 "grep -q ok '$T/stall.out'" || fail "the program waits: $(cat "$T/stall.err")"
wait_for 30 "grep -q \"moody: hasn't answered for\" '$T/stall.err'" || fail "$(cat "$T/stall.err")"
# The program ends, and the command doesn't wait for the device for ever.
kill -KILL "$(awk '/ready/ { print $2 }' "$T/stall.out")"
status=0
wait "$PID" || status=$?
[ "$status" = $((128 + 9)) ] || fail "ended with $status: $(cat "$T/stall.err")"
said stall 1 "hasn't answered for"
expect_in_report 'pages["poisoned"] == 0' 'pages["live"] == 0'
