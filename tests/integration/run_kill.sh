#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# kill -9 of the supervisor kills the whole tree, and no process reads a zero before; kill -9
# of a program frees its pages on the device.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 64)
[ "$size" -ge 32 ] || size=32

# A parent, its child, a child by a bare clone(), and a program that sh started.
for round in 1 2 3; do
	: >"$T/out"
	start "$ZONEDEV" run --quiet --device ram:size=512M --ram 16M -- \
		sh -c "$H/run_fork linger $size & $H/run_fork linger 16 & wait" >"$T/out" 2>&1
	wait_for 30 "[ \"\$(grep -c ready '$T/out')\" = 6 ]" || fail "only: $(cat "$T/out")"
	mapfile -t pids < <(sed -n 's/ready //p' "$T/out")
	sleep 0.$((round * 3))
	kill -KILL "$PID"
	for pid in "${pids[@]}"; do
		wait_for 3 "gone $pid" || fail "$pid survives its supervisor: $(cat "$T/out")"
	done
	wait "$PID" || true
	! grep wrong "$T/out" >&2 || fail "read something else than was written"
done

# A program whose main thread has ended, and shows no memory.
start "$ZONEDEV" run --quiet --device ram:size=512M --ram 16M -- \
	sh -c "$H/run_mem leader 256 & echo \$! >'$T/leader'; wait" >"$T/out" 2>&1
wait_for 10 "[ -s '$T/leader' ]" || fail "didn't start"
pid=$(cat "$T/leader")
wait_for 10 "grep -q '^State:.Z' /proc/$pid/status && [ \"\$(ls /proc/$pid/task | wc -l)\" -gt 1 ]" ||
	fail "its main thread has not ended alone"
kill -KILL "$PID"
wait_for 3 "[ \"\$(ls /proc/$pid/task 2>/dev/null | wc -l)\" -le 1 ]" ||
	fail "a process without a main thread survives the supervisor"
wait "$PID" || true

# kill -9 of CMD ends zonedev by the same signal
mkfifo "$T/in"
exec 8<>"$T/in"
: >"$T/out"
start "$ZONEDEV" run --report "$T/report.json" --device ram:size=512M --ram 16M -- \
	"$H/run_mem" hold "$size" <"$T/in" >"$T/out"
wait_for 20 "grep -q ready '$T/out'" || fail "didn't start"
read -r _ pid _ <"$T/out"
kill -KILL "$pid"
status=0
wait "$PID" || status=$?
[ "$status" = 137 ] || fail "CMD was killed, zonedev ended with $status"
expect_report status.signal -eq 9
expect_report pages.out -gt 0
expect_report pages.live -eq 0

# The device has room for one of the programs at a time.
start "$ZONEDEV" run --report "$T/report.json" --device "ram:size=${size}M" --ram 16M -- sh -c "
	$H/run_mem hold $size <'$T/in' >'$T/victim' &
	victim=\$!
	until [ -s '$T/victim' ]; do sleep 0.05; done
	kill -KILL \$victim
	wait \$victim
	$H/run_mem check $size" 2>"$T/err"
wait "$PID" || fail "ended with $?: $(cat "$T/err")"
grep -q "is full" "$T/err" && fail "a killed process's pages stay on the device"
expect_report pages.freed -gt $(((size - 16 - 8) * 256))
expect_report pages.live -eq 0
