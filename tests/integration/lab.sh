#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What docs/thread.md says of each protocol is what the lab finds when it tries,
# and a put that is inlined stays small.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires gcc size

# The text is the same whatever the build.
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

[ "$mode" = --quick ] && [ "$(uname -m)" = x86_64 ] || exit 0
awk -F '\t' '$1 == "f" && $2 == "text_put" { found = 1; if ($3 > 24) { print "a put takes " $3 " bytes"; exit 1 } }
	END { exit !found }' "$T/out/thread.tsv" || fail "text of an inlined put"
