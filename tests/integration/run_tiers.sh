#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Several devices: the first is used first, what the first has no room for goes to the next, the
# report says what went where, and programs compute what they compute without.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

three=(--device ram:size=8M --device ram:size=8M --device "file:$T/dev,size=256M")

# --- the order ---
# A program of which $1 MiB don't fit into RAM: as many devices as that needs have pages.
export RUN_MEM_RAM=12
out_of() {
	zd_run "${three[@]}" --ram 12M -- "$H/run_mem" check "$1" || fail "check $1: ended with $?"
	expect_in_report '[d["name"] for d in devices] == ["ram", "ram-2", "file"]' \
		'[d["size"] for d in devices] == [8 << 20, 8 << 20, 256 << 20]' \
		'device == "ram" and device_size == 272 << 20' \
		'all(d["state"] == "used" and d["live"] == 0 == d["errors"] for d in devices)' \
		'sum(d["home"] for d in devices) == pages["home"]' \
		'sum(d["out"] - d["moved"] for d in devices) == pages["out"]' \
		'pages["live"] == 0 == pages["poisoned"]' 'peak_ram < ram * 1.6'
}
# what doesn't fit into RAM is little more than half of the first device
out_of 14
expect_in_report 'devices[0]["out"] > 0' 'devices[1]["out"] == 0 == devices[2]["out"]' \
	'not devices[0]["full"]'
out_of 64
expect_in_report 'all(d["out"] > 500 for d in devices)' 'devices[0]["out"] > devices[0]["size"] / 4096'
unset RUN_MEM_RAM

# --- programs ---
# sort, of lines that compress, and python with a graph, under three devices at once: with and
# without compressed RAM in front
mb=$(scaled 16 8)
awk -v n=$((mb * 10486)) 'BEGIN {
	srand(2017)
	for (i = 0; i < n; i++)
		printf "%08x%08x %010d %072d\n", rand() * 4294967296, rand() * 4294967296, i, i
}' >"$T/in"
sort -S 1G --parallel=1 "$T/in" -o "$T/plain"
cat >"$T/graph.py" <<'END'
import random, sys
rng = random.Random(11)
nr = int(sys.argv[1])
nodes = [{"id": i, "to": [rng.randrange(nr) for _ in range(6)], "load": bytes([i % 7]) * 200}
         for i in range(nr)]
seen, todo, steps = bytearray(nr), [0], 0
while todo:
    node = nodes[todo.pop()]
    steps += 1
    for to in node["to"]:
        if not seen[to]:
            seen[to] = 1
            todo.append(to)
total = sum(n["id"] * (i % 13) + sum(n["to"]) + n["load"][0] for i, n in enumerate(nodes))
print(sum(seen), steps, total)
END
nr=$(scaled 36000 18000)
python=$(python3 -c 'import sys; print(sys.executable)')
graph=$("$python" "$T/graph.py" "$nr")

for first in ram:size=8M lz4; do
	devices=(--device "$first" --device ram:size=8M --device "file:$T/dev,size=256M")
	zd_run "${devices[@]}" --ram "$((mb * 9 / 8))M" -- \
		sort -S 1G --parallel=1 "$T/in" -o "$T/managed" || fail "$first: sort ended with $?"
	cmp "$T/plain" "$T/managed" >&2 || fail "$first: sorted differently"
	expect_in_report 'devices[0]["out"] > 0' 'pages["home"] > 0' \
		'pages["live"] == 0 == pages["poisoned"]' 'all(d["live"] == 0 for d in devices)'
	got=$(zd_run "${devices[@]}" --ram "$(scaled 20 10)M" -- "$python" "$T/graph.py" "$nr") ||
		fail "$first: python3 ended with $?"
	[ "$got" = "$graph" ] || fail "$first: the graph is $got, not $graph"
	expect_in_report 'devices[0]["out"] > 0' 'pages["home"] > 0' \
		'pages["live"] == 0 == pages["poisoned"]'
done
expect_in_report 'devices[0]["stats"]' 'devices[0]["ram"] < 1 << 20'

# --- the default: compressed RAM, then a file ---
zd_run --ram "$(scaled 20 10)M" -- "$python" "$T/graph.py" "$nr" >"$T/out" || fail "the default: ended with $?"
[ "$(cat "$T/out")" = "$graph" ] || fail "the default: the graph is $(cat "$T/out")"
expect_in_report '[d["name"] for d in devices] == ["lz4", "file"]' 'devices[0]["out"] > 0' \
	'pages["live"] == 0 == pages["poisoned"]'
# Without a place for the file it is compressed RAM alone, and the user is told.
expect_status 0 env TMPDIR="$T/none" "$ZONEDEV" run --report "$T/report.json" --ram "$(scaled 20 10)M" -- \
	"$python" "$T/graph.py" "$nr"
[ "$OUT" = "$graph" ] || fail "lz4 alone: the graph is $OUT"
grep -q "can't make a file .*stay in RAM" <<<"$ERR" || fail "no word on the file: $ERR"
expect_in_report '[d["name"] for d in devices] == ["lz4"]' 'pages["live"] == 0 == pages["poisoned"]'
