#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A request that can't finish (its file system is frozen) holds the region: removal waits for
# the request, names it, keeps to the timeout, and completes by itself when the request does,
# which isn't lost.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires fio fsfreeze mkfs.ext4 nbdcopy

truncate -s 64M "$T/image"
mkfs.ext4 -q "$T/image"
mkdir "$T/mnt"
mount -o loop "$T/image" "$T/mnt" 2>"$T/err" || skip "needs a loop device: $(cat "$T/err")"
on_exit "fsfreeze --unfreeze '$T/mnt' 2>/dev/null; umount --lazy '$T/mnt'"
region=$T/mnt/region

# is_stuck: the write waits for the file system, in a page fault.  Where stacks can't be read,
# that a thread sleeps is all that can be seen.
is_stuck() {
	if cat "/proc/$SERVER/stack" >/dev/null 2>&1; then
		grep -qs page_mkwrite "/proc/$SERVER/task/"*/stack
	else
		grep -qs 'D (disk sleep)' "/proc/$SERVER/task/"*/status
	fi
}

serve "pmem:$region,size=16M"
fio_nbd before --rw=write --bs=64k --size=1m --verify=crc32c --verify_fatal=1 --end_fsync=1 ||
	fail "fio: $(cat "$T/before.fio")"
fsfreeze --freeze "$T/mnt"

# The write's page is clean: to make it writable means to change the file system.
fio_nbd stuck --rw=write --bs=4k --size=4k >"$T/fio.err" 2>&1 &
fio=$!
wait_for 20 is_stuck ||
	fail "the write isn't stuck: $(cat "$T/fio.err")"
expect_status 1 "$ZONEDEV" remove --timeout 0.2 "$region"
case $ERR in
"zonedev: $region: still held by 1 request in flight; "*) ;;
*) fail "remove --timeout says: $ERR" ;;
esac
# While it is being removed, a region can be neither served nor added.
expect_error "still being removed" "$ZONEDEV" add "$region"
unlocked "$region" && fail "the lock is gone before the request is"
nbdcopy "$URI" "$T/out" 2>"$T/err" && fail "a new client is let in"

# A remove without a timeout says what it waits for.
start "$ZONEDEV" remove "$region" 2>"$T/waiting"
remove=$PID
wait_for 20 "grep -q 'waiting for 1 request in flight' '$T/waiting'" ||
	fail "zonedev remove says: $(cat "$T/waiting")"
alive "$remove" || fail "zonedev remove doesn't wait"

fsfreeze --unfreeze "$T/mnt"
wait "$remove" || fail "zonedev remove: $(cat "$T/waiting")"
unlocked "$region" || fail "the region is still locked"
wait "$fio" || fail "the write that was in flight failed: $(cat "$T/fio.err" "$T/stuck.fio")"
expect_status 0 "$ZONEDEV" add "$region"
nbdcopy "$URI" "$T/out" || fail "nbdcopy"
cmp "$region" "$T/out" || fail "not what is in the file"

# A removal whose `zonedev remove` has given up completes by itself.
fsfreeze --freeze "$T/mnt"
fio_nbd again --rw=write --bs=4k --size=4k --offset=64k >"$T/fio.err" 2>&1 &
fio=$!
wait_for 20 is_stuck ||
	fail "the write isn't stuck: $(cat "$T/fio.err")"
expect_status 1 "$ZONEDEV" remove --timeout 0 "$region"
fsfreeze --unfreeze "$T/mnt"
wait "$fio" || fail "the write that was in flight failed: $(cat "$T/fio.err")"
wait_for 20 "unlocked '$region'" || fail "the removal doesn't go on"

# A server that doesn't answer holds up `zonedev remove` for its time-out only.
expect_status 0 "$ZONEDEV" add "$region"
kill -STOP "$SERVER"
expect_status 1 "$ZONEDEV" remove --timeout 0.1 "$region"
case $ERR in
*"doesn't answer"*) ;;
*) fail "remove --timeout says: $ERR" ;;
esac
kill -CONT "$SERVER"
kill "$SERVER"
ended 0
