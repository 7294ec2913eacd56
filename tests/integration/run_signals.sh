#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every signal that can be caught reaches the program once, with its value: sent to the pid
# that was started, and sent to the process group.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

X=$H/run_exact
KILL=9 STOP=19 QUIT=3

# 32 and 33 are libc's own; of the signals to stop and to go on, a pending one is removed when
# another comes
jobs="18 20 21 22"
others=$(for s in $(seq 1 64); do
	case $s in "$KILL" | "$STOP" | "$QUIT" | 18 | 20 | 21 | 22 | 32 | 33) ;; *) echo "$s" ;; esac
done)

# listener HOW: $pid is what was started, $group its process group
listener() {
	rm -f "$T/got"
	start env --default-signal "$X" start "$1" \
		"$ZONEDEV" run --quiet --device ram:size=64M --ram 32M -- "$X" listen "$T/got"
	wait_for 10 "grep -qs ready '$T/got'" || fail "$1: didn't start"
	pid=$PID
	group=$PID
	[ "$1" != member ] || pid=$(pgrep -P "$PID")
}

# expect_once WHAT VALUE: each signal is there, once
expect_once() {
	local s
	wait_for 20 "grep -q '^$QUIT ' '$T/got'" || fail "$1: the last signal didn't come"
	for s in $jobs $others; do
		[ "$(grep -cx "$s $2" "$T/got")" = 1 ] && [ "$(grep -c "^$s " "$T/got")" = 1 ] ||
			fail "$1: signal $s: $(grep -n "^$s " "$T/got" | tr '\n' '|')"
	done
}

for how in session member; do
	for to in pid group; do
		listener "$how"
		to_whom=$pid
		[ "$to" = pid ] || to_whom=-$group
		# shellcheck disable=SC2086
		"$X" send "$to_whom" -1 $others
		for s in $jobs; do
			"$X" send "$to_whom" -1 "$s"
			wait_for 10 "grep -q '^$s ' '$T/got'" || fail "$how, to its $to: no signal $s"
		done
		# zonedev keeps the order, but for the six signals of faults
		wait_for 10 "[ \$(wc -l <'$T/got') -gt $(wc -w <<<"$jobs $others") ]" || true
		"$X" send "$to_whom" -1 "$QUIT"
		expect_once "$how, to its $to" -1
		"$X" send "$to_whom" -1 "$QUIT"
		wait_for 10 "gone $PID" || fail "$how, to its $to: doesn't end"
	done
done

# With a value; signals that the kernel queues come as often as they are sent
listener session
for i in 1 2 3; do
	for s in 10 34 64; do
		"$X" send "$pid" $((s * 10 + i)) "$s"
	done
	wait_for 10 "grep -qx '10 10$i' '$T/got'" || fail "SIGUSR1 with a value: $(cat "$T/got")"
done
for line in "34 341" "34 342" "34 343" "64 641" "64 642" "64 643"; do
	wait_for 10 "grep -qx '$line' '$T/got'" || fail "$line: $(cat "$T/got")"
done
# and to the program alone while the witness is stopped with the group
"$X" send "-$group" -1 "$STOP"
"$X" send "$pid" -1 18
wait_for 10 "grep -q '^18 ' '$T/got'" || fail "stopped with its group, continued alone: no SIGCONT"
"$X" send "$pid" -1 12
wait_for 10 "grep -q '^12 ' '$T/got'" || fail "continued alone: signals don't come any more"
"$X" send "$pid" -1 "$QUIT"
wait_for 10 "grep -q '^$QUIT ' '$T/got'" || fail "no SIGQUIT"
"$X" send "$pid" -1 "$QUIT"
wait_for 10 "gone $PID" || fail "doesn't end"
