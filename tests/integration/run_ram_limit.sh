#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The program's memory in RAM stays within 10 % of --ram, as the kernel counts it,
# while it grows, and while it is used at random; more RAM is not left unused.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

size=120
export RUN_MEM_RAM
for ram in $((size / 3)) $((size * 2 / 3)); do
	RUN_MEM_RAM=$ram
	"$ZD_SRC/scripts/peak_anon" --name run_mem "$T/peak" \
		"$ZONEDEV" run --report "$T/report.json" --device ram:size=1G --ram "${ram}M" -- \
		"$H/run_mem" check "$size" || fail "ended with $?"
	peak=$(cat "$T/peak")
	[ "$peak" -le $((ram * 1048576 / 10 * 11)) ] ||
		fail "peak $((peak >> 20)) MiB of $ram MiB allowed"
	[ "$peak" -ge $((ram * 1048576 / 10 * 9)) ] ||
		fail "peak $((peak >> 20)) MiB, and $ram MiB were allowed"
	# and zonedev's own figure is about the same
	expect_in_report "0.8 < peak_ram / $peak < 1.2"
done

# Two processes have one budget (with a budget for each it would be twice as much).
RUN_MEM_RAM=$((size / 3))
"$ZD_SRC/scripts/peak_anon" --name run_mem "$T/peak" \
	"$ZONEDEV" run --quiet --device ram:size=1G --ram "${RUN_MEM_RAM}M" -- \
	"$H/run_mem" pair "$((size / 2))" || fail "ended with $?"
peak=$(cat "$T/peak")
[ "$peak" -le $((size * 1048576 / 30 * 12)) ] ||
	fail "two processes: peak $((peak >> 20)) MiB of $((size / 3)) MiB allowed"

# A heap that grows steadily isn't cut into many mappings.  (There were 640 once.)
zd_run --device ram:size=256M --ram 16M -- "$H/run_mem" grow 40 >"$T/heaps" || fail "ended with $?"
[ "$(cat "$T/heaps")" -le 160 ] || fail "a heap became $(cat "$T/heaps") mappings"

# Pages that children share with their parent are not counted for each child.  (The children
# live for several of zonedev's readings, which can't be seen from here.  It was 350 MiB and
# more once.)
zd_run --device ram:size=256M --ram 256M -- python3 -c "
import os, time
shared = b'x' * (48 << 20)
for child in range(48):
    if not os.fork():
        time.sleep(0.5)
        os._exit(0)
for child in range(48):
    os.wait()" || fail "ended with $?"
expect_report peak_ram -lt $((200 << 20))
