#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `zonedev stat`: a run is found by zonedev's pid and by its program's, in the background and
# behind a front, too, and nothing of it is seen by the program or left behind.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=48
ram=16
mkfifo "$T/in"

# hold DEVICE-OPTIONS...: a run whose program has $size MiB, and waits; $RUN and $PROG are the pids
hold() {
	exec 8<>"$T/in"
	: >"$T/out"
	# not zd_run: a shell that waits for it would hold the fifo open
	start "$ZONEDEV" run --report "$T/report.json" "$@" --ram "${ram}M" -- \
		"$H/run_mem" hold "$size" <"$T/in" >"$T/out" 2>"$T/err" 8>&-
	RUN=$PID
	wait_for 30 "grep -q ready '$T/out'" || fail "the program doesn't start: $(cat "$T/err")"
	PROG=$(sed -n 's/^ready \([0-9]*\) .*/\1/p' "$T/out")
}

let_go() {
	exec 8>&-
	wait "$RUN" || fail "ended with $?: $(cat "$T/err")"
}

# stat [OPTION...] PID: in $T/report.json as expect_in_report reads it
stat_json() {
	"$ZONEDEV" stat --json "$@" >"$T/report.json" || fail "stat $*: $?"
}

hold --device ram:size=1G
wait_for 20 "$ZONEDEV stat --json $RUN >'$T/s' && [ \"\$(json '$T/s' devices.0.live)\" -gt 7000 ]" ||
	fail "nothing goes out"
for pid in "$RUN" "$PROG"; do
	stat_json "$pid"
	expect_in_report "pid == $RUN" "$PROG in pids" "ram == $ram << 20" \
		"resident < $ram * 1.3 * (1 << 20)" 'status == {"exit": None, "signal": None}' \
		'[d["name"] for d in devices] == ["ram"]' 'devices[0]["state"] == "used"' \
		'devices[0]["live"] == pages["live"] > 0' 'devices[0]["out"] == pages["out"] > 0'
done
expect_status 0 "$ZONEDEV" stat "$RUN"
grep -q "^RAM .* of $ram.0 MiB" <<<"$OUT" || fail "the table: $OUT"
grep -q '^ram  *used  *[1-9]' <<<"$OUT" || fail "the table: $OUT"

# The program has no descriptor of it.
for fd in "/proc/$PROG/fd"/*; do
	case $(readlink "$fd") in
	socket:*) fail "the program holds a socket" ;;
	esac
done

# The list has it; and another.
"$ZONEDEV" run --quiet --device ram:size=64M --ram 16M -- sleep 30 8>&- &
other=$!
on_exit "end $other"
wait_for 10 "$ZONEDEV stat $other >'$T/s' 2>&1" || fail "the second run isn't found: $(cat "$T/s")"
expect_status 0 "$ZONEDEV" stat
grep -q "^ *$RUN .*run_mem" <<<"$OUT" && grep -q "^ *$other .*sleep" <<<"$OUT" || fail "the list: $OUT"
expect_status 0 "$ZONEDEV" stat --json
python3 -c '
import json, sys
pids = [r["pid"] for r in json.load(sys.stdin)]
sys.exit(pids != sorted(pids) or not {int(p) for p in sys.argv[1:]} <= set(pids))' \
	"$RUN" "$other" <<<"$OUT" || fail "the list: $OUT"

# One that is stopped is told, and holds up no other.
kill -STOP "$other"
expect_status 1 "$ZONEDEV" stat
grep -q "did not answer" <<<"$ERR" && grep -q "^ *$RUN " <<<"$OUT" || fail "stopped: $OUT $ERR"
expect_status 0 "$ZONEDEV" stat "$RUN"
expect_status 1 "$ZONEDEV" stat "$other"
kill -CONT "$other"
end "$other"

# Again and again, until it ends: that is no error.
"$ZONEDEV" stat --json -i 0.1 "$PROG" >"$T/lines" 2>"$T/err.stat" 8>&- &
watch=$!
on_exit "end $watch"
wait_for 10 "[ \"\$(wc -l <'$T/lines')\" -ge 3 ]" || fail "-i: $(cat "$T/lines" "$T/err.stat")"
echo >&8
wait_for 30 "grep -q ok '$T/out'" || fail "the program: $(cat "$T/err")"
let_go
wait "$watch" || fail "-i ended with $?: $(cat "$T/err.stat")"
tail -n 1 "$T/lines" >"$T/s"
[ "$(json "$T/s" version)" = 1 ] || fail "-i: $(cat "$T/s")"
expect_error "no \`zonedev run\`" "$ZONEDEV" stat "$RUN"
! grep -q "@zonedev-run.$RUN\." /proc/net/unix || fail "its socket is still there"

# What isn't a run, and bad usage
expect_error "no \`zonedev run\`" "$ZONEDEV" stat 1
for pid in 0 -3 x 12x 99999999999999999999; do
	expect_status 2 "$ZONEDEV" stat -- "$pid"
done
expect_error "one PID" "$ZONEDEV" stat 1 2
expect_error "--interval x" "$ZONEDEV" stat -i x
expect_error "--interval 0" "$ZONEDEV" stat -i 0
expect_error "needs a value" "$ZONEDEV" stat -i
expect_error "--frob" "$ZONEDEV" stat --frob

# In the background, under the copy's pid and the daemon's
export GO=$T/go
status=0
pid=$("$ZONEDEV" run --device ram:size=1G --ram 32M -- "$H/run_fork" daemon 64 2>"$T/err") || status=$?
[ "$status" = 7 ] || fail "CMD ended with $status: $(cat "$T/err")"
server=$(sed -n 's/.*pid \([0-9]*\) keeps serving.*/\1/p' "$T/err")
on_exit "gone $server || kill -KILL $server"
for p in "$pid" "$server"; do
	stat_json "$p"
	expect_in_report "pid == $server" "$pid in pids" 'status["exit"] == 7'
done
touch "$GO"
wait_for 30 "gone $server" || fail "the supervisor doesn't end with the daemon"

# Behind a front the run has two pids: the one that was started, and the server's.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	start setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource \
		bash -c 'ulimit -t 100; exec "$@"' bash \
		"$ZONEDEV" run --quiet --device ram:size=64M --ram 16M -- sleep 30
	wait_for 10 "$ZONEDEV stat --json $PID >'$T/report.json' 2>&1" || fail "no stat behind a front"
	expect_in_report "pid != $PID"
	server=$(zd_report pid)
	expect_status 0 "$ZONEDEV" stat "$server"
	end "$PID"
fi

# Another user's is neither shown nor told of.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	hold --device ram:size=1G
	cp "$ZONEDEV" "$T/zonedev"
	chmod 755 "$T"
	as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
	if LD_LIBRARY_PATH=$ZD_BUILD/lib $as_nobody "$T/zonedev" --version >/dev/null 2>&1; then
		# shellcheck disable=SC2086
		expect_status 2 env LD_LIBRARY_PATH="$ZD_BUILD/lib" $as_nobody "$T/zonedev" stat "$RUN"
		# shellcheck disable=SC2086
		expect_status 0 env LD_LIBRARY_PATH="$ZD_BUILD/lib" $as_nobody "$T/zonedev" stat
		! grep -q "$RUN" <<<"$OUT" || fail "nobody sees root's run: $OUT"
	fi
	let_go
fi
