#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Memory behind a guard page is memory like any other, however many such blocks there are:
# only thread stacks are not.  Pages that the kernel writes when a thread ends stay in RAM.
# Pages that were freed lazily and are used again don't.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

run() {
	zd_run --device ram:size=512M --ram 16M -- "$H/run_guards" "$@"
	expect_report pages.out -gt 0
}

run heap 64 24
# natively 0.1 s
blocks=$(scaled 1200)
[ "$blocks" -ge 700 ] || blocks=700
timeout 40 "$ZONEDEV" run --report "$T/report.json" --device ram:size=512M --ram 16M -- \
	"$H/run_guards" blocks "$blocks" || fail "$blocks blocks behind guard pages: $?"
expect_report pages.out -gt 0
run robust
run stack
run word
# in RAM and in no queue, until the patrol finds them
run free
