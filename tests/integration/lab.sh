#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What docs/thread.md says of each protocol is what the lab finds when it tries, and
# its figures are those of docs/thread.tsv.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

# Times are the same whatever the build, or worse.
mode=$([ "$ZD_SANITIZER" = plain ] && echo --quick || echo --try)
"$ZD_SRC/lab/run.sh" "$ZD_BUILD" "$T/out" "$mode"

# expect NAME VALUE-OF-a ... VALUE-OF-f
expect() {
	local name=$1 p got
	shift
	for p in a b c d e f; do
		got=$(awk -F '\t' -v p=$p -v n="$name" '$1 == p && $2 == n { print $3 }' "$T/out/thread.tsv")
		[ "$got" = "$1" ] || fail "($p) $name: $got, not $1"
		shift
	done
}
expect free_heard never never never yes yes yes
expect remove_held waits waits waits waits waits waits
expect remove_gup waits gone waits waits waits waits
expect heard_held no no no yes yes no
expect wait_first ends ends never-ends never-ends never-ends ends
expect late_lookup taken taken taken taken,freed-twice taken,freed-twice refused

"$ZD_SRC/lab/tables" --check "$ZD_SRC/docs/thread.md" "$ZD_SRC/docs/thread.tsv" ||
	fail "docs/thread.md: figures"
