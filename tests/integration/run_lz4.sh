#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs with part of their memory compressed: right answers, and what doesn't compress stays.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

# Text, at each kind of level: sort's heap is 17 MB.
awk -v nr="$(scaled 150000 112500)" 'BEGIN {
	srand(7)
	for (i = 0; i < nr; i++)
		printf "%d the quick brown fox %d jumps over %d\n", rand() * 1e9, rand() * 1e3, i
}' >"$T/lines"
LC_ALL=C sort -S 200M --parallel=2 "$T/lines" >"$T/want"
for level in 1 3; do
	LC_ALL=C zd_run --device "lz4:level=$level" --ram "$(scaled 14 10)M" -- \
		sort -S 200M --parallel=2 "$T/lines" >"$T/got" || fail "sort ended with $?"
	cmp "$T/want" "$T/got" || fail "level $level: sorted otherwise"
	# sort is done in a moment, before a sanitizer's zonedev has begun
	if [ "$ZD_SANITIZER" = plain ]; then
		expect_report pages.out -gt 300
		expect_report pages.home -gt 300
	fi
	expect_report pages.poisoned -eq 0
	expect_report pages.live -eq 0
done

# Small objects that come and go: what is freed is compacted away meanwhile.
got=$(zd_run --device lz4: --ram "$(scaled 16 12)M" -- python3 -c "
import random
random.seed(1)
table = {i: [i, str(i) * 3, {i: i + 1}] for i in range($(scaled 30000 22500))}
for round in range(2):
    for i in list(table):
        if random.random() < 0.5:
            del table[i]
    for i in range(0, $(scaled 30000 22500), 2):
        table[i] = [i, str(i) * 3, {i: i + 1}]
    assert all(v == [k, str(k) * 3, {k: k + 1}] for k, v in table.items())
print('right')") || fail "python3 ended with $?"
[ "$got" = right ] || fail "said: $got"
expect_report pages.out -gt 1000
expect_report pages.live -eq 0

# Noise doesn't compress, and there is no other device: it stays, and is right.
zd_run --device lz4:max=8M --ram 16M -- python3 -c "
import os, hashlib
noise = [os.urandom(1 << 20) for i in range(32)]
sums = [hashlib.sha1(n).digest() for n in noise]
assert all(hashlib.sha1(n).digest() == s for n, s in zip(noise, sums))" || fail "ended with $?"
expect_report pages.poisoned -eq 0

# Keys that are wrong are told in a line.
for wrong in level=13 level=0 max=1M max=101% size=1G; do
	expect_error "$wrong" "$ZONEDEV" run --device "lz4:$wrong" --ram 16M -- true
done
