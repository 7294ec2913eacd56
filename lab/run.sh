#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# lab/run.sh BUILD OUT [MODE]: run the lab with the programs of BUILD/lab and write
# OUT/thread.tsv, thread.md and thread.svg.  `make lab` calls it.  For tests, with OUT/thread.tsv
# only: --quick, few rounds and no text; --try, nothing measured; --text, the text of
# zonedev's own calls and nothing else.
set -eu -o pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:?usage: lab/run.sh BUILD OUT [--quick|--try|--text]}" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
mode=${3:-}
protocols='a b c d e f'
: "${CC:=gcc}"

# x86 kernels of 2017 aligned functions, but not jumps and loops in them.
as_kernel='-falign-functions=1 -falign-jumps=1 -falign-loops=1'
# As debugging kernels are built: loads checked, branches counted.
debug='-fsanitize=kernel-address --param asan-instrumentation-with-call-threshold=0 -fprofile-arcs'

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# compile FLAGS PROTOCOL CALL: "text data" of the call sites; CALL may be empty.
# Text is the functions' own, without the padding between them.  Inline means
# inline; callers that look alike stay apart.
compile() {
	# shellcheck disable=SC2086 # flags are words
	$CC -std=gnu11 -O2 -fno-ipa-icf '-Dinline=inline __attribute__((__always_inline__))' \
		$1 -I"$here" -I"$here/../include" -I"$here/.." -DLAB_PROTOCOL="\"$2.h\"" \
		${3:+"-DLAB_CALL=$3"} -c "$here/sites.c" -o "$tmp/sites.o"
	nm -S -t d "$tmp/sites.o" | awk 'NF == 4 && $3 ~ /[tT]/ { text += $2 } END { printf "%d ", text }'
	size "$tmp/sites.o" | awk 'NR == 2 { print $2 }'
}

# texts SUFFIX FLAGS PROTOCOL... -- CALL...: bytes of text and of data for one call,
# of each kind
texts() {
	local suffix=$1 flags=$2 chosen='' p call base
	shift 2
	while [ "$1" != -- ]; do
		chosen+=" $1"
		shift
	done
	shift
	base=$(compile "$flags" c '')
	for p in $chosen; do
		for call; do
			echo "$base $(compile "$flags" "$p" "lab_$call")" |
				awk -v k="$p" -v c="$call$suffix" '{
					printf "%s text_%s %.3f\n", k, c, ($3 - $1) / 1000
					printf "%s data_%s %.3f\n", k, c, ($4 - $2) / 1000 }'
		done
	done
}

# The same work for all of them, several times in turn: the machine drifts.
passes=$([ "$mode" ] && echo 1 || echo 3)
[ "$mode" != --text ] || passes=0
: >"$tmp/runs"
for ((pass = 1; pass <= passes; pass++)); do
	for p in $protocols; do
		"$build/lab/lab_$p" ${mode:+"$mode"} | sed "s/^/$p /" >>"$tmp/runs"
	done
	[ "$mode" ] || echo "lab: pass $pass of $passes" >&2
done

case $mode in
--text)
	texts _own '' f -- get put >>"$tmp/runs"
	texts _only -DLAB_ONLY f -- put >>"$tmp/runs"
	;;
'')
	# shellcheck disable=SC2086 # words
	{
		texts '' "$as_kernel" $protocols -- get put
		texts _debug "$as_kernel $debug" $protocols -- get put
		texts _own '' $protocols -- put
		texts _only -DLAB_ONLY $protocols -- put
		texts _linux "$as_kernel -DLAB_AS_LINUX" $protocols -- get put
	} >>"$tmp/runs"
	;;
esac

# The median over the passes; what was tried must come out the same each time.
{
	[ "$mode" ] ||
		echo "# $(uname -m), $(nproc) CPUs ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r | sed 's/-.*//'), $($CC -dumpfullversion | sed 's/^/gcc /')"
	awk '
	{ k = $1 "\t" $2; if (!(k in n)) order[++nk] = k; v[k, ++n[k]] = $3 }
	END {
		for (i = 1; i <= nk; i++) {
			k = order[i]
			if (v[k, 1] !~ /^-?[0-9.]+$/) {
				for (j = 2; j <= n[k]; j++)
					if (v[k, j] != v[k, 1]) { print "lab: " k " varies" >"/dev/stderr"; exit 1 }
				print k "\t" v[k, 1]
				continue
			}
			for (a = 1; a <= n[k]; a++)
				for (b = a + 1; b <= n[k]; b++)
					if (v[k, b] < v[k, a]) { x = v[k, a]; v[k, a] = v[k, b]; v[k, b] = x }
			print k "\t" v[k, int((n[k] + 1) / 2)]
		}
	}' "$tmp/runs"
} >"$out/thread.tsv"
[ -z "$mode" ] || exit 0

"$here/tables" "$out/thread.tsv" >"$out/thread.md"

if ! command -v gnuplot >/dev/null; then
	echo "lab: no plot: gnuplot is missing (make deps)" >&2
	exit 0
fi
for p in $protocols; do
	awk -F '\t' -v p="$p" '$1 == p { v[$2] = $3 } END {
		print "(" p ")", v["ram_alone_ns"], v["dev_alone_ns"], v["ram_two_same_ns"], v["dev_two_same_ns"], v["text_get"], v["text_put"] }' "$out/thread.tsv"
done >"$tmp/plot"
gnuplot <<END
set terminal svg size 900,380 font "sans,12" background "white"
set output "$out/thread.svg"
set multiplot layout 1,3
set style data histogram
set style histogram cluster gap 1
set style fill solid 0.9 border -1
set boxwidth 0.9
set grid ytics
set yrange [0:*]
set key top right
set title "get + put, alone, ns"
plot "$tmp/plot" using 2:xtic(1) title "RAM page" lc rgb "#88aadd", "" using 3 title "device page" lc rgb "#dd8855"
set title "two threads on one page, ns"
plot "$tmp/plot" using 4:xtic(1) title "RAM page" lc rgb "#88aadd", "" using 5 title "device page" lc rgb "#dd8855"
set title "text per inlined call, bytes"
plot "$tmp/plot" using 6:xtic(1) title "get" lc rgb "#99bb99", "" using 7 title "put" lc rgb "#557755"
unset multiplot
END
