#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# zonedev run CMD behaves as CMD: exit status, signals that end it and reach it, standard
# input and output.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

zd=("$ZONEDEV" run --quiet --device ram:size=256M --ram 32M)

# --- how the program ends ---
for status in 0 1 2 77 255; do
	expect_status "$status" "${zd[@]}" -- sh -c "exit $status"
done
expect_status 127 "${zd[@]}" -- "$T/no-such-program"
expect_status 127 "${zd[@]}" -- no-such-program-anywhere
echo 'not a program' >"$T/text"
expect_status 126 "${zd[@]}" -- "$T/text"
expect_status 126 "${zd[@]}" -- "$T"
printf 'exit 9\n' >"$T/script"
chmod +x "$T/script"
expect_status 9 "${zd[@]}" -- "$T/script"
for sig in SEGV TERM KILL ABRT INT HUP; do
	got=$(ended_by "${zd[@]}" -- sh -c "kill -$sig \$\$")
	[ "$got" = -"$(kill -l "$sig")" ] || fail "ended by SIG$sig, zonedev by $got"
done
# one that misses is dumped by its own fault, on managed memory too
got=$(ended_by "${zd[@]}" -- python3 -c 'import ctypes; b = bytearray(99 << 20); ctypes.string_at(8)')
[ "$got" = -11 ] || fail "a segmentation fault ended zonedev with $got"

# a signal that libc has for itself, and doesn't raise (or ignores, as do its children)
for sig in 32 33; do
	own=$(ended_by python3 -c "import os; os.kill(os.getpid(), $sig)")
	got=$(ended_by "${zd[@]}" -- python3 -c "import os; os.kill(os.getpid(), $sig)")
	[ "$got" = "$own" ] || fail "signal $sig: ended with $own, zonedev with $got"
done

# --- signals to the program ---
for sig in TERM HUP INT QUIT USR1 USR2 ALRM WINCH; do
	rm -f "$T/ready" "$T/got"
	# (for processes in the background the shell ignores two of them)
	start env --default-signal=INT,QUIT "${zd[@]}" -- sh -c "
		trap 'echo $sig >>\"$T/got\"; exit 5' $sig
		: >'$T/ready'
		while :; do sleep 0.05; done"
	wait_for 10 "[ -e '$T/ready' ]" || fail "didn't start"
	# of the whole shell, not of its sleep only
	kill "-$sig" "$PID"
	status=0
	wait "$PID" || status=$?
	[ "$status" = 5 ] || fail "SIG$sig: the program's handler was to end it with 5, not $status"
	[ "$(cat "$T/got")" = "$sig" ] || fail "SIG$sig arrived as: $(cat "$T/got")"
done

# --- input and output ---
head -c 3000001 /dev/urandom >"$T/bin"
"${zd[@]}" -- cat <"$T/bin" | cmp "$T/bin" - >&2 || fail "binary data from a file"
# shellcheck disable=SC2002
cat "$T/bin" | "${zd[@]}" -- cat | cmp "$T/bin" - >&2 || fail "binary data through pipes"
"${zd[@]}" -- sh -c 'cat | tr a-z A-Z | cat' <"$T/bin" | cmp - <(tr a-z A-Z <"$T/bin") >&2 ||
	fail "a pipeline under it"
[ "$(printf 'no newline' | "${zd[@]}" -- cat)" = "no newline" ] || fail "end of input"
[ -z "$("${zd[@]}" -- cat </dev/null)" ] || fail "empty input"
expect_status 0 "${zd[@]}" -- sh -c 'echo out; echo err >&2'
[ "$OUT$ERR" = outerr ] || fail "stdout or stderr: $OUT $ERR"

# exec, again and again; the last one works in managed memory
expect_status 0 "${zd[@]}" -- sh -c "exec sh -c 'exec env FOO=bar $H/run_mem check 64'"
# every descriptor closed
expect_status 0 "${zd[@]}" -- "$H/run_mem" closed 64
