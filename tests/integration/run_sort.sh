#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# GNU sort with half of the memory that it needs, the rest on a file.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

mb=$(scaled 32)
ram=$((mb * 12 / 10))
awk -v n=$((mb * 10486)) 'BEGIN {
	srand(2017)
	for (i = 0; i < n; i++)
		printf "%08x%08x %010d %072d\n", rand() * 4294967296, rand() * 4294967296, i, i
}' >"$T/in"
sort -S 1G --parallel=1 "$T/in" -o "$T/plain"

zd_run --device "${TEST_DEVICE:-file:$T/dev,size=256M}" --ram "${ram}M" -- \
	sort -S 1G --parallel=1 "$T/in" -o "$T/managed" || fail "sort ended with $?"
cmp "$T/plain" "$T/managed" >&2 || fail "sorted differently"
expect_report pages.out -gt 0
expect_report pages.home -gt 0
expect_report pages.live -eq 0
expect_report pages.poisoned -eq 0
# sort takes memory as fast as it reads, so the limit is loose; run_ram_limit.sh has the strict
# one
[ "$ZD_SANITIZER" != plain ] || expect_in_report 'peak_ram < ram * 1.25'
