#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The kernel reads and writes memory that is on a device: by system calls, by DMA, and
# through buffers that it has pinned, which stay where they are.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 48)
[ "$size" -ge 24 ] || size=24
export RUN_MEM_RAM=$((size / 2))

# io DEVICE MODE...
io() {
	local device=$1 mode status
	shift
	for mode; do
		status=0
		zd_run --device "$device" --ram "$((size / 2))M" -- \
			"$H/run_io" "$mode" "$size" "$T/scratch" || status=$?
		if [ "$status" = 77 ]; then
			say "no io_uring: '$mode' is not tried"
			continue
		fi
		[ "$status" = 0 ] || fail "$device: $mode: ended with $status"
		expect_in_report "pages['out'] > $((size * 64))" "pages['home'] > $((size * 16))" \
			'pages["live"] == 0' 'pages["poisoned"] == 0'
		[ "$mode" != fixed ] || expect_in_report 'refused["pinned"] > 0'
	done
}

io ram:size=512M fixed direct plain vmsplice peek
io "file:$T/dev,size=512M" fixed direct
