#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# At a terminal: a shell with job control sees zonedev stop and go on as it would see the
# program, and ^C reaches the program once.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

cat >"$T/terminal.py" <<'END'
import os, pty, re, select, sys, time

zonedev, helper = sys.argv[1:]
pid, fd = pty.fork()
if not pid:
    os.environ["PS1"] = "$ "
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen = ""

def expect(what, seconds=20):
    global seen
    end = time.monotonic() + seconds
    while True:
        m = re.search(what, seen)
        if m:
            seen = seen[m.end():]
            return m
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit(f"no {what!r} in {seen!r}")
        try:
            seen += os.read(fd, 4096).decode(errors="replace")
        except OSError:
            sys.exit(f"ended, and no {what!r} in {seen!r}")

def send(text):
    os.write(fd, text.encode())

# not before the prompt is there, or the program might read the line
def status(want):
    expect(r"\$ $")
    send("echo st=$?\n")
    expect(rf"st={want}\r")

run = f"{zonedev} run --quiet --device ram:size=256M --ram 16M -- "
send(run + f"{helper} hold 32\n")
expect(r"ready \d+ 0x")
send("\n")
expect("ok")
for turn in range(2):
    send("\x1a")
    expect("Stopped")
    expect(r"\$ $")
    send("jobs\n")
    expect("Stopped.*run_mem")
    expect(r"\$ $")
    send("fg\n")
    expect("run_mem hold")
    send("\n")
    expect("ok")
send("\x04")
status(0)

# each ^C is one SIGINT, not one more from zonedev
send(run + """python3 -c '
import os, signal, time
r, w = os.pipe()
os.set_blocking(w, False)
signal.signal(signal.SIGINT, lambda *_: None)
signal.set_wakeup_fd(w)		# a byte for each that is delivered
print("rea" + "dy", flush=True)
for i in range(1, 9):
    os.set_blocking(r, True)
    os.read(r, 1)
    time.sleep(0.1)
    os.set_blocking(r, False)
    try:
        print("turn", i, "more:", len(os.read(r, 99)), flush=True)
    except BlockingIOError:
        print("turn", i, "once", flush=True)'\n""")
expect(r"ready\r")
for i in range(1, 9):
    send("\x03")
    expect(rf"turn {i} once\r")

send(run + f"{helper} hold 8\n")
expect(r"ready \d+ 0x")
send("\x03")
status(130)
send("exit\n")
END
python3 "$T/terminal.py" "$ZONEDEV" "$H/run_mem" || fail "at a terminal"
