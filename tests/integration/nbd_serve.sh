#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# zonedev serve: what it refuses, where it listens, how it ends; and what clients may ask
# for, one by one.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires nbdinfo nbdcopy ss

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
refused "longer from /" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/$(printf '%0100d' 0)"
refused "No such file" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/none/s"
refused "$T/new" "$ZONEDEV" serve "pmem:$T/new" --socket "$sock"
refused "$T/new" "$ZONEDEV" serve "pmem:$T/new,size=1M" --read-only --socket "$sock"
refused "$T/none/new" "$ZONEDEV" serve "pmem:$T/none/new,size=1M" --socket "$sock"
refused "$T" "$ZONEDEV" serve "pmem:$T,size=1M" --socket "$sock"
echo data >"$T/file"
refused "there already" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/file"
refused "$T/file" "$ZONEDEV" serve "pmem:$T/file" --socket "$sock"
[ ! -e "$sock" ] || fail "a socket was left behind"
refused "not a number" "$ZONEDEV" serve "pmem:$T/new,size=1M" --max-clients 0
refused "not a number" "$ZONEDEV" serve "pmem:$T/new,size=1M" --max-clients 5000
refused "not a number" "$ZONEDEV" serve "pmem:$T/new,size=1M" --max-clients -1

refused "one region" "$ZONEDEV" remove
refused "not a process id" "$ZONEDEV" remove a b
refused "one region" "$ZONEDEV" remove a b c
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
! find /run/zonedev ~/.zonedev -name "*.$SERVER" 2>/dev/null | grep . ||
	fail "a control socket is left behind"

# A server that is killed leaves its socket; the next server takes the name.
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

# Without a place to print the address to, no client would find the server.
got=0
"$ZONEDEV" serve "pmem:$T/a region,,new" --socket "$T/s" >/dev/full \
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

# An empty name would be an abstract socket, which has no permissions.
expect_error "give the path" "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket ''
[ ! -e "$T/new" ] || fail "a region was made"

serve "pmem:memfd:scratch,size=1M"
expect_status 0 "$ZONEDEV" remove memfd:scratch
expect_error "went with its removal" "$ZONEDEV" add memfd:scratch
kill "$SERVER"
ended 0

# A signal that is ignored when the server starts, as under nohup, doesn't end it; and a stderr
# that is a full pipe, which no process reads, stops neither the server nor its clients.
mkfifo "$T/full"
exec 9<>"$T/full"
dd if=/dev/zero of="$T/full" bs=4k oflag=nonblock status=none 2>"$T/dd" && fail "the pipe takes everything"
trap '' HUP
rm -f "$T/uri"
start "$ZONEDEV" serve "pmem:$T/new,size=1M" --socket "$T/hup.sock" --max-clients 1 >"$T/uri" 2>"$T/full"
SERVER=$PID
trap - HUP
wait_for 20 "[ -s '$T/uri' ]" || fail "it doesn't start"
URI=$(cat "$T/uri")
kill -HUP "$SERVER"
mkfifo "$T/commands"
exec 8<>"$T/commands"
start qemu-io -f raw "$URI" <"$T/commands" >"$T/io" 2>&1
echo "read 0 4k" >&8
wait_for 20 "grep -q 'read 4096' '$T/io'" || fail "$(cat "$T/io")"
for _ in 1 2 3; do nbdinfo --size "$URI" >"$T/size" 2>&1 && fail "a second client was let in"; done
echo quit >&8
exec 8>&-
wait_for 20 "nbdinfo --size '$URI' >'$T/size' 2>&1" || fail "it serves nobody any more"
kill "$SERVER"
wait_for 20 "gone $SERVER" || fail "it doesn't end"
exec 9>&-
