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

# arguments PROBE: how many it has, according to the man page
arguments() {
	# shellcheck disable=SC2016 # troff
	sed -n "s/^\\.BI $1(\\(.*\\))\$/\\1/p" "$ZD_SRC/docs/man/zonedev-probes.7" | tr -cd ',' | wc -c
}

# gdb_commands PROBE...: print "PROBE name arguments" at each, and run
gdb_commands() {
	local p i n
	echo 'set breakpoint pending off'
	echo 'set pagination off'
	echo 'set debuginfod enabled off'
	for p; do
		n=$(($(arguments "$p") + 1))
		printf 'break -probe-stap zonedev:%s\ncommands\nsilent\n' "$p"
		printf 'printf "PROBE %s' "$p"
		for ((i = 0; i < n; i++)); do printf ' %%lu'; done
		printf '\\n"'
		# shellcheck disable=SC2016 # gdb's
		for ((i = 0; i < n; i++)); do printf ', (long)$_probe_arg%d' "$i"; done
		printf '\ncontinue\nend\n'
	done
	echo 'run'
}

# watch PROGRAM [ARGUMENT]: under gdb; what was printed, in $T/out
watch() {
	gdb -nx -batch -x "$T/gdb" --args "$@" >"$T/out" 2>"$T/err" ||
		fail "gdb: $(tail -n 5 "$T/err")"
}

gdb_commands page_ref_get page_ref_put page_ref_free pagemap_kill pagemap_release >"$T/gdb"
ZONEDEV_PAGE_TRACE=1 watch "$ZD_BUILD/tests/integration/probes_prog"
grep '^PROBE\|^PROGRAM' "$T/out" | sed 's/^PROBE //' >"$T/fired"
pfn=$(sed -n 's/^PROGRAM //p' "$T/fired")
[ -n "$pfn" ] || fail "the program did not run: $(tail -n 5 "$T/out" "$T/err")"
id=$(sed -n "s/^page_ref_free $pfn //p" "$T/fired")
sed -i '/^PROGRAM/d' "$T/fired"
cat >"$T/want" <<END
page_ref_get $pfn 2 1
page_ref_put $pfn 2 1
page_ref_get $pfn 2 1
page_ref_put $pfn 2 1
page_ref_get $pfn 4 3
page_ref_put $pfn 4 3
page_ref_put $pfn 1 1
page_ref_free $pfn ${id:-?}
pagemap_kill $pfn 512
pagemap_release $pfn 512
END
diff "$T/want" "$T/fired" >"$T/diff" || fail "not what was expected: $(cat "$T/diff")"

# Without the environment's word the branch stays a NOP.
watch "$ZD_BUILD/tests/integration/probes_prog"
grep -q 'PROBE page_ref_free' "$T/out" || fail "gdb: $(tail -n 5 "$T/err")"
if grep -q 'PROBE page_ref_[gp][eu]t' "$T/out"; then fail "traced without being asked to"; fi

# Migrations, faults and pins, with either kind of device.
gdb_commands migrate_begin migrate_end fault_begin fault_end page_ref_pin page_ref_unpin \
	page_ref_free pagemap_kill pagemap_release >"$T/gdb"
for device in ram file; do
	watch "$ZD_BUILD/tests/integration/probes_move" "$device"
	if grep -q ^SKIP: "$T/out"; then
		grep ^SKIP: "$T/out"
		exit 77
	fi
	grep -q ^DONE "$T/out" || fail "$device: $(tail -n 5 "$T/out" "$T/err")"
	python3 - "$T/out" <<'END' || fail "$device: $(grep '^P[RI]' "$T/out")"
import sys

PAGE, PAGES, ROOM = 4096, 8, 64
events = []
for line in open(sys.argv[1]):
    word = line.split()
    if word[:1] == ["PROBE"]:
        events.append((word[1], *map(int, word[2:])))
    elif word[:1] == ["PROGRAM"]:
        addr, dev = int(word[1]), int(word[2])
    elif word[:1] == ["PINNED"]:
        pinned = int(word[1])

def of(*names):
    return [e for e in events if e[0] in names]

# Each batch that begins ends, with the same direction and address; what goes out
# comes home, each page once.
moves = of("migrate_begin", "migrate_end")
for begin, end in zip(moves[::2], moves[1::2]):
    assert begin[0] == "migrate_begin" and end[0] == "migrate_end", moves
    assert begin[1:3] == end[1:3] and begin[3] == end[3] > 0, moves
    assert addr <= begin[2] < addr + PAGES * PAGE, moves
ends = of("migrate_end")
assert len(moves) == 2 * len(ends)
assert moves[0] == ("migrate_begin", 0, addr, PAGES), moves
for home in 0, 1:
    assert sum(e[3] for e in ends if e[1] == home) == PAGES, moves

# The fault of the first page that was away, served by bringing it; and that of
# the page that never was.  (gdb stops the thread that waits, and it faults again:
# that one begins often.)
never = addr + (2 * PAGES - 1) * PAGE
faults = of("fault_begin", "fault_end")
assert faults[0][:2] == ("fault_begin", addr), faults
end = of("fault_end")[0]
assert addr <= end[1] < addr + PAGES * PAGE and end[2] > 0, faults
home = next(e for e in events if e[:2] == ("migrate_begin", 1))
assert events.index(faults[0]) < events.index(home) < events.index(end), events
assert home[2] == end[1], events
assert of("fault_end")[-1][:2] == ("fault_end", never), faults
assert all(e[2] & 1 for e in faults if e[:2] == ("fault_begin", never)), faults

# Device pages are given back once each, then the device goes.
freed = [e[1] for e in of("page_ref_free") if dev <= e[1] < dev + ROOM]
assert len(freed) == len(set(freed)) == PAGES, freed
assert of("page_ref_pin") == [("page_ref_pin", pinned, 1)] * 2, events
assert of("page_ref_unpin") == [("page_ref_unpin", pinned, 1)] * 2, events
assert [e for e in events if e[1:] == (dev, ROOM)] == \
    [("pagemap_kill", dev, ROOM), ("pagemap_release", dev, ROOM)], events
END
done
