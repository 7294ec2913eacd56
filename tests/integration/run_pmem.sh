#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Persistent memory as the device of a run: what comes out is the same, and what fails is a page's
# error, never the supervisor's end.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

shm=$(mktemp -d /dev/shm/zd-run-pmem.XXXXXX) || skip "/dev/shm is not writable"
on_exit "rm -rf '$shm'"

# --- sort, on a file that is made: by address; on one that is there, by copy, and on a disk, by threads ---
mb=$(scaled 16 8)
awk -v n=$((mb * 10486)) 'BEGIN {
	srand(2017)
	for (i = 0; i < n; i++)
		printf "%08x%08x %010d %072d\n", rand() * 4294967296, rand() * 4294967296, i, i
}' >"$T/in"
sort -S 1G --parallel=1 "$T/in" -o "$T/plain"
truncate -s 256M "$T/old" "$shm/old"
for device in "pmem:$shm/new,size=256M" "pmem:memfd:swap,size=256M" "pmem:$shm/old" "pmem:$T/old"; do
	zd_run --device "$device" --ram "$((mb * 12 / 10))M" -- \
		sort -S 1G --parallel=1 "$T/in" -o "$T/managed" || fail "$device: sort ended with $?"
	cmp "$T/plain" "$T/managed" >&2 || fail "$device: sorted differently"
	expect_in_report 'pages["out"] > 0' 'pages["home"] > 0' 'pages["live"] == 0' \
		'pages["poisoned"] == 0'
done
[ ! -e "$shm/new" ] || fail "the file that was made is still there"
for file in "$shm/old" "$T/old"; do
	[ "$(stat -c '%a %s %b' "$file")" = "600 268435456 0" ] ||
		fail "the program's memory was left in the file: $(stat "$file")"
done

# --- a medium that is in use, or holds data ---
mkfifo "$T/in1" "$T/in2"
exec 8<>"$T/in1" 9<>"$T/in2"
size=$(scaled 96)
[ "$size" -ge 48 ] || size=48

# hold FIFO DEVICE...: a program with its memory on these, as $RUN; ends with the fifo
hold() {
	local fifo=$1 devices=()
	shift
	for device; do
		devices+=(--device "$device")
	done
	start "$ZONEDEV" run --report "$T/report.json" "${devices[@]}" --ram "$((size / 3))M" -- \
		"$H/run_mem" hold "$size" <"$fifo" >"$T/out" 2>"$T/err" 8>&- 9>&-
	RUN=$PID
	wait_for 20 "grep -q ready '$T/out'" || fail "$*: didn't start: $(cat "$T/err")"
}

truncate -s 512M "$shm/shared"
hold "$T/in1" "pmem:$shm/shared"
expect_error "$shm/shared is open as a region already" \
	"$ZONEDEV" run --device "pmem:$shm/shared" -- true
echo precious >"$T/data"
truncate -s 4M "$T/data"
expect_error "$T/data holds data: name a new or empty file, or overwrite it with force=on" \
	"$ZONEDEV" run --device "pmem:$T/data" -- true
[ "$(head -c 8 "$T/data")" = precious ] || fail "refused, but not left alone"

# --- the file is cut in the middle: what was behind is lost, and nothing else ---
truncate -s 64K "$shm/shared"
echo >&8
status=0
wait "$RUN" || status=$?
[ "$status" = $((128 + 7)) ] || fail "the file was cut, and: $status: $(cat "$T/out" "$T/err")"
! grep -q ok "$T/out" || fail "what was lost was read as good"
grep -q "truncated by somebody else" "$T/err" || fail "$(head "$T/err")"
expect_in_report 'status["signal"] == 7' 'pages["poisoned"] > 0' 'pages["live"] == 0'

# --- the same to a file without a name, which is used by address, through /proc: the supervisor
# loads and stores where there is nothing any more ---
hold "$T/in2" "pmem:$shm/cut,size=512M"
cut=
for fd in /proc/"$RUN"/fd/*; do
	case $(readlink "$fd") in
	"$shm/cut (deleted)") cut=$fd ;;
	esac
done
[ -n "$cut" ] || fail "no deleted file among the supervisor's"
truncate -s 64K "$cut"
echo >&9
status=0
wait "$RUN" || status=$?
[ "$status" = $((128 + 7)) ] || fail "the file was cut, and: $status: $(cat "$T/out" "$T/err")"
expect_in_report 'status["signal"] == 7' 'pages["poisoned"] > 0' 'pages["live"] == 0'

# --- three of them, and each is taken away while the program looks at all of its memory ---
truncate -s 8M "$shm/dax"
hold "$T/in2" pmem:memfd:first,size=8M "dax:$shm/dax" "pmem:$T/old"
for device in pmem dax pmem-2; do
	: >"$T/out"
	echo >&9
	expect_status 0 "$ZONEDEV" remove --timeout 60 "$RUN" "$device"
	wait_for 60 "grep -q ok '$T/out'" || fail "without $device: $(cat "$T/err")"
done
exec 8>&- 9>&-
wait "$RUN" || fail "ended with $?: $(cat "$T/err")"
expect_in_report 'all(d["state"] == "removed" and d["out"] > 0 for d in devices)' \
	'len(devices) == 3' 'pages["live"] == 0' 'pages["poisoned"] == 0'
[ "$(stat -c %b "$shm/dax")" = 0 ] || fail "the program's memory was left in the file"

# --- no room for what the file's size promises: stores by address fail, and nothing is lost ---
if mkdir "$T/small" && mount -t tmpfs -o "size=$((size / 6))M" tmpfs "$T/small" 2>/dev/null; then
	on_exit "umount '$T/small'"
	zd_run --device "pmem:$T/small/dev,size=1G" --ram "$((size / 3))M" -- \
		"$H/run_mem" check "$size" 2>"$T/err" || fail "ended with $?: $(cat "$T/err")"
	expect_in_report 'pages["out"] > 0' 'refused["device"] > 0' 'pages["poisoned"] == 0' \
		'pages["live"] == 0'
else
	say "mount is not allowed: a full file system is not tried"
fi
