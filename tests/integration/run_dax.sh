#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Device-dax as the device of a run; a file stands for it.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run
requires python3

shm=$(mktemp -d /dev/shm/zd-run-dax.XXXXXX) || skip "/dev/shm is not writable"
on_exit "rm -rf '$shm'"

# A graph that is walked: each node leads to three others.
cat >"$T/graph.py" <<'END'
import random, sys

nr = int(sys.argv[1])
rng = random.Random(2017)
graph = [{"next": [], "name": f"node {i}", "blob": bytes([i % 251]) * 200} for i in range(nr)]
for node in graph:
    node["next"] = [graph[rng.randrange(nr)] for _ in range(3)]
at, total = graph[0], 0
for step in range(2 * nr):
    total = (total * 31 + len(at["name"]) + at["blob"][step % 200]) % 1000000007
    at = at["next"][step % 3]
print(total)
END
nr=$(scaled 120000)
python=$(python3 -c 'import sys; print(sys.executable)')
want=$("$python" "$T/graph.py" "$nr")
truncate -s 512M "$shm/dax"
for device in "dax:$shm/dax" "pmem:memfd:graph,size=512M"; do
	got=$(zd_run --device "$device" --ram "$(scaled 48)M" -- "$python" "$T/graph.py" "$nr") ||
		fail "$device: python3 ended with $?"
	[ "$got" = "$want" ] || fail "$device: said $got, not $want"
	expect_in_report 'pages["out"] > 1000' 'pages["home"] > 1000' 'pages["live"] == 0' \
		'pages["poisoned"] == 0'
done

truncate -s 5M "$shm/odd"
expect_error "which is not a multiple of 2 MiB" "$ZONEDEV" run --device "dax:$shm/odd" -- true
expect_error "isn't there: create it first" "$ZONEDEV" run --device "dax:$shm/none" -- true
expect_error "is neither device-dax nor a file in its place" \
	"$ZONEDEV" run --device "dax:$T" -- true
expect_error "dax device: unknown option" "$ZONEDEV" run --device "dax:$shm/dax,size=1G" -- true
