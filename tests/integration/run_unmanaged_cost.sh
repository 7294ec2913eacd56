#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program that stays far below --ram is left alone: no fault is served, no page goes
# out, nothing of it is registered.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

zd_run --device ram:size=64M --ram 512M -- "$H/run_mem" check 64 2 || fail "ended with $?"
expect_in_report 'faults == 0' 'pages["out"] == 0' 'pages["home"] == 0' 'bytes["to_device"] == 0'
zd_run --device ram:size=64M --ram 512M -- \
	python3 -c 'print(sum(len(str(i)) for i in range(300000)))' >/dev/null || fail "ended with $?"
expect_in_report 'faults == 0' 'pages["out"] == 0'

# VmFlags "um": registered with a userfaultfd, as only the agent's own memory is.
mkfifo "$T/in"
exec 8<>"$T/in"
start "$ZONEDEV" run --quiet --device ram:size=64M --ram 512M -- "$H/run_mem" hold 64 \
	<"$T/in" >"$T/out" 8>&-
wait_for 10 "grep -q ready '$T/out'" || fail "didn't start"
read -r _ pid addr <"$T/out"
awk -v at="${addr#0x}" '
	$1 ~ /^[0-9a-f]+-[0-9a-f]+$/ { split($1, r, "-"); here = r[1] <= at && at < r[2] }
	here && /^VmFlags:/ { print; exit / um( |$)/ }' "/proc/$pid/smaps" >&2 || fail "it is registered"
exec 8>&-
wait "$PID" || fail "ended with $?"
