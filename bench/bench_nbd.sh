#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# `zonedev serve` against nbdkit with its own memory and file plugins: the same fio job on
# each in turn.  What is fair about it, and what is not, is told in METHOD.md.
#
#	ZONEDEV=build/tools/zonedev	the command
#	TURNS=9				of each job
#	SECONDS_A_TURN=1
#	BENCH_NBD_DIR=/dev/shm		where the region and the file are
#	JOBS='randread 4k 1;...'	fio's rw, bs and iodepth
#
# Prints lines for bench/run.  Exits with 77 where the host lacks something.
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
zonedev=${ZONEDEV:-$top/build/tools/zonedev}
turns=${TURNS:-9}
turn=${SECONDS_A_TURN:-1}
small='randread 4k 1;randread 4k 16;randwrite 4k 1;randwrite 4k 16'
IFS=';' read -r -a jobs <<<"${JOBS:-$small;read 256k 4;write 256k 4}"
mib=256
export LC_ALL=C

dir='' servers=()
cleanup() {
	local status=$?
	trap - EXIT
	[ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null || true
	wait
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

# server NAME COMMAND...: on socket NAME
server() {
	local name=$1 i
	shift
	"$@" >/dev/null &
	servers+=($!)
	for ((i = 0; i < 100; i++)); do
		nbdinfo --size "nbd+unix:///?socket=$dir/$name" >/dev/null 2>&1 && break
		sleep 0.1
	done
	# All have the same content, and none has to allocate anything later.
	nbdcopy "$dir/content" "nbd+unix:///?socket=$dir/$name"
}

# fio_once NAME RW BS IODEPTH: requests a second
fio_once() {
	fio --name=bench --ioengine=nbd --uri="nbd+unix:///?socket=$dir/$1" --rw="$2" --bs="$3" \
		--iodepth="$4" --size="${mib}m" --time_based --runtime="$turn" --ramp_time=0.2 \
		--randrepeat=0 --output-format=terse --terse-version=3 |
		awk -F ';' '$1 == 3 { print $8 + $49 }'
}

# result WHAT THEIRS GOAL: from $T/zonedev and $T/THEIRS, a line a turn
result() {
	paste "$dir/zonedev.iops" "$dir/$2.iops" | awk -v what="$1" -v goal="$3" '
		function sorted(a, n,    i, j, t) {
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && a[j] < a[j - 1]; j--) {
					t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
				}
		}
		function at(n, part) { return 1 + int((n - 1) * part + 0.5) }
		{ ours[NR] = $1; theirs[NR] = $2; ratio[NR] = $1 / $2 }
		END {
			sorted(ours, NR); sorted(theirs, NR); sorted(ratio, NR)
			printf "RESULT\t%s\tk/s\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t>=\t%s\n", what,
				ours[at(NR, .5)] / 1000, theirs[at(NR, .5)] / 1000,
				ratio[at(NR, .5)], ratio[at(NR, .1)], ratio[at(NR, .9)], goal
		}'
}

bench() {
	local rw=$1 bs=$2 depth=$3 i name
	local order=(zonedev file memory)
	rm -f "$dir"/*.iops
	for ((i = 0; i < turns; i++)); do
		# who comes first changes
		order=("${order[@]:1}" "${order[0]}")
		for name in "${order[@]}"; do
			fio_once "$name" "$rw" "$bs" "$depth" >>"$dir/$name.iops"
		done
	done
	result "nbd $rw, $bs, queue depth $depth, beside file" file 1.0
	result "nbd $rw, $bs, queue depth $depth, beside memory" memory 0.9
}

for tool in nbdkit nbdinfo nbdcopy fio; do
	command -v "$tool" >/dev/null || skip "needs $tool"
done
dir=$(mktemp -d "${BENCH_NBD_DIR:-/dev/shm}/zonedev-bench.XXXXXX")
head -c "${mib}M" /dev/urandom >"$dir/content"
truncate -s "${mib}M" "$dir/file.data"
server memory nbdkit --foreground --unix "$dir/memory" memory "${mib}M"
server file nbdkit --foreground --unix "$dir/file" file "$dir/file.data"
server zonedev "$zonedev" serve "pmem:$dir/region,size=${mib}M" --socket "$dir/zonedev"
rm "$dir/content"
for job in "${jobs[@]}"; do
	read -r rw bs depth <<<"$job"
	bench "$rw" "$bs" "$depth"
done
