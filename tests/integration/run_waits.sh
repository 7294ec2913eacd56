#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# No wait is for ever: zonedev's for the end of a program when SIGCHLD was ignored, or for a
# stopped agent; a program's for pages that drive each other out, or that are with an agent
# that can't answer; a reader's for the end of a pipe that zonedev was given; a fork's for a
# descriptor.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

# bounded COMMAND...: the command ends in time
bounded() {
	timeout -s KILL 60 "$@"
}

# --- started with signals ignored, which are the program's to be ignored ---
cat >"$T/ignoring.py" <<'END'
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
END
want=$(python3 "$T/ignoring.py" "$(command -v grep)" SigIgn /proc/self/status)
got=$(bounded python3 "$T/ignoring.py" "$ZONEDEV" run --quiet --device ram:size=64M -- \
	grep SigIgn /proc/self/status) || fail "SIGCHLD is ignored: ended with $?"
[ "$got" = "$want" ] || fail "the program has $got, without zonedev $want"

# --- more memory than the limit can't go out ---
bounded "$ZONEDEV" run --quiet --device ram:size=512M --ram 16M -- "$H/run_waits" over 24 ||
	fail "over the limit: ended with $?"

# --- the agent can't answer ---
bounded "$ZONEDEV" run --quiet --device ram:size=512M --ram 16M -- "$H/run_waits" filter 32 ||
	fail "sendto() is forbidden: ended with $?"

# --- CMD ends, and the process that it leaves behind is stopped while its agent has a batch ---
status=0
bounded "$ZONEDEV" run --device ram:size=512M --ram 16M -- "$H/run_waits" orphan 24 \
	>"$T/out" 2>"$T/err" || status=$?
orphan=$(cat "$T/out")
[ "$status" = 6 ] || fail "a stopped process is left behind: ended with $status: $(cat "$T/err")"
supervisor=$(sed -n 's/.*pid \([0-9]*\) keeps serving.*/\1/p' "$T/err")
on_exit "gone '$orphan' || kill -KILL '$orphan'"
gone "$orphan" && fail "it is gone"
kill -KILL "$orphan"
wait_for 20 "gone $supervisor" || fail "its supervisor stays"

# --- a descriptor that only the program was meant to have ---
mkfifo "$T/fifo" "$T/in"
exec 8<>"$T/in"
start bash -c 'exec 3>"$1"; shift; exec "$@" 8>&-' bash "$T/fifo" \
	"$ZONEDEV" run --quiet --device ram:size=64M -- bash -c 'exec 3>&-; read -r _' <"$T/in"
bounded cat "$T/fifo" || fail "zonedev holds a pipe of its program"
gone "$PID" && fail "it was held until the end"
echo >&8
wait "$PID" || fail "ended with $?"

# --- more children than there are descriptors to manage them with ---
# The children live until zonedev has said that there are too many: an agent greets a moment
# after its program's start.
cat >"$T/children.py" <<'END'
import os
import sys
r, w = os.pipe()
children = []
for _ in range(32):
    pid = os.fork()
    if not pid:
        os._exit(os.read(r, 1) != b"x")
    children.append(pid)
with open(sys.argv[1]) as go:
    go.readline()
os.write(w, b"x" * 32)
for pid in children:
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(1)
END
mkfifo "$T/go"
exec 9<>"$T/go"
start bash -c 'ulimit -n 200; exec "$@" 8>&- 9>&-' bash "$ZONEDEV" run --device ram:size=256M --ram 32M -- \
	python3 "$T/children.py" "$T/go" 2>"$T/err"
wait_for 20 "grep -q 'a forked child keeps its memory: Too many open files' '$T/err'" ||
	fail "no word on it: $(cat "$T/err")"
echo >&9
wait "$PID" || fail "many children: ended with $?: $(tail -n 3 "$T/err")"
