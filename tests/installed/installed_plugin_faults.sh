#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A plugin with a fault in each of its callbacks.  The program has its data or gets SIGBUS, never
# zeros; nothing waits without a line that says for what; and the command says one line of each
# fault.  The same in a program that uses the library.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires_run

ZONEDEV=$ROOT/bin/zonedev
here=$(realpath "$(dirname "$0")")
# shellcheck disable=SC2046 # flags are words
gcc -Wall -Wextra -Werror -shared -fPIC -o "$T/faulty.so" "$here/plugin_faulty.c" $(pc --cflags) ||
	fail "plugin_faulty.c does not compile"
# shellcheck disable=SC2046
gcc -Wall -Wextra -Werror -o "$T/prog" "$here/plugin_prog.c" $(pc --cflags --libs)

# in_run FAULT STATUS LINE [COMMAND...]: under zonedev run; $T/FAULT has what it said
in_run() {
	local fault=$1 want=$2 line=$3
	shift 3
	got=0
	timeout -s KILL 60 "$ZONEDEV" run --report "$T/$fault.json" \
		--device "plugin:$T/faulty.so,size=64M,fault=$fault" --ram 8M -- \
		"$@" "$H/run_mem" check 24 >"$T/$fault.out" 2>"$T/$fault" || got=$?
	[ "$got" = "$want" ] || fail "$fault: ended with $got: $(cat "$T/$fault")"
	if [ -z "$line" ]; then
		[ ! -s "$T/$fault" ] || fail "$fault: $(cat "$T/$fault")"
	else
		[ "$(grep -c "^zonedev: .*$line" "$T/$fault")" = 1 ] ||
			fail "$fault: not one line of '$line': $(cat "$T/$fault")"
	fi
}

# of_report FAULT EXPRESSION...
of_report() {
	cp "$T/$1.json" "$T/report.json"
	expect_in_report "${@:2}"
}

# What takes its time, all at once.  Where reads aren't answered a fault holds the program, which
# is ended by a signal; where writes aren't, the program has its pages from the batch's buffer.
(in_run home-never 124 "faulty: hasn't answered for 10 s" timeout 2) &
home_never=$!
(in_run out-never 0 "faulty: hasn't answered for 10 s") &
out_never=$!
(in_run destroy-blocks 0 "faulty: its driver hasn't closed the device for 10 s") &
destroy=$!
on_exit "kill $home_never $out_never $destroy 2>/dev/null"

in_run none 0 ""
of_report none 'pages["out"] > 1000' 'pages["live"] == 0'
in_run create-error 2 "faulty device: No such device"
in_run create-nothing 2 "faulty: a mistake in its driver: it makes no device that is registered"

in_run alloc-error 0 "faulty: gives no room: Input/output error"
for fault in alloc-range="pages that the device doesn't have" alloc-same="pages that are in use" \
	alloc-live="pages that are in use" alloc-more="more pages than were asked for"; do
	in_run "${fault%%=*}" 0 "faulty: a mistake in its driver: alloc_pages gives ${fault#*=}; no page goes to it any more"
	[ "$(wc -l <"$T/${fault%%=*}")" = 1 ] || fail "$(cat "$T/${fault%%=*}")"
	of_report "${fault%%=*}" 'pages["poisoned"] == 0' 'pages["live"] == 0'
done

in_run submit-error 0 "faulty: can't write: Input/output error; its pages stay in memory"
of_report submit-error 'pages["out"] == 0' 'refused["device"] > 0'
in_run submit-forgotten 0 "faulty: a mistake in its driver: it completes a batch and leaves pages without an answer"
of_report submit-forgotten 'pages["out"] == 0' 'pages["poisoned"] == 0'
in_run submit-twice 0 "faulty: a mistake in its driver: it completes a batch twice"
of_report submit-twice 'pages["poisoned"] == 0' 'pages["live"] == 0'
in_run home-error 135 "faulty: can't read page .*: Input/output error"
in_run home-forgotten 135 "faulty: a mistake in its driver: it completes a batch and leaves pages without an answer"
in_run free-misses 0 "faulty is full: pages stay in memory"
of_report free-misses 'pages["poisoned"] == 0' 'pages["live"] == 0'

# --- a program that uses the library ---

# in_prog FAULT STATUS LINE
in_prog() {
	got=$(ended_by timeout -s KILL 60 "$T/prog" "plugin:$T/faulty.so,size=64M,fault=$1")
	[ "$got" = "$2" ] || fail "$1: the program ended with $got: $(cat "$T/.err")"
	grep -q "$3" "$T/.err" || fail "$1: no '$3': $(cat "$T/.err")"
}

in_prog none 0 "moved 1024 of 1024 pages, 0"
in_prog create-error 1 "faulty device: No such device"
in_prog create-nothing 1 "it makes no device that is registered"
for fault in alloc-range alloc-same alloc-more; do
	in_prog "$fault" 4 "a mistake in its driver: alloc_pages gives "
done
in_prog alloc-error 4 "moved 0 of 1024 pages, -5"
in_prog submit-error 4 "moved 0 of 1024"
in_prog submit-forgotten 4 "leaves pages without an answer"
in_prog submit-twice 0 "completes a batch twice"
in_prog free-misses 0 "moved 1024 of 1024"

for job in "$home_never" "$out_never" "$destroy"; do
	wait "$job" || exit 1
done
