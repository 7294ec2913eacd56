#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `zonedev remove PID DEVICE`: each device of a run is taken away, while its program works on memory
# that is there and has pages pinned by io_uring; in every order, down to none.  Nothing is lost, the
# driver has let go of the device, and what is on it goes to the others.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/remote.sh
. "$(dirname "$0")/../lib/remote.sh"
requires_run

rounds=20
[ "$ZD_SANITIZER" = plain ] || rounds=4
slowest=0

# What runs: memory that is written and checked at random, and buffers that the kernel has pinned,
# over and over until $T/stop is there.
cat >"$T/load" <<'LOAD'
again() {
	while [ ! -e "$T/stop" ]; do
		"$@" || { got=$?; [ "$got" = 77 ] && break; exit "$got"; }
		: >"$T/went.$2"
	done
}
(again "$H/run_mem" threads 24 2) & one=$!
(again "$H/run_io" fixed 16 "$T/scratch") & two=$!
wait "$one" || exit
wait "$two"
LOAD
export T H

for ((round = 0; round < rounds; round++)); do
	rm -f "$T/stop" "$T"/went.*
	start "$ZONEDEV" run --report "$T/report.json" --device ram:size=8M --device ram:size=16M \
		--device "file:$T/dev,size=256M" --ram 12M -- sh "$T/load" 2>"$T/err"
	run=$PID
	wait_for 30 "$ZONEDEV stat --json $run >'$T/s' 2>&1 &&
		[ \"\$(json '$T/s' devices.2.out)\" -gt 100 ]" ||
		fail "the devices aren't used: $(cat "$T/s" "$T/err")"
	all=(ram ram-2 file)
	for ((i = 0; i < 3; i++)); do
		dev=${all[(round + i) % 3]}
		before=${EPOCHREALTIME/./}
		expect_status 0 "$ZONEDEV" remove --timeout 40 "$run" "$dev"
		ms=$(((${EPOCHREALTIME/./} - before) / 1000))
		[ "$ms" -le "$slowest" ] || slowest=$ms
		"$ZONEDEV" stat --json "$run" >"$T/s" || fail "the run ended: $(cat "$T/err")"
		python3 -c '
import json, sys
d = {d["name"]: d for d in json.load(open(sys.argv[1]))["devices"]}[sys.argv[2]]
sys.exit(d["state"] != "removed" or d["live"] != 0)' "$T/s" "$dev" || fail "$dev: $(cat "$T/s")"
		if [ "$dev" = file ]; then
			! readlink "/proc/$run/fd"/* | grep -F "$T/dev" >&2 || fail "the file is still open"
		fi
		# The program goes on, through memory that was there.
		rm -f "$T"/went.*
		[ $((round % 5)) != 0 ] || wait_for 30 "[ -e '$T/went.threads' ]" ||
			fail "without $dev the program doesn't go on: $(cat "$T/err")"
	done
	expect_error "was removed before" "$ZONEDEV" remove "$run" file
	touch "$T/stop"
	wait "$run" || fail "round $round: the program ended with $?: $(cat "$T/err")"
	expect_in_report 'pages["poisoned"] == 0' 'pages["live"] == 0' 'len(devices) == 3' \
		'all(d["state"] == "removed" and d["out"] > 0 for d in devices)' 'device == "ram"'
done
grep -q "no device is left" "$T/err" || fail "nobody said that no device is left: $(cat "$T/err")"

# --- a device that doesn't answer ---
# Whoever waits is told for what; the removal goes on by itself when the time is over, and ends when
# the device answers.
if command -v nbdkit >/dev/null; then
	rm -f "$T/stop" "$T"/went.*
	remote memory 256M
	start "$ZONEDEV" run --report "$T/report.json" --device ram:size=4M \
		--device "nbd:$URI,timeout=5m" --device "file:$T/dev,size=256M" --ram 12M -- \
		sh "$T/load" 2>"$T/err"
	run=$PID
	wait_for 30 "$ZONEDEV stat --json $run >'$T/s' 2>&1 &&
		[ \"\$(json '$T/s' devices.1.live)\" -gt 100 ]" ||
		fail "nbd isn't used: $(cat "$T/s" "$T/err")"
	stop_remote
	expect_status 1 "$ZONEDEV" remove --timeout 2.5 "$run" nbd
	grep -q '^zonedev: nbd: waiting for [1-9][0-9]* pages of process [1-9]' <<<"$ERR" ||
		fail "not told for what it waits: $ERR"
	grep -q '^zonedev: nbd: still held by .*goes on by itself' <<<"$ERR" || fail "held: $ERR"
	"$ZONEDEV" stat --json "$run" >"$T/s"
	[ "$(json "$T/s" devices.1.state)" = leaving ] || fail "not leaving: $(cat "$T/s")"
	kill -CONT "$REMOTE"
	wait_for 40 "$ZONEDEV stat --json $run >'$T/s' &&
		[ \"\$(json '$T/s' devices.1.state)\" = removed ]" || fail "nbd stays: $(cat "$T/s")"
	touch "$T/stop"
	wait "$run" || fail "the program ended with $?: $(cat "$T/err")"
	expect_in_report 'pages["poisoned"] == 0' 'pages["live"] == 0'
	end "$REMOTE"
fi

say "$rounds rounds; the slowest removal took $slowest ms"
