#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fio reads and writes at random and verifies what it reads, with four clients at
# once and 16 requests in flight each; with and without a BTT.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires fio
seeded

# The range of each client, which reads back and checks what it wrote.
mib=$(scaled 24)

for btt in off on; do
	serve "pmem:$T/$btt,size=128M,btt=$btt"
	fio_nbd "$btt" --rw=randrw --bsrange=4k-64k --iodepth=16 --numjobs=4 --size="${mib}m" \
		--offset_increment="${mib}m" --verify=crc32c --verify_fatal=1 --fsync=64 \
		--randseed="$SEED" || fail "fio: $(cat "$T/$btt.fio" "$T/serve.err")"
	grep -q 'err= 0' "$T/$btt.fio" || fail "fio: $(cat "$T/$btt.fio")"
	! grep -E 'verify: bad|err=[^ ]' "$T/$btt.fio" >&2 || fail "fio"
	[ ! -s "$T/serve.err" ] || fail "the server complains: $(cat "$T/serve.err")"
	kill "$SERVER"
	ended 0
done
