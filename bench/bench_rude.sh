#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What one client notices of another that keeps no rule (tests/integration/nbd_rude.c): the
# 99th percentile of fio's latency beside it, against that without it, by turns.
#
#	BUILD=build			where tools/zonedev and tests/integration/nbd_rude are
#	TURNS=5
#	SECONDS_A_TURN=3
#
# Prints lines for bench/run.  Exits with 77 where the host lacks something.
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$top/build}
zonedev=${ZONEDEV:-$build/tools/zonedev}
rude=$(dirname "$zonedev")/../tests/integration/nbd_rude
turns=${TURNS:-5}
turn=${SECONDS_A_TURN:-3}
export LC_ALL=C

dir='' server='' client=''
cleanup() {
	local status=$?
	trap - EXIT
	[ -z "$client" ] || kill "$client" 2>/dev/null || true
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
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
command -v fio >/dev/null || skip "needs fio"
[ -x "$rude" ] || skip "this build has no tests"

dir=$(mktemp -d /dev/shm/zonedev-bench.XXXXXX)
"$zonedev" serve "pmem:$dir/region,size=128M" --socket "$dir/s" >"$dir/uri" &
server=$!
for ((i = 0; i < 100; i++)); do
	[ ! -s "$dir/uri" ] || break
	sleep 0.1
done

# p99: in microseconds, of reads and writes that are verified
p99() {
	fio --name=beside --aux-path="$dir" --ioengine=nbd --uri="$(cat "$dir/uri")" --rw=randrw \
		--bs=4k --iodepth=4 --size=64m --time_based --runtime="$turn" --verify=crc32c \
		--verify_fatal=1 --verify_backlog=64 --output-format=json >"$dir/json"
	python3 -c '
import json, sys
text = open(sys.argv[1]).read()
job = json.loads(text[text.index("{"):])["jobs"][0]
assert not job["error"], job["error"]
print(max(job[d]["clat_ns"]["percentile"]["99.000000"] for d in ("read", "write")) / 1000)
' "$dir/json"
}

for ((i = 0; i < turns; i++)); do
	alone=$(p99)
	"$rude" "$dir/s" "$((i + 1))" 1000000 &
	client=$!
	beside=$(p99)
	kill "$client"
	wait "$client" 2>/dev/null || true
	client=''
	echo "$beside $alone"
done | sort -n | awk '
	{ ours[NR] = $1; theirs[NR] = $2; ratio[NR] = $1 / $2 }
	function at(n, part) { return 1 + int((n - 1) * part + 0.5) }
	function sort_up(a, n,    i, j, t) {
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && a[j] < a[j - 1]; j--) {
				t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
			}
	}
	END {
		sort_up(ours, NR); sort_up(theirs, NR); sort_up(ratio, NR)
		printf "RESULT\t%s\tus\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t<=\t%s\n",
			"nbd p99 beside a rude client, 4k randrw, queue depth 4", ours[at(NR, .5)],
			theirs[at(NR, .5)], ratio[at(NR, .5)], ratio[at(NR, .1)], ratio[at(NR, .9)], 3
	}'
