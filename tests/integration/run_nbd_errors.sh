#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random reads and writes over a server that is slow, and of whose answers one of a hundred is an
# error: the program sees neither.
#
# 16 MiB in 4 MiB with 2 ms, or all of it, 512 MiB in 64 MiB with 10 ms: ZD_NBD_FULL=1.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/remote.sh
. "$(dirname "$0")/../lib/remote.sh"
requires_run
requires nbdkit

size=16 ram=8 delay=2ms threads=8
if [ "${ZD_NBD_FULL:-0}" = 1 ]; then
	size=512 ram=64 delay=10ms threads=64
fi
# error= is for all requests: what is read, written and trimmed
# a small program would be done before zonedev has begun (run_mem.c)
export RUN_MEM_RAM=$ram
remote --filter=error --filter=delay memory 1G error-rate=1% "rdelay=$delay" "wdelay=$delay"
zd_run --device "nbd:$URI,connections=4" --ram "${ram}M" -- \
	"$H/run_mem" threads "$size" "$threads" 2>"$T/err" || fail "ended with $?: $(cat "$T/err")"
expect_report pages.out -gt 0
expect_report pages.home -gt 0
expect_report pages.live -eq 0
expect_report pages.poisoned -eq 0
grep -q "injecting EIO error" "$T/remote.err" || fail "the server made no error"
