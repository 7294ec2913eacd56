#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# redis-server: filled over its socket, changed while it saves (a fork), read back.
# What it holds, and what it saved, is as of a plain server.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

requires redis-server redis-cli
nr=$(scaled 80000)
redis=(redis-server --port 0 --save '' --enable-debug-command local --loglevel warning
	--daemonize no --appendonly no)

# commands FROM VALUE: SETs of every FROMth key
commands() {
	awk -v nr="$nr" -v step="$1" -v what="$2" 'BEGIN {
		for (i = 0; i < nr; i += step)
			printf "SET key:%d \"%s %d %0400d\"\r\n", i, what, i, i * 17
	}'
}

cli() {
	redis-cli -s "$T/$1.sock" "${@:2}"
}

up() {
	wait_for 20 "[ -S '$T/$1.sock' ] && [ \"\$(cli $1 ping 2>/dev/null)\" = PONG ]" ||
		fail "the $1 server doesn't answer"
}

digest() {
	cli "$1" debug digest
}

mkdir "$T/managed" "$T/plain" "$T/loaded"
start "$ZONEDEV" run --report "$T/report.json" --device "${TEST_DEVICE:-ram:size=1G}" \
	--ram "$(scaled 32)M" -- \
	"${redis[@]}" --unixsocket "$T/managed.sock" --dir "$T/managed"
managed=$PID
start "${redis[@]}" --unixsocket "$T/plain.sock" --dir "$T/plain"
up managed
up plain

commands 1 first | cli managed --pipe >/dev/null
commands 1 first | cli plain --pipe >/dev/null
before=$(digest plain)
[ "$(digest managed)" = "$before" ] || fail "filled, but not with what was sent"

# A snapshot is of the moment of the fork, whatever is written meanwhile.
cli managed bgsave >/dev/null
commands 3 second | cli managed --pipe >/dev/null
commands 3 second | cli plain --pipe >/dev/null
wait_for 60 "cli managed info persistence | grep rdb_bgsave_in_progress:0 >/dev/null" ||
	fail "still saving"
cli managed info persistence | tr -d '\r' | grep -x rdb_last_bgsave_status:ok >/dev/null ||
	fail "saving failed"
[ "$(digest managed)" = "$(digest plain)" ] || fail "holds something else than was written"
for i in 0 1 3 $((nr / 2)) $((nr - 1)); do
	[ "$(cli managed get "key:$i")" = "$(cli plain get "key:$i")" ] || fail "key:$i"
done

start "${redis[@]}" --unixsocket "$T/loaded.sock" --dir "$T/managed"
up loaded
[ "$(digest loaded)" = "$before" ] || fail "the dump is not what there was when it began"

cli managed shutdown nosave
wait "$managed" || fail "redis-server ended with $?"
expect_report pages.out -gt 1000
expect_report pages.home -gt 1000
expect_report pages.live -eq 0
expect_report processes -ge 2
