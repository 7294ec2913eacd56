#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A client can end its own connection only: beside a client that keeps no rule (nbd_rude.c),
# fio's verification goes on clean, the server's memory stays bounded, and no thread or
# descriptor is left of the rude client when it has gone.  With as many connections as there may
# be, or as there are descriptors for, the clients that are there go on; the end is clean.
#
# For as long as you like: ZD_SECONDS=3600 (make soak).
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires fio nbdinfo prlimit
seeded

acts=$(scaled 200)

# fds, threads: how many the server has
fds() {
	find "/proc/$SERVER/fd" -mindepth 1 2>/dev/null | wc -l
}
threads() {
	find "/proc/$SERVER/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l
}

# hold COUNT KIND: connections of nbd_rude, until let_go; $HELD is how many it has
hold() {
	[ -p "$T/never" ] || mkfifo "$T/never"
	start "$H/nbd_rude" "$sock" hold "$1" "$2" <>"$T/never" >"$T/held"
	HOLDER=$PID
	wait_for 30 "[ -s '$T/held' ] || gone $HOLDER" && [ -s "$T/held" ] || fail "nbd_rude hold $*"
	HELD=$(cat "$T/held")
}
let_go() {
	kill "$HOLDER"
	wait "$HOLDER" 2>/dev/null || true
}

all_gone() {
	wait_for 20 "[ \$(fds) -le $fds_before ] && [ \$(threads) -le $threads_before ]" ||
		fail "$1: $(fds) descriptors, $(threads) threads; were $fds_before, $threads_before"
}

# verify NAME: fio, in the first 48 MiB
verify() {
	fio_nbd "$1" --rw=randrw --bsrange=4k-64k --iodepth=8 --numjobs=2 --size=8m \
		--offset_increment=8m --verify=crc32c --verify_fatal=1 --fsync=64 \
		--randseed=$((SEED + RANDOM)) || fail "$1: $(cat "$T/$1.fio" "$T/serve.err")"
	! grep -E 'verify: bad|err=[^ ]' "$T/$1.fio" >&2 || fail "$1"
}

# rude: nbd_rude with the next seed, in the background
rude() {
	SEED=$((SEED + 1))
	start "$H/nbd_rude" "$sock" "$SEED" "$acts"
	RUDE=$PID
}

# round ADDRESS: fio for as long as nbd_rude runs
round() {
	sock=$1
	rude
	local times=0
	while [ "$times" = 0 ] || alive "$RUDE"; do
		verify beside
		times=$((times + 1))
	done
	wait "$RUDE" || fail "nbd_rude $SEED ended with $?: $(cat "$T/serve.err")"
}

# --- on a unix socket, then on TCP ---

for address in "--socket $T/s" "--port 0"; do
	# shellcheck disable=SC2086 # two words
	serve "pmem:$T/region,size=64M" $address
	sock=$T/s
	[ "$address" != "--port 0" ] || sock=${URI##*:}
	fds_before=$(fds) threads_before=$(threads)
	round "$sock"
	[ "$ZD_SANITIZER" != plain ] || {
		# Of the 48 connections that nbd_rude leaves behind, only a few have the 40 MiB that
		# one can have; the region is mapped, and counts, too.
		peak=$(awk '/^VmHWM/ { print $2 }' "/proc/$SERVER/status")
		[ "$peak" -lt $((640 << 10)) ] || fail "the server took $peak KiB"
	}
	all_gone "after all that"
	kill "$SERVER"
	ended 0
done
until=$((SECONDS + ${ZD_SECONDS:-0}))
serve "pmem:$T/region" --socket "$T/s"
sock=$T/s
fds_before=$(fds) threads_before=$(threads)
while [ "$SECONDS" -lt "$until" ]; do
	round "$T/s"
done

# --- hundreds at once: they go on, and new ones are let in afterwards ---

for many in '120 mute' '120 idle' '40 unread'; do
	# shellcheck disable=SC2086 # two words
	hold $many
	[ "$HELD" = "${many% *}" ] || fail "$HELD of $many connections"
	verify "beside-${many#* }"
	let_go
	all_gone "after $many"
done
kill "$SERVER"
ended 0

# --- as many as there may be ---

serve "pmem:$T/other,size=64M" --socket "$T/s" --max-clients 20
sock=$T/s
fds_before=$(fds) threads_before=$(threads)
# nbd_client has four connections, and checks what it reads.
client words
hear loaded
hold 16 idle
[ "$HELD" = 16 ] || fail "$HELD of 16 idle connections"
nbdinfo --size "$URI" >"$T/out" 2>&1 && fail "one more than 20 was let in"
grep -q 'turned away: there are 20' "$T/serve.err" || fail "$(cat "$T/serve.err")"
let_go
wait_for 20 "nbdinfo --size '$URI' >'$T/out' 2>&1" || fail "no client is let in again"
# Connections that haven't shaken hands make room.
hold 40 mute
[ "$(nbdinfo --size "$URI")" = $((64 << 20)) ] || fail "kept out by mute connections"
let_go
kill "$SERVER"
ended 0
hear "down ESHUTDOWN *"
serve "pmem:$T/other" --socket "$T/s"
ask up
hear "ok *"
hear loaded
kill "$SERVER"
ended 0
hear "down *"
end_client

# --- no descriptors left ---

serve "pmem:$T/region" --socket "$T/s"
fds_before=$(fds) threads_before=$(threads)
prlimit --pid "$SERVER" --nofile=40:40
hold 100 mute
wait_for 20 "grep -q 'Too many open files' '$T/serve.err'" || fail "$(cat "$T/serve.err")"
# A line a second, not one an attempt.
[ "$(wc -l <"$T/serve.err")" -lt 40 ] || fail "it floods the log"
let_go
verify afterwards
all_gone "without descriptors"

# --- the end, beside clients that don't read ---

hold 5 unread
kill "$SERVER"
# The server gives them 5 seconds; the bound here is against hanging.
ended 0
[ ! -e "$T/s" ] || fail "the socket is left behind"
let_go
