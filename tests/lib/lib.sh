# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For integration tests in bash:
#
#	. "$(dirname "$0")/../lib/lib.sh"
#
# gives set -eu, a private directory $T (removed at the end), and the functions
# below.  Processes that a test starts with `start` are ended, and commands that it gives
# to `on_exit` run, when the test ends, however it ends, the last one first.
set -eu -o pipefail

: "${ZONEDEV:?run by tests/run or meson test}"
: "${ZD_SANITIZER:=plain}"
export LC_ALL=C

T=$(mktemp -d "${TMPDIR:-/var/tmp}/zd-test.XXXXXX")
_zd_actions=()

_zd_cleanup() {
	local status=$? i
	trap - EXIT
	set +e
	for ((i = ${#_zd_actions[@]} - 1; i >= 0; i--)); do
		eval "${_zd_actions[i]}"
	done
	rm -rf "$T"
	exit "$status"
}
trap _zd_cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# on_exit COMMAND: run COMMAND at the end, the last one first
on_exit() {
	_zd_actions+=("$1")
}

say() {
	echo "${0##*/}: $*" >&2
}

fail() {
	# The line of the test itself, however deep in functions of tests/lib
	echo "${0##*/}:${BASH_LINENO[-2]}: FAILED: $*" >&2
	exit 1
}

skip() {
	echo "SKIP: $*"
	exit 77
}

# requires TOOL...: skip where one of them is missing
requires() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "needs $tool"
	done
}

# requires_run: skip where zonedev run can't work, with the reason that zonedev info gives
requires_run() {
	local verdict
	verdict=$("$ZONEDEV" info 2>&1) || skip "zonedev run can't work here: ${verdict##*$'\n'}"
}

alive() {
	kill -0 "$1" 2>/dev/null
}

# end PID: TERM, then KILL if the process doesn't end; for a child of this shell.  A number
# that isn't a child's (any more) may be another process's by now, and is left alone.
end() {
	grep -qsx "PPid:[[:space:]]*$$" "/proc/$1/status" || return 0
	kill "$1" 2>/dev/null
	wait_for 5 "! alive $1" || kill -KILL "$1" 2>/dev/null
	wait "$1" 2>/dev/null || true
}

# start COMMAND...: in the background, ended with the test; $PID is its id
start() {
	# Without this, bash would give the command /dev/null for its input.
	"$@" <&0 &
	PID=$!
	on_exit "end $PID"
}

# wait_for SECONDS CONDITION: wait until the shell condition holds; 1 if it doesn't in time
wait_for() {
	local until=$((SECONDS + $1 + 1))
	while ! eval "$2"; do
		[ "$SECONDS" -lt "$until" ] || return 1
		sleep 0.05
	done
}

# expect_status STATUS COMMAND...: output in $OUT (stdout) and $ERR (stderr)
expect_status() {
	local want=$1 got=0
	shift
	"$@" >"$T/.out" 2>"$T/.err" </dev/null || got=$?
	OUT=$(tr -d '\0' <"$T/.out")
	ERR=$(tr -d '\0' <"$T/.err")
	[ "$got" = "$want" ] || fail "$* exited with $got, not $want: $OUT $ERR"
}

# expect_error TEXT COMMAND...: exit status 2, nothing on stdout, and one line on
# stderr that begins with "zonedev: " and has TEXT in it
expect_error() {
	local text=$1
	shift
	expect_status 2 "$@"
	[ -z "$OUT" ] || fail "$*: wrote to stdout: $OUT"
	case $ERR in
	*$'\n'*) fail "$*: more than one line: $ERR" ;;
	"zonedev: "*"$text"*) ;;
	*) fail "$*: no '$text' in: $ERR" ;;
	esac
}

# json FILE KEYS: one value: json report.json pages.out
json() {
	python3 -c '
import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2].split("."):
    value = value[int(key)] if isinstance(value, list) else value[key]
print(value if isinstance(value, str) else json.dumps(value))
' "$@"
}

# zd_run [ZONEDEV-RUN-OPTION...] -- COMMAND...: zonedev run with a report, which zd_report
# reads.  The exit status is the command's.
zd_run() {
	"$ZONEDEV" run --report "$T/report.json" "$@"
}

# zd_report KEY: a value of the last zd_run's report
zd_report() {
	json "$T/report.json" "$1"
}

# expect_report KEY OP NUMBER: expect_report pages.out -gt 0
expect_report() {
	local value
	value=$(zd_report "$1")
	test "$value" "$2" "$3" || fail "report: $1 is $value, not $2 $3"
}

# expect_in_report EXPRESSION...: what must hold of the last zd_run's report, in
# Python; its keys are names: 'pages["out"] > 0'
expect_in_report() {
	python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
wrong = [e for e in sys.argv[2:] if not eval(e, {}, report)]
sys.exit(f"{wrong} in {json.dumps(report)}" if wrong else 0)
' "$T/report.json" "$@" || fail "the report"
}

# For tests of zonedev run: the C programs beside them
H=${ZD_BUILD:-}/tests/integration

# scaled NUMBER [LEAST]: a smaller number where the supervisor has a sanitizer in it
scaled() {
	local by=1
	case $ZD_SANITIZER in
	asan) by=2 ;;
	tsan) by=4 ;;
	esac
	echo $(($1 / by > ${2:-0} ? $1 / by : ${2:-0}))
}

# A program that waits for room (RUN_MEM_RAM, see run_mem.c) may have --ram times this in RAM.
# With a sanitizer the supervisor is slow, and evicts a little later.
RAM_SLACK=1.25
[ "$ZD_SANITIZER" = plain ] || RAM_SLACK=1.6

# gone PID: the process has ended, and may not have been reaped yet
gone() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
	[ -z "$state" ] || [ "$state" = Z ] || [ "$state" = X ]
}

# ended_by COMMAND...: print its exit status, or minus the signal that ended it; its output
# goes to $T/.out and $T/.err
ended_by() {
	python3 -c '
import subprocess, sys
out, err = open(sys.argv[1], "wb"), open(sys.argv[2], "wb")
print(subprocess.call(sys.argv[3:], stdout=out, stderr=err))
' "$T/.out" "$T/.err" "$@"
}
