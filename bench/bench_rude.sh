#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What one client notices of another that keeps no rule (tests/integration/nbd_rude.c): the
# 99th percentile of fio's latency beside that client, against fio alone, and against fio while
# the same rude client is at another server; by turns.
#
#	TURNS=5
#	SECONDS_A_TURN=3
#
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"

rude=$(dirname "$ZONEDEV")/../tests/integration/nbd_rude
turns=${TURNS:-5}
turn=${SECONDS_A_TURN:-3}
requires fio
[ -x "$rude" ] || skip "this build has no tests"

# server NAME: of a region of its own, on socket NAME
server() {
	start "$ZONEDEV" serve "pmem:$T/$1.region,size=128M" --socket "$T/$1" >"$T/$1.uri"
	wait_for 10 "[ -s '$T/$1.uri' ]" || fail "the server doesn't start"
}

# p99: in microseconds, of reads and writes at the first server that are verified
p99() {
	fio --name=beside --aux-path="$T" --ioengine=nbd --uri="$(cat "$T/one.uri")" --rw=randrw \
		--bs=4k --iodepth=4 --size=64m --time_based --runtime="$turn" --verify=crc32c \
		--verify_fatal=1 --verify_backlog=64 --output-format=json >"$T/json"
	python3 -c '
import json, sys
text = open(sys.argv[1]).read()
job = json.loads(text[text.index("{"):])["jobs"][0]
assert not job["error"], job["error"]
print(max(job[d]["clat_ns"]["percentile"]["99.000000"] for d in ("read", "write")) / 1000)
' "$T/json"
}

# beside NAME SEED: p99, while the rude client is at server NAME
beside() {
	"$rude" "$T/$1" "$2" 1000000 &
	client=$!
	p99
	kill "$client"
	wait "$client" 2>/dev/null || true
	client=''
}

client=''
# shellcheck disable=SC2016 # evaluated when it has ended
on_exit '[ -z "$client" ] || kill "$client"'
server one
server other
for ((i = 1; i <= turns; i++)); do
	p99 >>"$T/alone"
	beside one "$i" >>"$T/beside"
	beside other "$i" >>"$T/apart"
done
paste "$T/beside" "$T/alone" |
	result "nbd p99 beside a rude client, 4k randrw, queue depth 4" us '<= 3'
paste "$T/beside" "$T/apart" |
	result "  against the same client at another server" us '- -'
