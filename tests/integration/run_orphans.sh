#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The supervisor and its two guards are killed, in each order: no process of the tree outlives
# them, and none reads a zero where it had something else.  None of the three is the OOM
# killer's first choice, nor does another of them die with it.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

look_for_guards() {
	local pid
	guards=()
	# one guard is the supervisor's child, the other has the supervisor's pid on its command line
	for pid in $(pgrep -x zonedev-guard); do
		if [ "$(ps -o ppid= -p "$pid" | tr -d ' ')" = "$PID" ] ||
			grep -q "zonedev-$PID-" "/proc/$pid/cmdline" 2>/dev/null; then
			guards+=("$pid")
		fi
	done
	[ "${#guards[@]}" = 2 ]
}

# A parent, its child, and a child by a bare clone(), which has no agent.
family() {
	: >"$T/out"
	start bash -c 'echo 321 >/proc/self/oom_score_adj; exec "$@"' bash \
		"$ZONEDEV" run --quiet --device ram:size=256M --ram 16M -- \
		"$H/run_fork" linger 32 >"$T/out" 2>&1
	wait_for 30 "[ \"\$(grep -c ready '$T/out')\" = 3 ]" || fail "only: $(cat "$T/out")"
	mapfile -t pids < <(sed -n 's/ready //p' "$T/out")
	raw=$(sed -n 's/raw //p' "$T/out")
	# shellcheck disable=SC2034
	on_exit "kill -KILL ${pids[*]} 2>/dev/null || true"
	wait_for 5 look_for_guards || fail "guards: ${guards[*]}"
}

all_gone() {
	local pid
	for pid in "${pids[@]}"; do
		wait_for 5 "gone $pid" || fail "$1: $pid lives on (raw: $raw): $(cat "$T/out")"
	done
	wait "$PID" || true
	! grep wrong "$T/out" >&2 || fail "$1: read something else than was written"
}

family
# The program keeps its own OOM score; supervisor and guards have the lowest that they may have.
[ "$(cat "/proc/$raw/oom_score_adj")" = 321 ] ||
	fail "the program's OOM score is $(cat "/proc/$raw/oom_score_adj")"
lowest=$(bash -c 'echo -1000 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj' 2>/dev/null)
for pid in "$PID" "${guards[@]}"; do
	wait_for 5 "[ \"\$(cat /proc/$pid/oom_score_adj)\" = '$lowest' ]" ||
		fail "$pid has the OOM score $(cat "/proc/$pid/oom_score_adj"), not $lowest"
done
# kcmp(KCMP_VM): 0 for one address space
for guard in "${guards[@]}"; do
	python3 -c "
import ctypes, os
exit(ctypes.CDLL(None).syscall(312, $PID, $guard, 1, 0, 0) == 0 and os.uname().machine == 'x86_64')
" || fail "the supervisor and its guard share their memory"
done
kill -KILL "$PID" "${guards[0]}"
all_gone "the supervisor and a guard"
family
kill -KILL "${guards[1]}" "$PID"
all_gone "the other guard and the supervisor"

# The guards are killed first: soon there are new ones.
family
old=" ${guards[*]} "
kill -KILL "${guards[@]}"
are_new() {
	look_for_guards && [[ $old != *" ${guards[0]} "* && $old != *" ${guards[1]} "* ]]
}
wait_for 5 are_new || fail "guards: ${guards[*]}, and before:$old"
kill -KILL "$PID"
all_gone "the guards, then the supervisor"

# All that could kill the programs are killed: a program that needs its pages waits.
family
for pid in "${pids[@]}"; do
	[ "$pid" = "$raw" ] || others+=("$pid")
done
kill -KILL "$PID" "${guards[@]}" "${others[@]}"
wait "$PID" || true
# not in a system call, and not running: in a page fault
wait_for 10 "grep -q '^-1 ' /proc/$raw/syscall" || fail "all but one: it needs none of its pages"
! grep wrong "$T/out" >&2 || fail "all but one: it read something else than was written"
