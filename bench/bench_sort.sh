#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# GNU sort with half and with three quarters of the memory that it needs: under
# `zonedev run` with a ram device, and in a memory cgroup with zram (lz4) as
# swap.  What is fair about it, and what is not, is told in METHOD.md.
#
#	ZONEDEV=build/tools/zonedev	the command
#	RUNS=3				of each, by turns
#	SORTS='demo numbers'		what is sorted; each has a heap of 256 MB:
#					the demo's lines of 100 bytes, or numbers
#	SORT_ARGS='-S 4G --parallel=2'
#	SLACK_KB=4096			for the cgroup, see METHOD.md
#
# Prints lines for bench/run.  Exits with 77 where the host doesn't allow it, and
# leaves swap and cgroups as they were, however it ends.
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
zonedev=${ZONEDEV:-$top/build/tools/zonedev}
runs=${RUNS:-3}
read -r -a sorts <<<"${SORTS:-demo numbers}"
read -r -a sort_args <<<"${SORT_ARGS:--S 4G --parallel=2}"
slack_kb=${SLACK_KB:-4096}
export LC_ALL=C

dir='' group='' zram=''
cleanup() {
	local status=$?
	trap - EXIT
	# What is left in the group is a child of ours, which has just ended.
	[ -z "$group" ] || rmdir "$group" 2>/dev/null || { sleep 1; rmdir "$group"; } || true
	if [ -n "$zram" ]; then
		swapoff "/dev/$zram" 2>/dev/null || true
		echo 1 >"/sys/block/$zram/reset" || true
	fi
	[ -z "$dir" ] || rm -rf "$dir"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

skip() {
	echo "SKIP: $*"
	exit 77
}

# --- what the host must have ---

# A tmpfs, whose pages are charged to whoever wrote them first: to us, and not
# to the group under test.
make_dir() {
	local free_kb
	free_kb=$(df --output=avail /dev/shm 2>/dev/null | tail -n 1) || skip "no /dev/shm"
	[ "$free_kb" -gt 600000 ] || skip "/dev/shm has no room for 600 MB"
	dir=$(mktemp -d /dev/shm/zonedev-bench.XXXXXX)
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
	mkdir "$group" 2>/dev/null || { group=; skip "can't make a memory cgroup (root?)"; }
	[ -w "$group/$limit_file" ] || skip "no memory limit in a cgroup"
}

make_zram() {
	local name size
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
	[ "$(wc -l </proc/swaps)" = 1 ] || { zram=; skip "there is swap already: it would be used, too"; }
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

# timed COMMAND...: seconds, to $seconds.  Its output goes over that of the run
# before, whose pages are there: writing it is charged to nobody.
timed() {
	local start=$EPOCHREALTIME
	"$@" 1<>"$dir/out" 2>>"$dir/err" || return
	seconds=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')
	cmp -s "$dir/out" "$dir/expected" && return
	echo "the output differs: $*" >&2
	exit 1
}

in_group() {
	bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

median() {
	printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 }
		END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
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
	local what=$1 ram_kb=$2 ours=() theirs=() ratios=() i killed=0 note
	echo $(((ram_kb + slack_kb) * 1024)) >"$group/$limit_file"
	for ((i = 0; i < runs; i++)); do
		timed "$zonedev" run --quiet --device ram:size=2G --ram "${ram_kb}K" -- "${command[@]}" ||
			{ cat "$dir/err" >&2; echo "zonedev run failed" >&2; exit 1; }
		ours+=("$seconds")
		in_group_timed || break
		theirs+=("$seconds")
		ratios+=("$(awk -v a="${ours[-1]}" -v b="$seconds" 'BEGIN { print a / b }')")
	done
	note="ours ${ours[*]}, theirs ${theirs[*]:-none}"
	[ "$killed" = 0 ] || note="$note; the kernel killed theirs for want of memory $killed times"
	echo "$what: $note" >&2
	if [ ${#ratios[@]} = 0 ]; then
		printf 'RESULT\t%s\ts\t%s\tkilled\t-\t-\t-\t<=\t0.7\t%s\n' "$what" \
			"$(median "${ours[@]}")" "$note"
		return
	fi
	printf 'RESULT\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t<=\t0.7\t%s\n' "$what" s \
		"$(median "${ours[@]}")" "$(median "${theirs[@]}")" "$(median "${ratios[@]}")" \
		"$(printf '%s\n' "${ratios[@]}" | sort -g | head -n 1)" \
		"$(printf '%s\n' "${ratios[@]}" | sort -g | tail -n 1)" "$note"
}

[ "$(id -u)" = 0 ] || skip "a memory cgroup and zram need root"
"$zonedev" run --help >/dev/null 2>&1 || skip "this build has no zonedev run"
make_dir
make_group
make_zram

command=(sort "${sort_args[@]}" "$dir/in")
for name in "${sorts[@]}"; do
	"generate_$name" >"$dir/in"
	"$top/scripts/peak_anon" "$dir/anon" "${command[@]}" >"$dir/expected"
	cp "$dir/expected" "$dir/out"
	heap_kb=$(($(cat "$dir/anon") / 1024))
	timed "${command[@]}"
	echo "sort of $name, a heap of $((heap_kb / 1024)) MiB: $seconds s with no limit" >&2
	compare "sort ($name), 3/4 of its heap, beside a cgroup with zram" $((heap_kb * 3 / 4))
	compare "sort ($name), 1/2 of its heap, beside a cgroup with zram" $((heap_kb / 2))
done
