#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# python3 builds a structure of 200 MB, with 128 MB of RAM, and finds it as it was.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

nr=$(scaled 240000)
cat >"$T/build.py" <<'END'
import sys

def record(i):
    return {"id": i, "name": f"record {i}", "words": [i * k for k in range(8)],
            "blob": bytes([i % 251]) * 120}

nr = int(sys.argv[1])
table = {f"key {i}": record(i) for i in range(nr)}
for i in range(0, nr, 7):
    table[f"key {i}"]["words"].append("seven")
    if i % 3 == 0:
        del table[f"key {i}"]["blob"]
for i in range(nr):
    want = record(i)
    if i % 7 == 0:
        want["words"].append("seven")
        if i % 3 == 0:
            del want["blob"]
    if table.pop(f"key {i}") != want:
        sys.exit(f"record {i} is wrong")
print(len(table), "left")
END
python=$(python3 -c 'import sys; print(sys.executable)')
got=$(zd_run --device "${TEST_DEVICE:-ram:size=1G}" --ram "$(scaled 128)M" -- \
	"$python" "$T/build.py" "$nr") || fail "python3 ended with $?"
[ "$got" = "0 left" ] || fail "said: $got"
expect_report pages.out -gt 1000
expect_report pages.home -gt 1000
expect_report pages.live -eq 0
