#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# `zonedev serve` against nbdkit with its own memory and file plugins: the same fio job on
# each in turn.  What is fair about it, and what is not, is told in METHOD.md.
#
#	TURNS=9				of each job
#	SECONDS_A_TURN=1
#	BENCH_DIR=/dev/shm		where the region and the file are
#	JOBS='randread 4k 1;...'	fio's rw, bs and iodepth
#
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

turns=${TURNS:-9}
turn=${SECONDS_A_TURN:-1}
small='randread 4k 1;randread 4k 16;randwrite 4k 1;randwrite 4k 16'
IFS=';' read -r -a jobs <<<"${JOBS:-$small;read 256k 4;write 256k 4}"
mib=256

# server NAME COMMAND...: on socket NAME
server() {
	local name=$1
	shift
	start "$@" >/dev/null
	wait_for 10 "nbdinfo --size 'nbd+unix:///?socket=$T/$name' >/dev/null 2>&1" ||
		fail "$name doesn't start"
	# All have the same content, and none has to allocate anything later.
	nbdcopy "$T/content" "nbd+unix:///?socket=$T/$name"
}

# fio_once NAME RW BS IODEPTH: requests a second
fio_once() {
	fio --name=bench --ioengine=nbd --uri="nbd+unix:///?socket=$T/$1" --rw="$2" --bs="$3" \
		--iodepth="$4" --size="${mib}m" --time_based --runtime="$turn" --ramp_time=0.2 \
		--randrepeat=0 --output-format=terse --terse-version=3 |
		awk -F ';' '$1 == 3 { print $8 + $49 }'
}

# against THEIRS GOAL: a result of the job, in thousands of requests a second
against() {
	paste "$T/zonedev.iops" "$T/$1.iops" | awk '{ print $1 / 1000, $2 / 1000 }' |
		result "nbd $rw, $bs, queue depth $depth, beside $1" k/s "$2"
}

bench() {
	local rw=$1 bs=$2 depth=$3 i name
	local order=(zonedev file memory)
	rm -f "$T"/*.iops
	for ((i = 0; i < turns; i++)); do
		# Another server is the first.
		order=("${order[@]:1}" "${order[0]}")
		for name in "${order[@]}"; do
			fio_once "$name" "$rw" "$bs" "$depth" >>"$T/$name.iops"
		done
	done
	against file '>= 1.0'
	against memory '>= 0.9'
}

requires nbdkit nbdinfo nbdcopy fio
head -c "${mib}M" /dev/urandom >"$T/content"
truncate -s "${mib}M" "$T/file.data"
server memory nbdkit --foreground --unix "$T/memory" memory "${mib}M"
server file nbdkit --foreground --unix "$T/file" file "$T/file.data"
server zonedev "$ZONEDEV" serve "pmem:$T/region,size=${mib}M" --socket "$T/zonedev"
rm "$T/content"
for job in "${jobs[@]}"; do
	read -r rw bs depth <<<"$job"
	bench "$rw" "$bs" "$depth"
done
