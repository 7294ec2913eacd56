#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A stopped process: the others of its tree go on, the process goes on when it is continued, and
# nothing is lost.  ^Z stops zonedev as well, so that the shell sees it.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 64)
[ "$size" -ge 32 ] || size=32
ram=$((size / 2))M

state() {
	sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status"
}

# --- a child ---
# A child that is stopped again and again, in the middle of whatever it does, holds no other
# process up.  Its pages stay in RAM, so the other's pages go out (RUN_MEM_RAM in run_mem.c waits
# for that).
mkfifo "$T/in"
start "$ZONEDEV" run --report "$T/report.json" --device ram:size=512M --ram "$ram" -- sh -c "
	$H/run_mem hold $((size / 4)) <'$T/in' >'$T/a' &
	a=\$!
	until [ -s '$T/a' ]; do sleep 0.02; done
	RUN_MEM_RAM=$((size / 2)) RUN_MEM_OTHER=\$a $H/run_mem check $size 2 || exit 1
	: >'$T/b'
	wait \$a"
zonedev=$PID
start bash -c 'while echo; do sleep 0.02; done' >"$T/in"
input=$PID
wait_for 20 "[ -s '$T/a' ] || gone $zonedev" || fail "didn't start"
read -r _ a _ <"$T/a"
for i in 1 2 3 4 5 6 7 8 9 10; do
	kill -STOP "$a"
	sleep "0.0$((i * 7 % 10))"
	kill -CONT "$a"
	sleep "0.0$((i * 3 % 10))"
done
[ ! -e "$T/b" ] || say "the other one was done before: not much is tested here"
kill -STOP "$a"
wait_for 30 "[ -e '$T/b' ] || gone $zonedev" || fail "stuck behind a stopped process"
[ "$(state "$a")" = T ] || fail "$a is not stopped: $(state "$a")"
lines=$(wc -l <"$T/a")
kill -CONT "$a"
wait_for 20 "[ \$(wc -l <'$T/a') -gt $((lines + 3)) ]" || fail "continued, and does nothing"
end "$input"
wait "$zonedev" || fail "ended with $?"
expect_in_report 'pages["out"] > 5000' 'pages["live"] == 0' 'pages["poisoned"] == 0' \
	"peak_ram < ram * $RAM_SLACK"

# --- CMD alone is stopped; long after a ^Z that it ignored ---
rm -f "$T/a"
exec 8<>"$T/in"
start "$ZONEDEV" run --quiet --device ram:size=512M --ram "$ram" -- \
	env --ignore-signal=TSTP "$H/run_mem" hold "$size" <"$T/in" >"$T/a" 8>&-
zonedev=$PID
wait_for 20 "[ -s '$T/a' ]" || fail "didn't start"
read -r _ a _ <"$T/a"
kill -TSTP "$zonedev"
sleep 1.2	# then it isn't why the program stops
kill -STOP "$a"
wait_for 5 "[ \$(state $a) = T ]" || fail "SIGSTOP didn't stop it"
sleep 0.1	# for zonedev to hear of it
kill -CONT "$a"
echo >&8
wait_for 20 "grep -q ok '$T/a'" || fail "continued alone, it hangs; zonedev: $(state "$zonedev")"
exec 8>&-
wait "$zonedev" || fail "stopped and continued alone: ended with $?"

# --- at a terminal: what a shell does, and what it sees ---
cat >"$T/shell.py" <<'END'
import fcntl, os, signal, sys, termios

signal.alarm(40)
master, slave = os.openpty()
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.setsid()
signal.alarm(30)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
screen = b""


def see(text):
    global screen
    while text not in screen:
        screen += os.read(master, 4096)
    line, _, screen = screen.partition(text)[2].partition(b"\n")
    return line.split()


def job():
    pid = os.fork()
    if pid:
        try:
            os.setpgid(pid, pid)
        except PermissionError:  # it has done so itself, and exec'ed
            pass
        return pid
    os.setpgid(0, 0)
    os.tcsetpgrp(slave, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    for fd in range(3):
        os.dup2(slave, fd)
    os.execv(sys.argv[1], sys.argv[1:])


def state(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(line.split()[1] for line in f if line.startswith("State:"))


def expect_stopped(how):
    status = os.waitpid(zonedev, os.WUNTRACED)[1]
    if not os.WIFSTOPPED(status):
        sys.exit(f"{how}: zonedev ended: {status:#x}")
    if state(program) != "T":
        sys.exit(f"{how}: the program is not stopped, but {state(program)}")


def expect_works():
    os.write(master, b"\n")
    see(b"ok")


zonedev = job()
program = int(see(b"ready")[0])
for _ in range(3):
    os.write(master, b"\x1a")
    expect_stopped("^Z")
    os.killpg(zonedev, signal.SIGCONT)
    expect_works()
os.kill(zonedev, signal.SIGTSTP)
expect_stopped("SIGTSTP")
os.kill(zonedev, signal.SIGCONT)
expect_works()
os.write(master, b"\x04")
status = os.waitpid(zonedev, os.WUNTRACED)[1]
if status:
    sys.exit(f"end of input: {status:#x}")

zonedev = job()
see(b"ready")
os.write(master, b"\x03")
status = os.waitpid(zonedev, os.WUNTRACED)[1]
if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGINT:
    sys.exit(f"^C: {status:#x}")
END
python3 "$T/shell.py" "$ZONEDEV" run --quiet --device ram:size=512M --ram "$ram" -- \
	"$H/run_mem" hold "$size" || fail "at a terminal: $?"
