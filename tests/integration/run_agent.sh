#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program doesn't notice the agent beside it: not among its threads and children, not
# when it ends, filters its system calls, changes namespaces, closes files, or has no
# process to spare.  The agent ends with the program or its exec; when it is killed only the
# supervisor notices.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run
P=$H/run_agent

for mode in alone first ends filters files busy spaces places; do
	status=0
	native=$(timeout 20 "$P" "$mode" "$T/scratch" 2>&1) || status=$?
	[ "$status" = 77 ] && say "$mode: can't be tried here" && continue
	[ "$native" = ok ] || fail "$mode, without zonedev: ended with $status: $native"
	got=$(timeout 40 "$ZONEDEV" run --quiet --device ram:size=64M --ram 64M -- \
		"$P" "$mode" "$T/scratch" 2>"$T/err") || fail "$mode: ended with $?: $got $(cat "$T/err")"
	[ "$got" = ok ] || fail "$mode: $got"
done

mkfifo "$T/in"
exec 8<>"$T/in"

# run_waiting MODE ARG: start a program that waits for a line on fd 8; sets $AGENT, its agent's
# id
run_waiting() {
	: >"$T/out"
	start "$ZONEDEV" run --report "$T/report.json" --device ram:size=1G --ram 16M -- "$P" "$@" \
		<"$T/in" >"$T/out" 2>"$T/err" 8>&-
	wait_for 30 "grep -q ready '$T/out'" || fail "$1: $(cat "$T/out" "$T/err")"
	AGENT=$(pgrep -P "$PID" -x zonedev) || fail "$1: it has no agent"
}

# The agent may do hardly anything, and holds no descriptor of the program.
run_waiting memory 40
for line in 'Seccomp:[[:space:]]*2' 'NoNewPrivs:[[:space:]]*1' 'CapEff:[[:space:]]*0*20\?' \
	'Threads:[[:space:]]*1'; do
	grep -qx "$line" "/proc/$AGENT/status" || fail "the agent: no $line"
done
[ "$(readlink "/proc/$AGENT/cwd")" = / ] || fail "the agent's directory"
for fd in /proc/"$AGENT"/fd/*; do
	case $(readlink "$fd") in
	socket:* | anon_inode:*userfaultfd* | anon_inode:*pidfd* | pidfd:*) ;;
	*) fail "the agent has $(readlink "$fd")" ;;
	esac
done

# The agent is killed: no page goes out any more, but all that are out come home.
kill -KILL "$AGENT"
wait_for 10 "gone $AGENT" || fail "the agent can't be killed"
echo >&8
status=0
wait "$PID" || status=$?
[ "$status" = 0 ] || fail "without its agent: ended with $status: $(cat "$T/out" "$T/err")"
expect_in_report 'pages["out"] > 0' 'pages["home"] > 0' 'pages["poisoned"] == 0'

# The program exec's, and is not managed any more.
for mode in exec thread-exec; do
	run_waiting "$mode"
	echo >&8
	wait_for 10 "grep -q \"exec'ed\" '$T/out'" || fail "$mode: $(cat "$T/out" "$T/err")"
	wait_for 10 "gone $AGENT" || fail "$mode: the agent stays, and the old memory with it"
	echo >&8
	wait "$PID" || fail "$mode: ended with $?"
done

# The program is killed.
run_waiting memory 40
kill -KILL "$(pgrep -P "$PID" -x run_agent)"
wait "$PID" || true
wait_for 10 "gone $AGENT" || fail "the agent outlives the program"
exec 8>&-
