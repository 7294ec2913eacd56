#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A sync that failed is reported: by the request, by every later flush of every client, by
# zonedev remove, and still when the region is back; until another server opens the region.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires qemu-io
own_msync
region=$T/region

# qemu-io reports a failed flush by its exit status only.
flush_fails() {
	! qemu-io -f raw -c flush "$URI" >"$T/io" 2>&1 || fail "a flush succeeds"
}

serve "pmem:$region,size=8M"
qemu-io -f raw -c "write -P 1 0 4k" -c flush "$URI" >"$T/io" 2>&1 || fail "$(cat "$T/io")"
touch "$T/fail"
# A durable write of one client fails.
io "Input/output error" "write -f -P 2 8k 4k"
rm "$T/fail"
# The disk is well again, and the flushes of all clients fail all the same.
flush_fails
io "Input/output error" "write -f -P 2 1M 4k"
expect_status 3 "$ZONEDEV" remove "$region"
[ "$(wc -l <<<"$ERR")" = 1 ] || fail "remove says: $ERR"
[[ $ERR == "zonedev: $region: "*durable* ]] || fail "remove says: $ERR"
expect_status 0 "$ZONEDEV" add "$region"
flush_fails
grep -q "flushes go on failing" "$T/serve.err" || fail "add isn't told of: $(cat "$T/serve.err")"
expect_status 3 "$ZONEDEV" remove "$region"
kill "$SERVER"
ended 0
# Another server of the region doesn't know of the failure.
serve "pmem:$region"
qemu-io -f raw -c "write -f -P 3 0 4k" -c flush "$URI" >"$T/io" 2>&1 || fail "$(cat "$T/io")"
expect_status 0 "$ZONEDEV" remove "$region"
expect_status 0 "$ZONEDEV" add "$region"
# The removal's own sync fails, with a timeout.
io wrote "write -P 4 0 4k"
touch "$T/fail"
expect_status 3 "$ZONEDEV" remove --timeout 20 "$region"
rm "$T/fail"
expect_status 0 "$ZONEDEV" add "$region"
flush_fails
kill "$SERVER"
ended 1	# the last sync of all fails, too
