#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Whatever is wrong before the program starts: one line that says what to do, exit
# status 2, and the program is not started.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run

mark=$T/started

# error TEXT OPTION...
error() {
	local text=$1
	shift
	expect_error "$text" "$ZONEDEV" run "$@" -- touch "$mark"
	[ ! -e "$mark" ] || fail "$*: the program was started"
}

# --- the command line ---
expect_error "no command" "$ZONEDEV" run
expect_error "no command" "$ZONEDEV" run --ram 64M --
error "--frob" --frob
error "-x" -x
error "--ram" --ram ""
for size in 0 -1 x 12Q 1.5 1.5.5G .5G 64MB 99999999999999999999 20000000000G 10Mi; do
	error "--ram $size" --ram "$size"
done
for size in 1 4K 4M; do
	error "at least 8M" --ram "$size"
done
expect_error "--device needs a value" "$ZONEDEV" run --device
expect_error "--quiet and --verbose" "$ZONEDEV" run --quiet --verbose -- touch "$mark"

# --- the device ---
error "tape" --device tape:size=1G
error "ram:" --device ram
for spec in ram: ram:size= ram:size=0 ram:size=1 ram:size=4K ram:size=x ram:size=1G,speed=9 \
	ram:size=1G,size=1G ram:size=999999999G file: file:,size=1G "file:$T/d,size=1K" \
	"file:$T/d,size=" "file:$T/d,force=maybe,size=1G" "file:$T/d,colour=red"; do
	error "--device $spec" --device "$spec"
done
error "$T/no/where" --device "file:$T/no/where,size=64M"
error "$T" --device "file:$T,size=64M"
error /dev/null --device file:/dev/null,size=64M
error "$ZONEDEV/under" --device "file:$ZONEDEV/under,size=64M"
# of several, the one that is wrong is named
error "--device tape:x" --device ram:size=64M --device "file:$T/d,size=64M" --device tape:x
[ ! -e "$T/d" ] || fail "an error left $T/d behind"

# A file that isn't empty is not overwritten, unless with force=on.
head -c 100000 /dev/urandom >"$T/precious"
cp "$T/precious" "$T/copy"
error "force=on" --device "file:$T/precious,size=64M"
cmp "$T/precious" "$T/copy" >&2 || fail "refused, but not left alone"
expect_status 0 "$ZONEDEV" run --quiet --device "file:$T/precious,size=64M,force=on" --ram 16M -- \
	"$H/run_mem" check 32
[ "$(stat -c %s "$T/precious")" = 0 ] || fail "the program's memory was left in the file"

# Two runs don't share a file.
: >"$T/shared"
mkfifo "$T/in"
exec 8<>"$T/in"
start "$ZONEDEV" run --quiet --device "file:$T/shared,size=64M" --ram 16M -- \
	"$H/run_mem" hold 8 <"$T/in" >"$T/out"
wait_for 10 "[ -s '$T/out' ]" || fail "didn't start"
error "$T/shared" --device "file:$T/shared,size=64M"
end "$PID"

# --- the program ---
# as much of an ELF file as zonedev reads: without an interpreter, or for 32 bits
printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\076\0\1\0\0\0%040d' 0 >"$T/static"
printf '\177ELF\1\1\1\0\0\0\0\0\0\0\0\0\2\0\003\0\1\0\0\0%040d' 0 >"$T/old"
head -c 40 "$T/static" >"$T/x" && head -c 24 /dev/zero >>"$T/x" && mv "$T/x" "$T/static"
chmod +x "$T/static" "$T/old"
expect_error "statically linked" "$ZONEDEV" run --device ram:size=64M -- "$T/static"
expect_error "32-bit" "$ZONEDEV" run --device ram:size=64M -- "$T/old"

# --- privileges ---
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	# the user "nobody" may not look into the build directory
	mkdir -m 777 "$T/pub"
	chmod 711 "$T" "${TMPDIR:-/var/tmp}"
	cp "$ZONEDEV" "$(dirname "$ZONEDEV")/libzonedev-preload.so" "$T/pub/"
	nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all)
	expect_error "CAP_SYS_PTRACE" "${nobody[@]}" "$T/pub/zonedev" run \
		--device ram:size=64M -- touch "$T/pub/started"
	[ ! -e "$T/pub/started" ] || fail "started without the privilege"
	# a file that can't be read, with CAP_SYS_PTRACE but without CAP_DAC_OVERRIDE
	: >"$T/pub/secret"
	chmod 600 "$T/pub/secret"
	ptrace=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+sys_ptrace
		--ambient-caps=+sys_ptrace)
	if "${ptrace[@]}" "$T/pub/zonedev" info >/dev/null 2>&1; then
		expect_error "$T/pub/secret" "${ptrace[@]}" "$T/pub/zonedev" run \
			--device "file:$T/pub/secret,size=64M" -- touch "$T/pub/started"
		[ ! -e "$T/pub/started" ] || fail "started with a device that can't be opened"
	fi
	rm "$T/pub/libzonedev-preload.so"
	expect_error "preload library" "$T/pub/zonedev" run \
		--device ram:size=64M -- touch "$T/pub/started"
else
	say "not root: missing privileges are not tried"
fi
