#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The program sees the descriptors that it would see without zonedev, and so do the processes
# at the other ends of its pipes.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

zd=("$ZONEDEV" run --quiet --device "file:$T/dev,size=64M" --ram 32M)
show='import os
for fd in range(256):
    try:
        print(fd, os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass'

# same WHAT: the output is the same by itself (>plain) and under zonedev (>managed)
same() {
	diff "$T/plain" "$T/managed" >&2 || fail "$1: by itself <, under zonedev >"
}

python3 -c "$show" </dev/null 2>/dev/null >"$T/o" && cp "$T/o" "$T/plain"
"${zd[@]}" -- python3 -c "$show" </dev/null 2>/dev/null >"$T/o" && cp "$T/o" "$T/managed"
same "open descriptors"
exec 7<"$T/plain"
python3 -c "$show" </dev/null 2>/dev/null >"$T/o" && cp "$T/o" "$T/plain2"
"${zd[@]}" -- python3 -c "$show" </dev/null 2>/dev/null >"$T/o" && cp "$T/o" "$T/managed"
exec 7<&-
mv "$T/plain2" "$T/plain"
same "an inherited descriptor"

# Closed descriptors stay closed, and none of zonedev's takes their number: a message must not
# be written to a file that happens to be descriptor 2.
probe='import os, sys
out = open(sys.argv[1], "w")
for fd in range(3):
    try:
        print(fd, os.fstat(fd).st_mode, file=out)
    except OSError:
        print(fd, "closed", file=out)'
python=$(python3 -c 'import sys; print(sys.executable)')
for closed in 0 1 2; do
	for zonedev in plain managed; do
		cmd=("$python" -S -c "$probe" "$T/$zonedev")
		[ "$zonedev" = plain ] || cmd=("${zd[@]}" -- "${cmd[@]}")
		case $closed in
		0) "${cmd[@]}" <&- >"$T/o" 2>"$T/e" ;;
		1) "${cmd[@]}" </dev/null >&- 2>"$T/e" ;;
		2) "${cmd[@]}" </dev/null >"$T/o" 2>&- ;;
		esac
	done
	same "descriptor $closed closed"
done
mkfifo "$T/gate"
exec 8<>"$T/gate"
start sh -c 'exec "$@" <&- >&- 2>&-' sh \
	"${zd[@]}" -- sh -c "echo \$PPID >'$T/ppid'; read x <'$T/gate'"
wait_for 10 "[ -s '$T/ppid' ]" || fail "didn't start with everything closed"
for fd in 0 1 2; do
	there=$(readlink "/proc/$(cat "$T/ppid")/fd/$fd") || continue
	[ "$there" = /dev/null ] || fail "zonedev's descriptor $fd was closed, and is $there now"
done
echo go >&8
wait "$PID" || fail "ended with $?"

# A reader sees the end when the program closes its output, a writer gets SIGPIPE
# when it closes its input; not when zonedev ends.
coproc READER { exec "${zd[@]}" -- sh -c "echo said; exec >&-; read x <'$T/gate'; exit 4" 2>/dev/null; }
reader=$READER_PID
got=$(timeout 10 cat <&"${READER[0]}") || fail "no end of file while the program lives"
[ "$got" = said ] || fail "read: $got"
gone "$reader" && fail "the program was to live on"
echo go >&8
status=0
wait "$reader" || status=$?
[ "$status" = 4 ] || fail "ended with $status"
mkfifo "$T/in"
start bash -c "timeout 20 yes >'$T/in' 2>/dev/null; echo \$? >'$T/yes'"
start "${zd[@]}" -- sh -c "exec <&-; read x <'$T/gate'" <"$T/in"
wait_for 10 "[ -s '$T/yes' ]" || fail "whoever writes to the program's input never hears that it is closed"
echo go >&8
wait "$PID" || fail "ended with $?"
[ "$(cat "$T/yes")" = 141 ] || fail "yes ended with $(cat "$T/yes")"

# Two variables more, and nothing else.
env | sort | grep -v '^_=' >"$T/plain"
"${zd[@]}" -- env | sort | grep -v -e '^_=' -e '^LD_PRELOAD=' -e '^ZONEDEV_SOCKET=' >"$T/managed"
same "environment"
"${zd[@]}" --no-children -- sh -c env | sort | grep -v '^_=' >"$T/managed"
same "environment of a child, with --no-children"
