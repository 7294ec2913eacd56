#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# zonedev serve: what it refuses, where it listens, how it ends; the plugin under
# plain nbdkit; and what clients may ask for, one by one.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires nbdkit nbdinfo nbdcopy ss

# --- bad usage: one line, and nothing is made ---

refused() {
	expect_error "$@"
	[ ! -e "$T/new" ] || fail "$*: a region was made"
}

sock=$T/s
refused "nothing to serve" "$ZONEDEV" serve
refused "is no region" "$ZONEDEV" serve "file:$T/new"
refused "no path" "$ZONEDEV" serve pmem:
refused "no path" "$ZONEDEV" serve pmem:size=1M
refused "unknown option 'sise=1M'" "$ZONEDEV" serve "pmem:$T/new,sise=1M"
refused "multiple of 4096" "$ZONEDEV" serve "pmem:$T/new,size=1000"
refused "not a size" "$ZONEDEV" serve "pmem:$T/new,size=big"
refused "btt=on or btt=off" "$ZONEDEV" serve "pmem:$T/new,size=1M,btt=maybe"
refused "twice" "$ZONEDEV" serve "pmem:$T/new,btt=on,btt=on"
refused "--frob" "$ZONEDEV" serve "pmem:$T/new,size=1M" --frob
refused "one region a server" "$ZONEDEV" serve "pmem:$T/new,size=1M" extra
refused "needs a value" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket
refused "exclude each other" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$sock" --port 1
refused "exclude each other" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$sock" --bind ::1
refused "not a port" "$ZONEDEV" serve "pmem:$T/new,size=1M" --port 65536
refused "not a port" "$ZONEDEV" serve "pmem:$T/new,size=1M" --port 1x
refused "not an address" "$ZONEDEV" serve "pmem:$T/new,size=1M" --bind nowhere
refused "can't listen" "$ZONEDEV" serve "pmem:$T/new,size=1M" --bind 192.0.2.1 --port 0
refused "longer than" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/$(printf '%0100d' 0)"
refused "No such file" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/none/s"
refused "$T/new" "$ZONEDEV" serve "pmem:$T/new" --socket "$sock"
refused "$T/new" "$ZONEDEV" serve "pmem:$T/new,size=1M" --read-only --socket "$sock"
refused "$T/none/new" "$ZONEDEV" serve "pmem:$T/none/new,size=1M" --socket "$sock"
refused "$T" "$ZONEDEV" serve "pmem:$T,size=1M" --socket "$sock"
echo data >"$T/file"
refused "there already" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/file"
refused "$T/file" "$ZONEDEV" serve "pmem:$T/file" --socket "$sock"
[ ! -e "$sock" ] || fail "a socket was left behind"
refused "nbdkit is missing" env PATH=/nowhere "$ZONEDEV" serve "pmem:$T/new,size=1M"

refused "one region" "$ZONEDEV" remove
refused "one region" "$ZONEDEV" remove a b
refused "not a time" "$ZONEDEV" remove --timeout soon "$T/file"
refused "not a time" "$ZONEDEV" remove --timeout -1 "$T/file"
refused "needs a value" "$ZONEDEV" remove --timeout
refused "--frob" "$ZONEDEV" remove --frob "$T/file"
refused "No such file" "$ZONEDEV" remove "$T/new"
refused "no server" "$ZONEDEV" remove "$T/file"
refused "one region" "$ZONEDEV" add
refused "--timeout" "$ZONEDEV" add --timeout 1 "$T/file"
refused "no server" "$ZONEDEV" add "$T/file"

# --- a region is made; its socket is the user's; SIGTERM and SIGINT end it ---

serve "pmem:$T/a region,,new,size=8M" --socket "$T/a socket"
[ "$URI" = "nbd+unix:///?socket=${T// /%20}/a%20socket" ] || fail "the address: $URI"
[ "$(nbdinfo --size "$URI")" = $((8 << 20)) ] || fail "not of the size that was asked for"
[ "$(stat -c '%s %a' "$T/a region,new")" = "$((8 << 20)) 600" ] || fail "the file: $(ls -l "$T")"
[ "$(stat -c %a "$T/a socket")" = 600 ] || fail "others may connect: $(ls -l "$T/a socket")"
expect_error "there already" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/a socket"
kill "$SERVER"
ended 0
[ ! -e "$T/a socket" ] || fail "the socket is left behind"

