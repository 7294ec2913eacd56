#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What exec keeps and fork doesn't, and what the supervisor changes for itself, is as it is
# without zonedev; and limits of the program don't end the supervisor.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

zd=("$ZONEDEV" run --quiet --device ram:size=64M --ram 32M --)
X=$H/run_exact

# same WHAT STARTER...: what run_exact shows, by itself and under zonedev
same() {
	local what=$1 status=0
	shift
	"$@" "$X" show >"$T/plain" </dev/null || status=$?
	[ "$status" != 77 ] || { say "$what can't be had here"; return 0; }
	"$@" "${zd[@]}" "$X" show >"$T/managed" </dev/null || fail "$what: ended with $?"
	diff "$T/plain" "$T/managed" >&2 || fail "$what: by itself <, under zonedev >"
}

for how in session group timers death reaper names fifo signals odd; do
	same "$how" "$X" start "$how"
done
# (with no fewer processes or descriptors than zonedev needs)
space=9000000	# a sanitizer's own memory is larger than any limit of it
[ "$ZD_SANITIZER" = plain ] || space=unlimited
same "limits" bash -c "ulimit -S -c 0 -d $space -f 100000 -i 5000 -l 64 -m 100 -n 200 -q 9000 -s 4096 -t 50 -v $space"'; exec "$@"' bash
same "hard limits" bash -c 'ulimit -f 100000 -l 64 -n 300 -s 4096 -t 50; exec "$@"' bash

# --- an alarm set before exec ---
got=$(ended_by "$X" start alarm "${zd[@]}" sleep 10)
[ "$got" = -14 ] || fail "an alarm set before exec: ended with $got"

# --- limits of the program are not the supervisor's ---
limited() {
	local what=$1
	shift
	expect_status 0 bash -c "ulimit $what; exec \"\$@\"" bash "$ZONEDEV" run --quiet --ram 16M "$@" -- \
		"$H/run_mem" check 32
}
limited "-f 4096" --device "file:$T/dev,size=64M"
limited "-f 4096"
limited "-S -f 64" --device "file:$T/dev,size=64M"
expect_error "ulimit -f" bash -c 'ulimit -f 64; exec "$@"' bash "$ZONEDEV" run \
	--device "file:$T/dev,size=64M" --ram 16M -- true

# Two seconds for each process, of which none needs much; the supervisor works for all of
# them, until half of its time is used and another process has taken over, which is not the
# front's child any more.
expect_status 7 bash -c 'ulimit -t 2; exec "$@"' bash "$ZONEDEV" run --ram 8M \
	--report "$T/report.json" --device ram:size=256M -- sh -c "
	i=0
	while pgrep -P \$PPID -x zonedev >/dev/null; do
		dd if=/dev/zero of=/dev/null bs=24M count=1 2>/dev/null || exit 1
		i=\$((i + 1))
		[ \$i -lt 300 ] || exit 2
	done
	dd if=/dev/zero of=/dev/null bs=24M count=1 2>/dev/null && exit 7"
expect_report pages.out -gt 0
expect_report status.exit -eq 7
# and to kill the process that was started kills the program, under such a limit, too
: >"$T/out"
start bash -c 'ulimit -t 9; exec "$@"' bash "${zd[@]}" sh -c "echo \$\$ >'$T/out'; sleep 30 & wait"
wait_for 10 "[ -s '$T/out' ]" || fail "didn't start"
kill -KILL "$PID"
program=$(cat "$T/out")
wait_for 10 "gone $program" || fail "the program survives"

# --- the user's directory is not kept busy ---
mkdir "$T/dir"
(cd "$T/dir" && exec "${zd[@]}" sh -c "cd /; : >'$T/there'; read x <'$T/gate'") &
run=$!
on_exit "end $run"
mkfifo "$T/gate"
wait_for 10 "[ -e '$T/there' ]" || fail "didn't start"
for p in /proc/[0-9]*; do
	[ "$(readlink "$p/cwd" 2>/dev/null)" != "$T/dir" ] ||
		fail "$(cat "$p/comm") keeps the working directory"
done
echo >"$T/gate"
wait "$run" || fail "ended with $?"
