#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The backing file is truncated, under load and without: see nbd_truncate.c.  The server
# lives.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires nbdinfo
seeded

rounds=6
[ "$ZD_SANITIZER" = plain ] || rounds=2
kinds=(load quiet)

for ((round = 0; round < rounds; round++)); do
	rm -f "$T/region"
	serve "pmem:$T/region,size=16M"
	"$H/nbd_truncate" "$URI" "$T/region" $((SEED + round)) "${kinds[round % 2]}" ||
		fail "$(cat "$T/serve.err")"
	nbdinfo --size "$URI" >"$T/size" || fail "the server takes no clients any more"
	kill "$SERVER"
	ended 0
done
# Hundreds of requests have failed, each of which could have a line.
[ "$(wc -l <"$T/serve.err")" -lt 100 ] || fail "the log is flooded: $(tail "$T/serve.err")"
