#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Eight threads that fill and check memory of three times the RAM side by side, and
# one that goes on when the main thread has ended.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=$(scaled 200)
export RUN_MEM_RAM=$((size / 3))
zd_run --device ram:size=1G --ram "$((size / 3))M" -- "$H/run_mem" threads "$size" 8 ||
	fail "ended with $?"
expect_in_report 'pages["out"] > 5000' 'pages["home"] > 5000' 'pages["live"] == 0' \
	'pages["poisoned"] == 0' "peak_ram < ram * $RAM_SLACK"
zd_run --device "file:$T/dev,size=512M" --ram "$((size / 3))M" -- \
	"$H/run_mem" threads "$((size / 2))" 8 || fail "on a file: ended with $?"
expect_in_report 'pages["out"] > 1000' 'pages["live"] == 0' 'pages["poisoned"] == 0'
export RUN_MEM_RAM=$((size / 6))
zd_run --device ram:size=1G --ram "$((size / 6))M" -- "$H/run_mem" leader "$((size / 2))" ||
	fail "the main thread has ended: $?"
expect_in_report 'pages["out"] > 1000' 'pages["live"] == 0' 'pages["poisoned"] == 0' \
	"peak_ram < ram * $RAM_SLACK"
