#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# GNU sort with half and with three quarters of the memory that it needs: under
# `zonedev run` with a ram device, and in a memory cgroup with zram (lz4) as
# swap.  What is fair about it, and what is not, is told in METHOD.md.
#
#	RUNS=3				of each, by turns
#	SORTS='demo numbers'		what is sorted; each has a heap of 256 MB:
#					the demo's lines of 100 bytes, or numbers
#	SORT_ARGS='-S 4G --parallel=2'
#	SLACK_KB=4096			for the cgroup, see METHOD.md
#
# Leaves swap and cgroups as they were, however it ends.
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

runs=${RUNS:-3}
read -r -a sorts <<<"${SORTS:-demo numbers}"
read -r -a sort_args <<<"${SORT_ARGS:--S 4G --parallel=2}"
slack_kb=${SLACK_KB:-4096}

# --- what the host must have ---

# Its files lie in a tmpfs, whose pages are charged to the process that wrote them first: to
# this one, and not to the group under test.
has_room() {
	local free_kb
	free_kb=$(df --output=avail "$T" | tail -n 1)
	[ "$free_kb" -gt 600000 ] || skip "${T%/*} has no room for 600 MB"
}

make_group() {
	if [ -e /sys/fs/cgroup/memory/cgroup.procs ]; then
		group=/sys/fs/cgroup/memory/zonedev-bench.$$
		limit_file=memory.limit_in_bytes
	elif grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then
		echo +memory >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
		group=/sys/fs/cgroup/zonedev-bench.$$
		limit_file=memory.max
	else
		skip "no memory cgroup"
	fi
	mkdir "$group" 2>/dev/null || skip "can't make a memory cgroup (root?)"
	# The processes that were in the group have just ended, and may not be reaped yet.
	on_exit "rmdir '$group' 2>/dev/null || { sleep 1; rmdir '$group'; }"
	[ -w "$group/$limit_file" ] || skip "no memory limit in a cgroup"
}

make_zram() {
	local name size zram=
	[ -d /sys/block/zram0 ] || modprobe zram 2>/dev/null || skip "no zram"
	for name in /sys/block/zram*; do
		[ -e "$name/disksize" ] || continue
		read -r size <"$name/disksize"
		[ "$size" = 0 ] || continue
		zram=${name##*/}
		break
	done
	if [ -z "$zram" ] && [ -r /sys/class/zram-control/hot_add ]; then
		zram=zram$(cat /sys/class/zram-control/hot_add)
	fi
	[ -n "$zram" ] || skip "no free zram device"
	[ "$(wc -l </proc/swaps)" = 1 ] || skip "there is swap already: it would be used, too"
	on_exit "swapoff '/dev/$zram' 2>/dev/null; echo 1 >'/sys/block/$zram/reset'"
	echo lz4 >"/sys/block/$zram/comp_algorithm" 2>/dev/null || skip "zram has no lz4"
	echo 2G >"/sys/block/$zram/disksize" || skip "can't set up zram"
	if ! mkswap "/dev/$zram" >/dev/null || ! swapon "/dev/$zram"; then
		skip "can't swap to zram"
	fi
}

# --- the runs ---

generate_demo() {
	awk 'BEGIN {
		srand(2017)
		pad = sprintf("%072d", 0)
		gsub("0", "memory of a device ", pad)
		pad = substr(pad, 1, 72)
		for (i = 0; i < 1551928; i++)
			printf "%08x%08x %010d %s\n", rand() * 4294967296,
			       rand() * 4294967296, i, pad
	}'
}

generate_numbers() {
	awk 'BEGIN { srand(2017); for (i = 0; i < 3560000; i++) printf "%d\n", rand() * 10000000 }'
}

# timed COMMAND...: seconds, to $seconds.  Its output goes over the output of the run before,
# whose pages are there: no page is charged to the command for writing it.
timed() {
	local start=$EPOCHREALTIME
	"$@" 1<>"$T/out" 2>>"$T/err" || return
	seconds=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')
	cmp -s "$T/out" "$T/expected" && return
	echo "the output differs: $*" >&2
	exit 1
}

in_group() {
	bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

# The cgroup's turn.  The kernel may give up and kill it instead; try again a
# few times, and count.
tries=6
in_group_timed() {
	local try
	for ((try = 0; try < tries; try++)); do
		timed in_group "${command[@]}" && return
		killed=$((killed + 1))
	done
	return 1
}

# compare WHAT RAM_KB: a line of result
compare() {
	local what=$1 ram_kb=$2 ours=() theirs=() i killed=0 note
	echo $(((ram_kb + slack_kb) * 1024)) >"$group/$limit_file"
	for ((i = 0; i < runs; i++)); do
		timed "$ZONEDEV" run --quiet --device ram:size=2G --ram "${ram_kb}K" -- "${command[@]}" ||
			{ cat "$T/err" >&2; echo "zonedev run failed" >&2; exit 1; }
		ours+=("$seconds")
		in_group_timed || break
		theirs+=("$seconds")
	done
	note="ours ${ours[*]}, theirs ${theirs[*]:-none}"
	[ "$killed" = 0 ] || note="$note; the kernel killed theirs for want of memory $killed times"
	echo "$what: $note" >&2
	if [ ${#theirs[@]} = 0 ]; then
		printf 'RESULT\t%s\ts\t%s\tkilled\t-\t-\t-\t<=\t0.7\t%s\n' "$what" "${ours[0]}" "$note"
		return
	fi
	for ((i = 0; i < ${#theirs[@]}; i++)); do
		echo "${ours[i]} ${theirs[i]}"
	done | result "$what" s '<= 0.7' "$note"
}

[ "$(id -u)" = 0 ] || skip "a memory cgroup and zram need root"
"$ZONEDEV" run --help >/dev/null 2>&1 || skip "this build has no zonedev run"
has_room
make_group
make_zram

command=(sort "${sort_args[@]}" "$T/in")
for name in "${sorts[@]}"; do
	"generate_$name" >"$T/in"
	"$top/scripts/peak_anon" "$T/anon" "${command[@]}" >"$T/expected"
	cp "$T/expected" "$T/out"
	heap_kb=$(($(cat "$T/anon") / 1024))
	timed "${command[@]}"
	echo "sort of $name, a heap of $((heap_kb / 1024)) MiB: $seconds s with no limit" >&2
	compare "sort ($name), 3/4 of its heap, beside a cgroup with zram" $((heap_kb * 3 / 4))
	compare "sort ($name), 1/2 of its heap, beside a cgroup with zram" $((heap_kb / 2))
done
