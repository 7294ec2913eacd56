#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One client's flush, or write of less than a sector, doesn't stop the others, and none of
# them loses what another wrote beside it: see nbd_apart.c.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
own_msync

serve "pmem:$T/region,size=8M"
on_exit "rm -f '$T/hold'"	# or the server wouldn't end
rm -f "$T/log"		# with the syncs of opening the region
"$H/nbd_apart" "$URI" "$T" || fail "nbd_apart: $? $(cat "$T/serve.err")"
rm -f "$T/hold"
# A durable write syncs its own range, a flush all.
grep -qx 4096 "$T/log" || fail "no sync of a page: $(cat "$T/log")"
[ "$(grep -cx 8388608 "$T/log")" = 2 ] || fail "not two syncs of all: $(cat "$T/log")"
kill "$SERVER"
ended 0
