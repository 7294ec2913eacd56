#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a region has lost reads as errors, also from the next server: after a kill, and after
# the file was cut while no server had it, moved, or copied with its attributes.  It never reads
# as zeros, unless zeros were written there.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires qemu-io
region=$T/region
python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.zd", b"1")' "$T" 2>/dev/null ||
	skip "needs extended attributes in $T"

lost() {
	io "read failed: Input/output error" "read $1 $2"
}

has() {
	io "read $((${4:-4096}))/" "read -P $1 $2 $3"
}

killed() {
	kill -KILL "$SERVER"
	ended 137
}

serve "pmem:$region,size=1M"
io wrote "write -P 7 0 1M" flush
truncate -s 256K "$region"
lost 512k 4k
truncate -s 1M "$region"
lost 512k 4k
killed
serve "pmem:$region,size=1M"
lost 512k 4k
lost 252k 8k
has 7 252k 4k
grep -q "786432 bytes of it were lost" "$T/serve.err" || fail "nothing said: $(cat "$T/serve.err")"
# What was written after the loss reads well, without a flush.
io wrote "write -P 8 512k 4k"
killed
serve "pmem:$region"
has 8 512k 4k
lost 516k 4k
kill "$SERVER"
ended 0

# The file is moved, and copied.
mv "$region" "$T/moved"
cp --preserve=xattr "$T/moved" "$T/copied"
for f in moved copied; do
	serve "pmem:$T/$f"
	has 8 512k 4k
	lost 1020k 4k
	io wrote "write -z 256k 768k" flush
	has 0 1020k 4k
	kill "$SERVER"
	ended 0
done
serve "pmem:$T/moved"
has 0 1020k 4k
kill "$SERVER"
ended 0

# The file is cut while no server has it.
mv "$T/moved" "$region"
truncate -s 128K "$region"
expect_error "had 1048576" "$ZONEDEV" serve "pmem:$region" --port 0
expect_error "truncate -s 1048576" "$ZONEDEV" serve "pmem:$region,size=1M" --port 0
truncate -s 1M "$region"
serve "pmem:$region"
has 7 124k 4k
lost 128k 4k
kill "$SERVER"
ended 0
: >"$region"
expect_error "all is lost" "$ZONEDEV" serve "pmem:$region,size=1M" --port 0
rm "$region"
serve "pmem:$region,size=1M"
has 0 0 4k
# Removed, cut, and brought back: that gives no zeros either.
io wrote "write -P 9 0 1M" flush
expect_status 0 "$ZONEDEV" remove "$region"
truncate -s 512K "$region"
expect_error "had 1048576" "$ZONEDEV" add "$region"
truncate -s 1M "$region"
expect_status 0 "$ZONEDEV" add "$region"
has 9 508k 4k
lost 512k 4k
kill "$SERVER"
ended 0

# A record of losses that can't be understood isn't taken for an empty one.
python3 -c '
import os, sys
old = os.getxattr(sys.argv[1], "user.zonedev.region")
os.setxattr(sys.argv[1], "user.zonedev.region", old[:-1] + bytes([old[-1] ^ 1]))
' "$region"
expect_error "setfattr -x user.zonedev.region" "$ZONEDEV" serve "pmem:$region" --port 0
