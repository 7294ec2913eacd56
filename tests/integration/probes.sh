#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The library and the command list every probe that zonedev-probes(7) documents
# and no other; they fire, with the arguments that it gives; and gets and puts in
# code that was not compiled for tracing have nothing of it.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires readelf
[ -e /usr/include/sys/sdt.h ] || [ -e "/usr/include/$(gcc -print-multiarch)/sys/sdt.h" ] ||
	skip "built without <sys/sdt.h> (systemtap-sdt-dev)"

# shellcheck disable=SC2016 # troff
sed -n 's/^\.BI \([a-z_]*\)( pfn.*\|^\.BI \([a-z_]*\)( [ah].*/\1\2/p' \
	"$ZD_SRC/docs/man/zonedev-probes.7" | sort -u >"$T/documented"
[ "$(wc -l <"$T/documented")" = 11 ] || fail "documented: $(tr '\n' ' ' <"$T/documented")"
for f in "$ZD_BUILD/lib/libzonedev.so" "$ZONEDEV"; do
	readelf -n "$f" | awk '/Provider: / { p = $2 } /Name: / { if (p == "zonedev") print $2 }' |
		sort -u >"$T/there"
	# Nothing in the command was compiled for tracing of gets and puts, and it
	# pins nothing.
	[ "$f" != "$ZONEDEV" ] ||
		sed -i '/^page_ref_[gp][eu]t$/d; /pin$/d' "$T/documented" "$T/there"
	diff "$T/documented" "$T/there" >"$T/diff" || fail "$f: $(cat "$T/diff")"
done

# They fire: gdb stops at each, and prints the arguments.  gdb and the thread
# sanitizer's signal handling don't go together, nor do leaks and ptrace.
[ "$ZD_SANITIZER" = plain ] || exit 0
requires gdb
# shellcheck disable=SC2028 # gdb's escapes
{
	echo 'set breakpoint pending off'
	echo 'set pagination off'
	echo 'set debuginfod enabled off'
	for p in page_ref_get page_ref_put page_ref_free pagemap_kill pagemap_release; do
		echo "break -probe-stap zonedev:$p"
		echo 'commands'
		echo 'silent'
		case $p in
		page_ref_get | page_ref_put)
			echo "printf \"PROBE $p %lu %lu %lu\\n\", (long)\$_probe_arg0, (long)\$_probe_arg1, (long)\$_probe_arg2"
			;;
		*)
			echo "printf \"PROBE $p %lu %lu\\n\", (long)\$_probe_arg0, (long)\$_probe_arg1"
			;;
		esac
		echo 'continue'
		echo 'end'
	done
	echo 'run'
} >"$T/gdb"
ZONEDEV_PAGE_TRACE=1 gdb -nx -batch -x "$T/gdb" "$ZD_BUILD/tests/integration/probes_prog" >"$T/out" 2>"$T/err" ||
	fail "gdb: $(tail -n 5 "$T/err")"
grep '^PROBE\|^PROGRAM' "$T/out" | sed 's/^PROBE //' >"$T/fired"
pfn=$(sed -n 's/^PROGRAM //p' "$T/fired")
[ -n "$pfn" ] || fail "the program did not run: $(tail -n 5 "$T/out" "$T/err")"
sed -i '/^PROGRAM/d' "$T/fired"
cat >"$T/want" <<END
page_ref_get $pfn 2 1
page_ref_put $pfn 2 1
page_ref_get $pfn 2 1
page_ref_put $pfn 2 1
page_ref_put $pfn 1 1
page_ref_free $pfn 1
pagemap_kill $pfn 512
pagemap_release $pfn 512
END
diff "$T/want" "$T/fired" >"$T/diff" || fail "not what was expected: $(cat "$T/diff")"

# Without the environment's word the branch stays a NOP.
gdb -nx -batch -x "$T/gdb" "$ZD_BUILD/tests/integration/probes_prog" >"$T/out" 2>"$T/err"
grep -q 'PROBE page_ref_free' "$T/out" || fail "gdb: $(tail -n 5 "$T/err")"
if grep -q 'PROBE page_ref_[gp][eu]t' "$T/out"; then fail "traced without being asked to"; fi
