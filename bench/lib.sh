# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For benchmarks in bash, which bench/run runs:
#
#	. "$(dirname "$0")/lib.sh"
#
# gives what tests/lib/lib.sh gives, with $T in $BENCH_DIR (/dev/shm: nothing is written
# back while it is measured), and the function below.  $ZONEDEV is the command
# (build/tools/zonedev).  A benchmark exits with 77 where the host lacks something.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${ZONEDEV:=$top/build/tools/zonedev}"
TMPDIR=${BENCH_DIR:-/dev/shm}
[ -d "$TMPDIR" ] || { echo "SKIP: no $TMPDIR"; exit 77; }
# shellcheck source=tests/lib/lib.sh
. "$top/tests/lib/lib.sh"

# result WHAT UNIT GOAL [NOTE]: a line for bench/run, from lines "OURS THEIRS" on stdin, one
# a turn; ratios are of one turn.  GOAL: '<= 3', or '- -' for none.
result() {
	awk -v what="$1" -v unit="$2" -v goal="${3/ /$'\t'}" -v note="${4:-}" '
		function sort_up(a, n,    i, j, t) {
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && a[j] < a[j - 1]; j--) {
					t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
				}
		}
		function at(n, part) { return 1 + int((n - 1) * part + 0.5) }
		{ ours[NR] = $1 + 0; theirs[NR] = $2 + 0; ratio[NR] = $1 / $2 }
		END {
			sort_up(ours, NR); sort_up(theirs, NR); sort_up(ratio, NR)
			printf "RESULT\t%s\t%s\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%s\t%s\n", what, unit,
				ours[at(NR, .5)], theirs[at(NR, .5)], ratio[at(NR, .5)],
				ratio[at(NR, .1)], ratio[at(NR, .9)], goal, note
		}'
}
