# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For tests of the nbd device, after lib.sh: servers of memory.
#
#	. "$(dirname "$0")/../lib/remote.sh"

# remote ARGUMENT...: nbdkit with these arguments, on a socket of the test's; $REMOTE is its
# id, $URI its address, and its messages go to $T/remote.err.  It doesn't inherit descriptor 8, by
# which tests talk to a program.
remote() {
	rm -f "$T/remote.sock" "$T/remote.ready"
	start nbdkit --foreground --unix "$T/remote.sock" --pidfile "$T/remote.ready" "$@" >/dev/null 2>>"$T/remote.err" 8>&-
	REMOTE=$PID
	URI="nbd+unix:///?socket=$T/remote.sock"
	wait_for 20 "[ -s '$T/remote.ready' ] || gone $REMOTE" && [ -s "$T/remote.ready" ] ||
		fail "nbdkit $*: $(cat "$T/remote.err")"
}

# under SPEC TEST...: run these tests with that device, all of which take one from TEST_DEVICE
under() {
	local test
	for test in "${@:2}"; do
		TEST_DEVICE=$1 bash "$(dirname "$0")/$test.sh" || fail "$test with $1 ended with $?"
	done
}

# kill_remote: at once, as when its machine loses power
kill_remote() {
	kill -KILL "$REMOTE"
	wait "$REMOTE" 2>/dev/null || true
}

# stop_remote: none of its threads runs any more
stop_remote() {
	kill -STOP "$REMOTE"
	wait_for 20 "grep -q '^State:[[:space:]]*T' /proc/$REMOTE/status" || fail "nbdkit runs on"
}
