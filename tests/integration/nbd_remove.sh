#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `zonedev remove` under full load: every client gets ESHUTDOWN, the server lives and has
# neither lock nor mapping of the region any more; and when `zonedev add` or another server has
# brought the region back, what was acknowledged is there.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires fio nbdinfo
seeded

rounds=20
[ "$ZD_SANITIZER" = plain ] || rounds=5
region=$T/region
slowest=0

# start_fio: on the part that nbd_client leaves alone; a while later fio_is_at_it
start_fio() {
	: >"$T/fio.out"
	fio --name=removed --ioengine=nbd --uri="$URI" --rw=randrw --bs=4k --offset=32m \
		--size=8m --offset_increment=8m --numjobs=4 --iodepth=16 --time_based \
		--runtime=60 >"$T/fio.out" 2>&1 &
	FIO=$!
}

fio_is_at_it() {
	wait_for 20 "[ \"\$(grep -c 'connected to NBD' '$T/fio.out')\" = 4 ]" ||
		fail "fio doesn't start: $(cat "$T/fio.out")"
}

fio_is_told() {
	local failed
	wait_for 20 "gone $FIO" || fail "fio goes on without the region"
	! wait "$FIO" || fail "fio didn't notice"
	failed=$(grep -c 'err=108.*transport endpoint shutdown' "$T/fio.out") || true
	[ "$failed" -ge 4 ] || fail "fio: $(cat "$T/fio.out")"
	! grep -E 'err=[^1 ]|err=1[^0]' "$T/fio.out" >&2 || fail "fio met other errors"
}

# Neither a lock nor a mapping of the file is left.
nothing_left() {
	alive "$SERVER" || fail "the server ended"
	unlocked "$region" || fail "the region is still locked"
	! grep -F "$region" "/proc/$SERVER/maps" >&2 || fail "the region is still mapped"
}

serve "pmem:$region,size=64M"
start_fio
client words
for ((round = 0; round < rounds; round++)); do
	hear loaded
	fio_is_at_it
	before=${EPOCHREALTIME/./}
	expect_status 0 "$ZONEDEV" remove "$region"
	hear "down ESHUTDOWN *"
	after=${EPOCHREALTIME/./}
	nothing_left
	fio_is_told
	nbdinfo --size "$URI" >"$T/out" 2>&1 && fail "a new client is let in"
	ms=$(((after - before) / 1000))
	[ "$ms" -le "$slowest" ] || slowest=$ms
	if [ $((round % 4)) = 3 ]; then
		kill "$SERVER"
		ended 0
		serve "pmem:$region,size=64M"
	else
		expect_status 0 "$ZONEDEV" add "$region"
	fi
	[ "$round" = $((rounds - 1)) ] || start_fio
	ask up
	hear "ok *"
done
say "$rounds removals, clients told within $slowest ms; $LINE"

# A region that isn't removed can't be added, nor served twice; one that is can't be removed again.
expect_error "is not removed" "$ZONEDEV" add "$region"
expect_error "is open as a region" "$ZONEDEV" serve "pmem:$region" --port 0
hear loaded
expect_status 0 "$ZONEDEV" remove --timeout 20 "$region"
hear "down ESHUTDOWN *"
end_client
expect_error "was removed before" "$ZONEDEV" remove "$region"

# Only the same region can be added.
mv "$region" "$region.other"
expect_error "No such file" "$ZONEDEV" add "$region"
truncate -s 64M "$region"
expect_error "no server" "$ZONEDEV" add "$region"
# The server is found by the region's inode, but at its path is another file.
expect_error "another file than was removed" "$ZONEDEV" add "$region.other"
mv "$region.other" "$region"
truncate -s 96M "$region"
expect_error "another server" "$ZONEDEV" add "$region"
truncate -s 64M "$region"
expect_status 0 "$ZONEDEV" add "$region"
expect_status 0 "$ZONEDEV" remove "$region"
truncate -s 32M "$region"
expect_error "had 67108864" "$ZONEDEV" add "$region"
truncate -s 0 "$region"
expect_error "$region" "$ZONEDEV" add "$region"
nbdinfo --size "$URI" >"$T/out" 2>&1 && fail "a region of another size is served"
kill "$SERVER"
ended 0
expect_error "no server" "$ZONEDEV" remove "$region"

# Two servers of one region, read-only: both lose it, both get it back.
head -c 1M /dev/urandom >"$T/shared"
serve "pmem:$T/shared" --read-only --socket "$T/one"
one=$URI
serve "pmem:$T/shared" --read-only --socket "$T/two"
expect_status 0 "$ZONEDEV" remove "$T/shared"
nbdinfo --size "$one" >"$T/out" 2>&1 && fail "the first server goes on"
nbdinfo --size "$URI" >"$T/out" 2>&1 && fail "the second server goes on"
expect_status 0 "$ZONEDEV" add "$T/shared"