# bash has children in the background ignore SIGINT
trap - INT
set -m
serve "pmem:$T/a region,,new"
set +m
kill -INT "$SERVER"
ended 0
[ ! -e "$T/nbd.sock" ] || fail "the socket is left behind"
! find /run/zonedev /run/user/*/zonedev /tmp/zonedev-* -name "*.$SERVER" 2>/dev/null | grep . ||
	fail "a control socket is left behind"

# killed, it leaves its socket; the next server takes it
serve "pmem:$T/a region,,new"
kill -KILL "$SERVER"
ended 137
[ -S "$T/nbd.sock" ] || fail "who removed the socket?"
cd "$T"
serve "pmem:a region,,new" --socket nbd.sock
[ "$URI" = "nbd+unix:///?socket=$T/nbd.sock" ] || fail "the address: $URI"
expect_status 0 "$ZONEDEV" remove "$T/a region,new"
expect_status 0 "$ZONEDEV" add "a region,new"
kill "$SERVER"
ended 0

# an address that can't be printed: nobody would find it
got=0
"${nbdkit_env[@]}" "$ZONEDEV" serve "pmem:$T/a region,,new" --socket "$T/s" >/dev/full \
	2>"$T/err" || got=$?
[ "$got" = 1 ] || fail "serve > /dev/full ended with $got"
grep -q "can't write the address" "$T/err" || fail "serve > /dev/full: $(cat "$T/err")"
[ ! -e "$T/s" ] || fail "the socket is left behind"

# --- TCP: this host only, unless told otherwise ---

listens() {
	ss -Hltnp | awk -v pid="pid=$SERVER," 'index($0, pid) { print $4 }'
}
serve "pmem:$T/region,size=2M" --port 0
[[ $URI =~ ^nbd://127\.0\.0\.1:([0-9]+)$ ]] || fail "the address: $URI"
[ "$(listens)" = "127.0.0.1:${BASH_REMATCH[1]}" ] || fail "it listens on $(listens)"
expect_error "can't listen on port" "$ZONEDEV" serve "pmem:$T/new,size=1M" \
	--port "${BASH_REMATCH[1]}"
kill "$SERVER"
ended 0
serve "pmem:$T/region" --port 0 --bind 0.0.0.0
[[ $(listens) = 0.0.0.0:* ]] || fail "it listens on $(listens)"
kill "$SERVER"
ended 0

# --- requests ---

for btt in off on; do
	serve "pmem:$T/requests.$btt,size=16M,btt=$btt"
	durable=("$SERVER" "$T/requests.$btt")
	[ "$btt" = off ] || durable=()
	"$H/nbd_requests" "$URI" "${durable[@]}" || fail "$btt: $(cat "$T/serve.err")"
	kill "$SERVER"
	ended 0
done

# --- read-only ---

head -c 1M /dev/urandom >"$T/data"
cp "$T/data" "$T/served"
serve "pmem:$T/served" --read-only
nbdinfo "$URI" >"$T/info"
grep -q 'is_read_only: true' "$T/info" || fail "$(cat "$T/info")"
nbdcopy "$URI" "$T/copy"
cmp "$T/data" "$T/copy" || fail "read-only: not what is in the file"
nbdcopy "$T/file" "$URI" 2>"$T/err" && fail "a read-only region was written to"
kill "$SERVER"
ended 0

# --- the plugin by itself ---

plugin=$ZD_BUILD/nbdkit/nbdkit-zonedev-plugin.so
run_nbdkit() {
	"${nbdkit_env[@]}" nbdkit "$@"
}
run_nbdkit --dump-plugin "$plugin" >"$T/dump" || fail "--dump-plugin"
grep -qx 'max_thread_model=parallel' "$T/dump" || fail "$(cat "$T/dump")"
grep -qx "zonedev_version=$("$ZONEDEV" --version | cut -d ' ' -f 2)" "$T/dump" ||
	fail "$(cat "$T/dump")"
run_nbdkit --help "$plugin" >"$T/help" || fail "--help"
for key in $(sed -n '/^\.SH PARAMETERS/,/^\.SH [^P]/s/^\.BI \([a-z]*\)=.*/\1/p' \
	"$ZD_SRC/docs/man/nbdkit-zonedev-plugin.1") path; do
	grep -q "^$key=" "$T/help" || fail "--help doesn't have $key="
done

no_plugin() {
	local text=$1
	shift
	run_nbdkit -f -U "$T/plugin.sock" "$plugin" "$@" 2>"$T/err" && fail "nbdkit $* goes on"
	grep -q -- "$text" "$T/err" || fail "nbdkit $*: $(cat "$T/err")"
	rm -f "$T/plugin.sock"
}
no_plugin "no region" size=1M
no_plugin "size=" path="$T/new"
no_plugin "multiple of 4096" path="$T/new" size=1000
no_plugin "unknown parameter" path="$T/new" frob=1
no_plugin "$T/none" path="$T/none/new" size=1M
no_plugin "$T/file" "$T/file"
no_plugin "No such file" path="$T/new" size=1M readonly=on
[ ! -e "$T/new" ] || fail "a region was made"

# An abstract socket, which has no permissions, is not to be had by mistake.
expect_error "give the path" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket ''
[ ! -e "$T/new" ] || fail "a region was made"

serve "pmem:memfd:scratch,size=1M"
expect_status 0 "$ZONEDEV" remove memfd:scratch
expect_error "went with its removal" "$ZONEDEV" add memfd:scratch
kill "$SERVER"
ended 0

# What follows forks, without a program that knows the sanitizer's runtime.
[ "$ZD_SANITIZER" = plain ] || exit 0

# readonly=on without nbdkit's own -r
# shellcheck disable=SC2016 # nbdkit sets it
nbdkit -U - "$plugin" "$T/served" readonly=on --run 'nbdinfo "$uri"' >"$T/info" ||
	fail "readonly=on"
grep -q 'is_read_only: true' "$T/info" || fail "readonly=on: $(cat "$T/info")"

# --run, and memory only
# shellcheck disable=SC2016 # nbdkit sets it
nbdkit -U - "$plugin" memfd:scratch size=16M --run \
	'nbdcopy '"$T/data"' "$uri" && nbdcopy "$uri" '"$T/copy" || fail "nbdkit --run"
cmp -n $((1 << 20)) "$T/data" "$T/copy" || fail "memfd: not what was written"
[ "$(stat -c %s "$T/copy")" = $((16 << 20)) ] || fail "memfd: not of that size"

# in the background, and with a relative path: nbdkit changes directory
nbdkit -U "$T/plugin.sock" -P "$T/pid" "$plugin" plain size=4M
pid=$(cat "$T/pid")
on_exit "grep -qsx nbdkit /proc/$pid/comm && kill $pid"
nbdcopy "$T/data" "nbd+unix:///?socket=$T/plugin.sock" || fail "nbdkit in the background"
cmp -n $((1 << 20)) "$T/data" "$T/plain" || fail "it isn't in the file"
expect_status 0 "$ZONEDEV" remove "$T/plain"
kill "$pid"
wait_for 20 "gone $pid" || fail "nbdkit doesn't end"
