#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The host swaps, too: pages that the kernel has swapped out are moved with the others,
# and none reads as zeros when a move ends in the middle.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run
requires mkswap swapon swapoff

# To zram, if there is any: pages that are written there leave the swap cache at once, where
# mincore(2) would still find them.
swap_to_zram() {
	local nr
	[ -e /sys/class/zram-control/hot_add ] || modprobe zram 2>/dev/null || return 1
	nr=$(cat /sys/class/zram-control/hot_add 2>/dev/null) || return 1
	on_exit "echo $nr >/sys/class/zram-control/hot_remove"
	swap=/dev/zram$nr
	wait_for 5 "[ -b '$swap' ]" && echo 64M >"/sys/block/zram$nr/disksize"
}

swap_to_file() {
	swap=$T/swap
	head -c 64M /dev/zero >"$swap"
	chmod 600 "$swap"
}

swap_to_zram || swap_to_file
mkswap "$swap" >/dev/null 2>&1 || skip "mkswap can't"
swapon "$swap" 2>"$T/err" || skip "no swap here: $(cat "$T/err")"
on_exit "swapoff '$swap'"

size=48
status=0
RUN_MEM_RAM=$((size * 3 / 2)) zd_run --device ram:size=512M --ram "$((size * 5 / 4))M" -- \
	"$H/run_mem" swap "$size" || status=$?
[ "$status" != 77 ] || skip "the kernel doesn't swap out what it is told to"
[ "$status" = 0 ] || fail "ended with $status"
expect_in_report 'pages["out"] > 2000' 'pages["live"] == 0' 'pages["poisoned"] == 0'
