#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Huge pages go out whole or in parts, and come home with what was in them.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

thp=/sys/kernel/mm/transparent_hugepage/enabled
! grep -qs '\[never\]' "$thp" && [ -e "$thp" ] || skip "no transparent huge pages here"
size=$(scaled 96)
export RUN_MEM_RAM=$((size / 2))
for device in ram:size=1G "file:$T/dev,size=256M"; do
	zd_run --device "$device" --ram "$((size / 2))M" -- "$H/run_mem" thp "$size" ||
		fail "$device: ended with $?"
	expect_in_report 'pages["out"] > 1000' 'pages["home"] > 1000' 'pages["live"] == 0' \
		'pages["poisoned"] == 0' "peak_ram < ram * $RAM_SLACK"
done
