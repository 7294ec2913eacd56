#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The program is killed while its pages are on their way to the device, which takes its
# time: a file on a file system that is frozen then.  zonedev ends when that is done.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run
requires mkfs.ext4 fsfreeze

truncate -s 96M "$T/image"
mkfs.ext4 -q -F "$T/image" >/dev/null 2>&1 || fail "mkfs.ext4"
mkdir "$T/mnt"
mount -o loop "$T/image" "$T/mnt" 2>/dev/null || skip "may not mount a file system of its own"
on_exit "umount '$T/mnt'"

: >"$T/mnt/dev"
start "$ZONEDEV" run --report "$T/report.json" --device "file:$T/mnt/dev,size=64M" --ram 8M -- \
	"$H/run_mem" check 32 10000
wait_for 20 "pgrep -P $PID -x run_mem >'$T/pid'" || fail "didn't start"
pid=$(cat "$T/pid")
wait_for 20 "[ \$(stat -c %b '$T/mnt/dev') -gt 2048 ]" || fail "nothing goes to the device"

on_exit "fsfreeze -u '$T/mnt' 2>/dev/null"
fsfreeze -f "$T/mnt"
# an io_uring worker of the kernel waits for the file system
in_flight() {
	grep -ls '^iou-wrk' /proc/"$PID"/task/*/comm | sed 's/comm$/status/' | xargs -r grep -qs '^State:.*D'
}
wait_for 20 in_flight || fail "nothing is in flight"
kill -KILL "$pid"
wait_for 20 "gone $pid" || fail "the program can't be killed"
fsfreeze -u "$T/mnt"
wait_for 20 "gone $PID" || fail "zonedev waits for nothing"
status=0
wait "$PID" || status=$?
[ "$status" = 137 ] || fail "CMD was killed, zonedev ended with $status"
expect_in_report 'status["signal"] == 9' 'pages["out"] > 500' 'pages["live"] == 0'
