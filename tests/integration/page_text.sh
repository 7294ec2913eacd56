#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What zd_get_page() and zd_put_page() cost each caller in text: 1,000 sites of them,
# compiled from zonedev/page.h with nothing but -O2, less the same without.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires gcc nm size
[ "$(uname -m)" = x86_64 ] || exit 0	# the bounds are x86-64's

"$ZD_SRC/lab/run.sh" "$ZD_BUILD" "$T/out" --text

# at_most KEY BYTES
at_most() {
	local got
	got=$(awk -F '\t' -v k="$1" '$1 == "f" && $2 == k { print $3 }' "$T/out/thread.tsv")
	awk -v got="${got:-none}" -v most="$2" 'BEGIN { exit !(got > 0 && got + 0 <= most) }' ||
		fail "$1: ${got:-no result}, not $2"
	echo "$1: $got"
}
at_most text_get_own 4
at_most text_put_own 24
echo "RESULT: bytes of text: $(awk -F '\t' '/text_(get|put)_own/ { sub(/text_/, "", $2); sub(/_own/, "", $2); printf "%s %.1f ", $2, $3 }' "$T/out/thread.tsv")"
