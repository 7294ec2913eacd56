#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Disk images: nbdcopy and qemu-img there and back, an ext4 file system in the region;
# and what is in a region without BTT is what is in its file.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires nbdcopy nbdinfo qemu-img mkfs.ext4 e2fsck debugfs

# An image with a file system, holes, and data outside of the file system.
make_disk() {
	local files=$T/files
	mkdir "$files"
	head -c 3000000 /dev/urandom >"$files/random"
	seq 1 100000 >"$files/numbers"
	truncate -s 24M "$T/disk"
	mkfs.ext4 -q -d "$files" "$T/disk"
	truncate -s 32M "$T/disk"
	dd if=/dev/urandom of="$T/disk" bs=1M seek=30 count=1 conv=notrunc status=none
}

check_fs() {
	e2fsck -fn "$1" >"$T/fsck" 2>&1 || fail "e2fsck of $1: $(cat "$T/fsck")"
	debugfs -R "cat /numbers" "$1" 2>"$T/fsck" | cmp - "$T/files/numbers" ||
		fail "a file in $1 is not as it was: $(cat "$T/fsck")"
}

make_disk
for btt in off on; do
	# A BTT takes some of the media for itself.
	size=32M
	[ "$btt" = off ] || size=48M
	serve "pmem:$T/region.$btt,size=$size,btt=$btt"

	nbdcopy --flush "$T/disk" "$URI" || fail "nbdcopy to it"
	nbdcopy "$URI" "$T/back" || fail "nbdcopy from it"
	cmp -n $((32 << 20)) "$T/disk" "$T/back" || fail "nbdcopy: not what was sent"
	qemu-img info -f raw "$URI" >"$T/info" || fail "qemu-img info"
	grep -q "^virtual size: .* ($(nbdinfo --size "$URI") bytes)" "$T/info" ||
		fail "qemu-img info: $(cat "$T/info")"

	# qemu's image of the region, and back.
	qemu-img convert -f raw -O qcow2 "$URI" "$T/disk.qcow2" || fail "qemu-img convert from it"
	qemu-img compare -f qcow2 -F raw "$T/disk.qcow2" "$URI" >"$T/info" ||
		fail "qemu-img compare: $(cat "$T/info")"
	qemu-img convert -n -f qcow2 -O raw "$T/disk.qcow2" "$URI" || fail "qemu-img convert to it"
	# The region may be larger: the rest must be zeros.
	qemu-img compare -f raw -F raw "$T/disk" "$URI" >"$T/info" ||
		fail "qemu-img compare: $(cat "$T/info")"
	nbdcopy "$URI" "$T/back" || fail "nbdcopy from it"
	check_fs "$T/back"

	kill "$SERVER"
	ended 0
	rm "$T/back" "$T/disk.qcow2"
done

# The file is the disk: made there by mkfs, seen by clients, and the other way round.
cmp "$T/disk" "$T/region.off" || fail "the region's file isn't the disk"
check_fs "$T/region.off"
mkfs.ext4 -qF -d "$T/files" "$T/region.off"
serve "pmem:$T/region.off" --read-only
nbdcopy "$URI" "$T/back" || fail "nbdcopy from it"
cmp "$T/region.off" "$T/back" || fail "the region's file isn't the disk"
check_fs "$T/back"

# A region that has a BTT must not be served without btt=on, as if it were the disk.
expect_error "btt=on" "$ZONEDEV" serve "pmem:$T/region.on" --socket "$T/other"
