#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Children, however they are made, find their parent's pages, also when the parent is gone;
# children that exec are managed too, or are left alone with --no-children.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 60)
[ "$size" -ge 48 ] || size=48
ram=$((size / 3))
[ "$ram" -ge 16 ] || ram=16

# mode NAME PROCESSES: the last process of run_fork NAME says "ok", and zonedev has seen all
mode() {
	local got
	got=$(zd_run --device ram:size=1G --ram "${ram}M" -- "$H/run_fork" "$1" "$size" \
		2>"$T/err") || fail "$1: ended with $?: $(tail -n 5 "$T/err")"
	[ "$got" = ok ] || fail "$1: said '$got' $(tail -n 5 "$T/err")"
	[ ! -s "$T/err" ] || fail "$1: $(head -n 3 "$T/err")"
	expect_in_report "processes == $2" 'pages["out"] > 0' 'pages["home"] > 0' \
		'pages["poisoned"] == 0' 'pages["live"] == 0'
}

# More than once, since faults here depend on timing.
for round in $(seq "$(scaled 3)"); do
	mode before 2
	mode thread 4
	mode raw 2
	mode vfork 2
	mode spawn 2
	[ "$round" = 1 ] || continue
	mode many 21
done

# A child that has ended holds no page of its parent's in RAM.
zd_run --device ram:size=256M --ram 16M -- "$H/run_fork" cold 10 || fail "cold: ended with $?"

# Children that live on when CMD has ended: the report is of that moment, so look at what
# they print.
for round in 1 $(seq "$(scaled 4)"); do
	for mode in after rawafter grand; do
		"$ZONEDEV" run --quiet --device ram:size=1G --ram "${ram}M" -- \
			"$H/run_fork" "$mode" "$size" >"$T/out" 2>"$T/err" ||
			fail "$mode: ended with $?: $(cat "$T/err")"
		wait_for 20 "[ -s '$T/out' ] || [ -s '$T/err' ]" || fail "$mode: no answer"
		[ "$(cat "$T/out")" = ok ] || fail "$mode: $(head -n 3 "$T/err")"
	done
done

# Children that exec are managed; a pipeline of them works.
half=$((size / 2))
zd_run --device ram:size=1G --ram "${ram}M" -- \
	sh -c "$H/run_mem check $half | cat; $H/run_mem check $half" || fail "sh ended with $?"
expect_report processes -ge 4
expect_report pages.out -gt 0
got=$(seq 300000 | zd_run --device ram:size=1G --ram "${ram}M" -- \
	sh -c "sort -rn -S 64M | awk '{ s += \$1 * NR } END { printf \"%.0f\\n\", s }'") || fail "sort | awk"
[ "$got" = "$(seq 300000 | sort -rn | awk '{ s += $1 * NR } END { printf "%.0f\n", s }')" ] ||
	fail "sort | awk says $got"

zd_run --no-children --device ram:size=1G --ram "${ram}M" -- \
	sh -c "$H/run_mem check $size; env | grep -e ZONEDEV_SOCKET -e LD_PRELOAD || exit 3" >"$T/out" &&
	fail "the child's environment: $(cat "$T/out")"
expect_report status.exit -eq 3
# sh itself, and its forks until they exec'ed
expect_report pages.out -eq 0

# In a network namespace of its own a child's agent doesn't find the supervisor, which
# serves the child all the same.
if unshare -n true 2>/dev/null; then
	zd_run --device ram:size=1G --ram "${ram}M" -- python3 -c '
import ctypes, os, sys
pages = range(0, int(sys.argv[1]) << 20, 4096)
mem = bytearray(int(sys.argv[1]) << 20)
for i in pages:
    mem[i] = i // 4096 % 255 + 1
if ctypes.CDLL(None).unshare(0x40000000):	# CLONE_NEWNET
    sys.exit(9)
pid = os.fork()
if not pid:
    os._exit(sum(mem[i] != i // 4096 % 255 + 1 for i in pages) != 0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
' "$((ram * 2))" || fail "in a network namespace: ended with $?"
	expect_in_report "pages['home'] > $ram << 7" 'pages["live"] == 0'
fi

# More children than a soft limit of descriptors has room for; the program's own limit is
# unchanged.
mkfifo "$T/in"
exec 8<>"$T/in"
start bash -c 'ulimit -Sn 128; exec "$@"' bash "$ZONEDEV" run --report "$T/report.json" \
	--device ram:size=1G --ram "${ram}M" -- \
	bash -c 'exec 3<&0; ulimit -Sn; for i in {1..40}; do (read -r x <&3; exit 5) & done
		echo ready; wait -n
		s=$?; kill $(jobs -p) 2>/dev/null; exit $s' <"$T/in" >"$T/out" 2>"$T/err" 8>&-
wait_for 30 "grep -q ready '$T/out'" || fail "many children: $(cat "$T/out" "$T/err")"
[ "$(head -n 1 "$T/out")" = 128 ] || fail "the program's limit is $(head -n 1 "$T/out")"

# The agent has no privilege that the program might give up, but to kill the program.  A
# child's agent comes a moment after its fork has returned in the parent, and gives its
# privileges up when it has greeted the supervisor.
count_agents() {
	local comm environ
	agents=0 privileged=
	for comm in /proc/[0-9]*/task/[0-9]*/comm; do
		[ "$(cat "$comm" 2>/dev/null)" = zonedev ] || continue
		environ=$(tr '\0' '\n' 2>/dev/null <"${comm%/task/*}/environ") || continue
		[[ $environ = *ZONEDEV_SOCKET=zonedev-$PID-* ]] || continue
		grep -qx "CapEff:[[:space:]]*0*20\?" "${comm%/comm}/status" ||
			privileged="$comm: $(grep CapEff "${comm%/comm}/status")"
		agents=$((agents + 1))
	done
	[ "$agents" -ge 41 ] && [ -z "$privileged" ]
}
wait_for 30 count_agents || fail "$agents agents to be seen; $privileged"
echo >&8
status=0
wait "$PID" || status=$?
exec 8>&-
[ "$status" = 5 ] || fail "many children: ended with $status: $(head -n 3 "$T/err")"
expect_report processes -ge 41
