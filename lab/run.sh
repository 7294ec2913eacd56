#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# lab/run.sh BUILD OUT [--quick|--try]: run the lab with the programs of BUILD/lab and
# write OUT/thread.tsv, thread.md and thread.svg.  `make lab` calls it.  For tests,
# OUT/thread.tsv only: --quick, few rounds and one call's text; --try, nothing
# measured.
set -eu -o pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:?usage: lab/run.sh BUILD OUT [--quick]}" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
quick=${3:-}
protocols='a b c d e f'
: "${CC:=gcc}"
# Compiling takes longest.
text_protocols=$([ "$quick" ] && echo f || echo "$protocols")
sites=$([ "$quick" ] && echo 200 || echo 1000)
text_calls=$([ "$quick" ] && echo put || echo get put)

# Calls of get_page, folio_get and of put_page, folio_put in the .c and .h files of
# Linux 6.1.192 (Debian's linux-source-6.1; in 2017 all of them were get_page and
# put_page), without definitions, declarations and comments.  What headers inline
# again, and the linker keeps, comes on top.
kernel_gets=267
kernel_puts=1068

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# compile FLAGS PROTOCOL CALL: "text data" of the call sites; CALL may be empty.
# Inline means inline, and code isn't aligned, as in x86 kernels of 2017; and callers that look alike stay
# apart.
compile() {
	# shellcheck disable=SC2086 # flags are words
	$CC -std=gnu11 -fno-pic -fno-pie -fno-asynchronous-unwind-tables -falign-functions=1 -falign-jumps=1 -falign-loops=1 \
		-fno-ipa-icf '-Dinline=inline __attribute__((__always_inline__))' \
		$1 -I"$here" -I"$here/../include" -I"$here/.." -DLAB_PROTOCOL="\"$2.h\"" \
		${3:+"-DLAB_CALL=$3"} ${quick:+-DLAB_FEW} -c "$here/sites.c" -o "$tmp/sites.o"
	size "$tmp/sites.o" | awk 'NR == 2 { print $1, $2 }'
}

# texts SUFFIX FLAGS: bytes of text and of data for one call, of each kind
texts() {
	local p call base with
	base=$(compile "$2" c '')
	for p in $text_protocols; do
		for call in $text_calls; do
			with=$(compile "$2" "$p" "lab_$call")
			echo "$base $with" | awk -v k="$p" -v c="$call$1" -v n="$sites" '{
				printf "%s text_%s %.3f\n", k, c, ($3 - $1) / n
				printf "%s data_%s %.3f\n", k, c, ($4 - $2) / n }'
		done
	done
}

# The same work for all of them, several times in turn: the machine drifts.
passes=$([ "$quick" ] && echo 1 || echo 3)
for pass in $(seq "$passes"); do
	for p in $protocols; do
		"$build/lab/lab_$p" ${quick:+"$quick"} | sed "s/^/$p /" >>"$tmp/runs"
	done
	[ "$quick" ] || echo "lab: pass $pass of $passes" >&2
done

[ "$quick" = --try ] ||
	texts '' -O2 >>"$tmp/runs"
# As debugging kernels are built: loads checked, branches counted.
[ "$quick" ] ||
	texts _debug '-O2 -fsanitize=kernel-address --param asan-instrumentation-with-call-threshold=0 -fprofile-arcs' >>"$tmp/runs"

# The median over the passes; what was tried must come out the same each time.
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
	}' "$tmp/runs" >"$out/thread.tsv"
[ "$quick" ] && exit 0

{
	echo "Measured on $(uname -m), $(nproc) CPUs ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r | sed 's/-.*//'), $($CC -dumpfullversion | sed 's/^/gcc /')."
	awk -F '\t' -v gets=$kernel_gets -v puts=$kernel_puts '
	{ v[$1, $2] = $3 }
	function row(name, key, fmt,   i, s) {
		s = "| " name
		for (i = 1; i <= 6; i++)
			s = s " | " (fmt == "t" ? v[P[i], key] : sprintf(fmt, v[P[i], key]))
		print s " |"
	}
	function kib(suffix,   i, s) {
		s = ""
		for (i = 1; i <= 6; i++)
			s = s sprintf(" | %.1f", (gets * v[P[i], "text_get" suffix] + puts * v[P[i], "text_put" suffix]) / 1000)
		return s " |"
	}
	END {
		split("a b c d e f", P, " ")
		head = "| (a) v4.5 | (b) + generic GUP | (c) v4.12 | (d) hook | (e) hook, static key | (f) zonedev |\n|---|---|---|---|---|---|---|"
		print "\nOne get and put, ns (beside it: in bare atomic pairs of the same round)\n"
		print "| " head
		split("ram_alone_nodev ram_alone dev_alone ram_two_own dev_two_own ram_two_same dev_two_same", K, " ")
		N["ram_alone_nodev"] = "RAM page, no device about"; N["ram_alone"] = "RAM page, a device about"
		N["dev_alone"] = "device page"; N["ram_two_own"] = "RAM, 2 threads, a page each"
		N["dev_two_own"] = "device, 2 threads, a page each"; N["ram_two_same"] = "RAM, 2 threads, one page"
		N["dev_two_same"] = "device, 2 threads, one page"
		for (k = 1; k <= 7; k++) {
			s = "| " N[K[k]]
			for (i = 1; i <= 6; i++)
				s = s sprintf(" | %.1f (%.2f)", v[P[i], K[k] "_ns"], v[P[i], K[k] "_ratio"])
			print s " |"
		}
		print "\nText for one inlined call, bytes (of 1,000 compiled)\n"
		print "| " head
		row("get, -O2", "text_get", "%.1f"); row("put, -O2", "text_put", "%.1f")
		row("put: table in data", "data_put", "%.1f")
		row("get, KASAN + gcov", "text_get_debug", "%.1f"); row("put, KASAN + gcov", "text_put_debug", "%.1f")
		printf "| %d gets + %d puts, -O2, kB%s\n", gets, puts, kib("")
		printf "| the same, KASAN + gcov, kB%s\n", kib("_debug")
		print "\nWhat was tried\n"
		print "| " head
		row("the driver hears the free", "free_heard", "t")
		row("removal while a page is held", "remove_held", "t")
		row("... and after a GUP of that page", "remove_gup", "t")
		row("driver told \"free\" while it is held", "heard_held", "t")
		row("wait before releasing the pages", "wait_first", "t")
		row("late lookup of a freed page", "late_lookup", "t")
	}' "$out/thread.tsv"
} >"$out/thread.md"

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
