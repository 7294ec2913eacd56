#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# make demo: GNU sort, unmodified, with half of the memory that it needs; the
# other half of its heap is on a file device.  Shows that the output is the same
# and where the pages went.  Exits with 1 if anything is not as promised.
#
#	MB=120			size of the generated file
#	ZONEDEV=build/zonedev	the command
#	TMPDIR=/var/tmp		where the files go
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
zonedev=${ZONEDEV:-$top/build/zonedev}
mb=${MB:-120}
export LC_ALL=C

if ! verdict=$("$zonedev" info | tail -n 1); then
	echo "demo: ${verdict#zonedev run *}" >&2
	exit 2
fi

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/zonedev-demo.XXXXXX")
job=
plain_ms=0
run_ms=0
cleanup() {
	# One process, by its id; the processes that it runs end with it.
	[ -z "$job" ] || kill "$job" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
	printf '\n== %s\n' "$*"
}

mib() {
	echo "$((($1 + (1 << 19)) >> 20)) MiB"
}

report() {
	python3 -c '
import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2].split("."):
    value = value[key]
print(round(value))' "$dir/report.json" "$1"
}

# timed NAME COMMAND...: wall time in NAME_ms
timed() {
	local name=$1 start status=0
	shift
	start=$(date +%s%N)
	"$@" &
	job=$!
	wait "$job" || status=$?
	job=
	printf -v "${name}_ms" %s "$((($(date +%s%N) - start) / 1000000))"
	return "$status"
}

# generate MB: lines of 100 bytes whose order means nothing, the same each time
generate() {
	awk -v mb="$1" 'BEGIN {
		srand(2017)
		pad = sprintf("%072d", 0)
		gsub("0", "memory of a device ", pad)
		pad = substr(pad, 1, 72)
		for (done = 0; done < mb; done++) {
			for (i = 0; i < 10486; i++)
				printf "%08x%08x %010d %s\n", rand() * 4294967296,
				       rand() * 4294967296, done * 10486 + i, pad
			printf "\rgenerated %d of %d MB", done + 1, mb >"/dev/stderr"
		}
		printf "\n" >"/dev/stderr"
	}'
}

# The sort is in memory, by one thread: -S is far more than it needs.
sort_command=(sort -S 4G --parallel=1 "$dir/in.txt" -o)

step "A file to sort"
generate "$mb" >"$dir/in.txt"
in_bytes=$(stat -c %s "$dir/in.txt")

step "sort, by itself"
timed plain "$top/scripts/peak_anon" "$dir/plain.anon" "${sort_command[@]}" "$dir/plain.txt"
needs=$(cat "$dir/plain.anon")
ram=$((needs / 2))
echo "took $((plain_ms / 1000)).$((plain_ms % 1000 / 100)) s and needed $(mib "$needs") of memory"

step "zonedev run --ram $((ram >> 10))K --device file:... -- sort"
timed run "$top/scripts/peak_anon" --name sort "$dir/run.anon" \
	"$zonedev" run --progress --ram "$((ram >> 10))K" \
	--device "file:$dir/device,size=$(((needs >> 20) + 64))M" \
	--report "$dir/report.json" -- "${sort_command[@]}" "$dir/run.txt" ||
	{ echo "demo: FAILED: zonedev run exited with $?" >&2; exit 1; }
peak=$(cat "$dir/run.anon")

failed=0
# check TEXT VALUE CONDITION...
check() {
	local text=$1 value=$2 mark=ok
	shift 2
	if ! "$@"; then
		mark=FAILED
		failed=1
	fi
	printf '%-36s %16s   %s\n' "$text" "$value" "$mark"
}

within_10_percent() {
	[ $(($1 * 10)) -le $(($2 * 11)) ] && [ $(($1 * 10)) -ge $(($2 * 9)) ]
}

line() {
	printf '%-36s %16s\n' "$1" "$2"
}

same=different
! cmp "$dir/plain.txt" "$dir/run.txt" || same=identical
out=$(report pages.out)
home=$(report pages.home)
live=$(report pages.live)

step "What happened"
line "file" "$(mib "$in_bytes")"
line "memory that sort needs" "$(mib "$needs")"
line "RAM that it was given (--ram)" "$(mib "$ram")"
check "most RAM that it had" "$(mib "$peak")" within_10_percent "$peak" "$ram"
check "output, beside the plain run's" "$same" test "$same" = identical
check "pages moved out to the device" "$out" test "$out" -gt 0
check "pages brought home" "$home" test "$home" -gt 0
line "pages freed on the device" "$(report pages.freed)"
check "pages on the device at the end" "$live" test "$live" = 0
line "written to, read from the device" \
	"$(mib "$(report bytes.to_device)"), $(mib "$(report bytes.from_device)")"
line "faults" "$(report faults)"
line "a fault's time: half, 99 % below" \
	"$(report fault_latency_us.p50), $(report fault_latency_us.p99) us"
line "time, by itself and with zonedev" \
	"$((plain_ms / 1000)).$((plain_ms % 1000 / 100)) s, $((run_ms / 1000)).$((run_ms % 1000 / 100)) s"

if [ "$failed" != 0 ]; then
	echo "demo: FAILED" >&2
	exit 1
fi
echo "demo: ok"
