#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# kill -9 of the server while a client and fio write: what was acknowledged is there
# after a restart, and with btt=on no block is torn.  SIGTERM under the same load ends
# the server, and loses nothing either.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires fio
seeded

rounds=20
[ "$ZD_SANITIZER" = plain ] || rounds=5

# start_fio: a while later fio_writes
start_fio() {
	: >"$T/fio.out"
	fio --name=killed --ioengine=nbd --uri="$URI" --rw=randwrite --bs=16k --offset=32m \
		--size=16m --iodepth=16 --time_based --runtime=60 --fsync=64 >"$T/fio.out" 2>&1 &
	FIO=$!
}

fio_writes() {
	wait_for 20 "grep -q 'connected to NBD' '$T/fio.out'" ||
		fail "fio doesn't start: $(cat "$T/fio.out")"
}

fio_is_told() {
	wait_for 20 "gone $FIO" || fail "fio goes on without a server"
	! wait "$FIO" || fail "fio didn't notice that its server was killed"
}

# kills SPEC WHAT ROUNDS SIGNAL STATUS [FIO]: ROUNDS times the server of SPEC gets SIGNAL and
# ends with STATUS; nbd_client, of kind WHAT, has the region's first 32 MiB, fio the next 16
kills() {
	local spec=$1 rest round writes flushed fua torn
	serve "$spec"
	[ $# -lt 6 ] || start_fio
	client "$2"
	for ((round = 0; round < $3; round++)); do
		hear loaded
		[ $# -lt 6 ] || fio_writes
		sleep 0.0$((RANDOM % 10))
		kill "-$4" "$SERVER"
		ended "$5"
		hear "down *"
		serve "$spec"
		[ $# -lt 6 ] || fio_is_told
		[ $# -lt 6 ] || start_fio
		ask up
		hear "ok *"
	done
	# The line is explained in nbd_client.c.
	read -r _ writes flushed fua torn <<<"$LINE"
	say "$spec: $writes writes acknowledged, $flushed flushed, $fua FUA: all there; $torn torn"
	[ "$writes" -gt 100 ] && [ "$flushed" -gt 0 ] && [ "$fua" -gt 0 ] || fail "no load: $LINE"
	hear loaded
	kill -KILL "$SERVER"
	ended 137
	hear "down *"
	[ $# -lt 6 ] || fio_is_told
	end_client
	# This command also removes the sockets of killed servers.
	rest=${spec#pmem:}
	expect_error "no server" "$ZONEDEV" remove "${rest%%,*}"
	! find /run/zonedev ~/.zonedev -name "*.$SERVER" 2>/dev/null |
		grep . || fail "a control socket is left behind"
}

kills "pmem:$T/region,size=64M" words "$rounds" KILL 137 fio
# In memory, where a server that is killed is more often in the middle of a copy.
shm=$(mktemp -d /dev/shm/zd-test.XXXXXX)
on_exit "rm -rf '$shm'"
kills "pmem:$shm/region,size=64M,btt=on" whole "$rounds" KILL 137
kills "pmem:$T/btt,size=64M,btt=on" whole 5 TERM 0
