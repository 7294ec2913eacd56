#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A process that CMD leaves behind lives on with its memory, CMD's status is known at
# once, and the supervisor ends when the last such process does.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 96)
export GO=$T/go
for device in ${TEST_DEVICE:-ram:size=1G "file:$T/dev,size=512M"}; do
	rm -f "$GO"
	began=$SECONDS
	status=0
	pid=$("$ZONEDEV" run --device "$device" --ram "$((size / 3))M" -- \
		"$H/run_fork" daemon "$size" 2>"$T/err") || status=$?
	[ "$status" = 7 ] || fail "CMD ended with $status: $(cat "$T/err")"
	[ $((SECONDS - began)) -le 10 ] || fail "its status came after $((SECONDS - began)) s"
	gone "$pid" && fail "the daemon is gone"
	supervisor=$(sed -n 's/.*pid \([0-9]*\) keeps serving.*/\1/p' "$T/err")
	[ -n "$supervisor" ] || fail "no word on who serves the daemon: $(cat "$T/err")"
	on_exit "gone $supervisor || kill -KILL $supervisor"
	gone "$supervisor" && fail "nobody serves the daemon"
	for fd in 0 1 2; do
		there=$(readlink "/proc/$supervisor/fd/$fd") || continue
		[ "$there" = /dev/null ] || fail "in the background it holds $there"
	done

	touch "$GO"
	wait_for 30 "gone $pid" || fail "the daemon doesn't end"
	grep -qx ok <<<"$(tail -n 1 "$T/err")" || fail "the daemon: $(tail -n 5 "$T/err")"
	wait_for 30 "gone $supervisor" || fail "the supervisor doesn't end with the daemon"
done

# The report is there at once, and once more when the daemon has ended
rm -f "$GO"
pid=$("$ZONEDEV" run --device ram:size=1G --ram "$((size / 3))M" --report "$T/report.json" -- \
	"$H/run_fork" daemon "$size" 2>"$T/err") || true
expect_report status.exit -eq 7
before=$(zd_report pages.home)
cp "$T/report.json" "$T/first.json"
touch "$GO"
wait_for 30 "gone $pid" || fail "the daemon doesn't end"
wait_for 20 "! cmp -s '$T/report.json' '$T/first.json'" || fail "no report at the daemon's end"
wait_for 10 "zd_report pages.live >/dev/null 2>&1" || fail "half a report"
expect_report pages.home -gt "$before"
expect_report pages.live -eq 0
expect_report status.exit -eq 7

# kill -9 of that supervisor is kill -9 of the daemon
rm -f "$GO"
pid=$("$ZONEDEV" run --device ram:size=1G --ram "$((size / 3))M" -- \
	"$H/run_fork" daemon "$size" 2>"$T/err") || true
supervisor=$(sed -n 's/.*pid \([0-9]*\) keeps serving.*/\1/p' "$T/err")
kill -KILL "$supervisor"
wait_for 5 "gone $pid" || fail "the daemon lives without its supervisor"

# Under a limit of CPU time the server is a process of its own; it ends well with the daemon.
python3 - "$ZONEDEV" <<'PY' || fail "a server under a limit of CPU time"
import ctypes, os, resource, signal, sys

PR_SET_CHILD_SUBREAPER, PR_CAPBSET_DROP, CAP_SYS_RESOURCE = 36, 24, 24
libc = ctypes.CDLL(None)
libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
if not os.fork():
    resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
    libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)
    os.execv(sys.argv[1], [sys.argv[1], "run", "--device", "ram:size=64M", "--ram", "64M", "--",
                           "sh", "-c", "setsid sleep 1 & exit 0"])
signal.alarm(30)
ended = []
while True:
    try:
        ended.append(os.wait())
    except ChildProcessError:
        break
bad = [e for e in ended if e[1] not in (0, signal.SIGKILL)]	# guards are killed
if bad or len(ended) < 3:	# the front, the server, the daemon
    sys.exit(f"ended: {ended}")
PY
