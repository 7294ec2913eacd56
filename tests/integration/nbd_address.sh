#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Where a server listens by default, for root and for another user, who may connect there,
# and what happens with a name that is taken; and that `zonedev remove` finds a user's server
# from another session, whatever directories and variables each session has.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
# shellcheck source=tests/lib/nbd.sh
. "$(dirname "$0")/../lib/nbd.sh"
requires nbdinfo ss setpriv

[ "$(id -u)" = 0 ] || skip "needs root, to be two other users"
uid=54321 other=54322
# A directory that both users can read: neither the runner's nor, perhaps, the build's is.
rmdir "$T"
T=$(mktemp -d /var/tmp/zd-address.XXXXXX)
chmod 755 "$T"
cp "$ZONEDEV" "$T/zonedev"
ZONEDEV=$T/zonedev
mkdir "$T/home" "$T/stranger"
chown "$uid" "$T/home"
chown "$other" "$T/stranger"

# session UID: $SESSION, to stand before a command: a session of that user, with no variable
# of this one
session() {
	local home=/root
	[ "$1" != "$uid" ] || home=$T/home
	[ "$1" != "$other" ] || home=$T/stranger
	SESSION=(setpriv --reuid "$1" --regid "$1" --clear-groups env -i "PATH=$PATH" LC_ALL=C
		"HOME=$home")
}

# as UID COMMAND...: in a session of that user
as() {
	session "$1"
	shift
	"${SESSION[@]}" "$@"
}

# serve_as UID REGION [OPTION...]: as serve does, but as that user, and on the default socket
serve_as() {
	session "$1"
	shift
	rm -f "$T/uri"
	start "${SESSION[@]}" "$ZONEDEV" serve "$@" >"$T/uri" 2>>"$T/serve.err"
	SERVER=$PID
	wait_for 20 "[ -s '$T/uri' ] || gone $SERVER" && [ -s "$T/uri" ] ||
		fail "serve $*: $(cat "$T/serve.err")"
	URI=$(cat "$T/uri")
	SOCKET=${URI#*socket=}
}

tcp_of() {
	ss -Hltnp | grep -c "pid=$1," || true
}

# --- the default is the user's own ---

serve_as "$uid" "pmem:$T/home/disk,size=1M"
[ "$SOCKET" = "$T/home/.zonedev/$(uname -n)/disk.sock" ] || fail "it listens on $URI"
[ "$(tcp_of "$SERVER")" = 0 ] || fail "it listens on TCP, too"
for dir in "$T/home/.zonedev" "${SOCKET%/*}" "${SOCKET%/*}/control"; do
	[ "$(stat -c '%u %a' "$dir")" = "$uid 700" ] || fail "$dir is $(stat -c '%u %a' "$dir")"
done
[ "$(stat -c '%u %a' "$SOCKET")" = "$uid 600" ] || fail "$SOCKET: $(stat -c '%u %a' "$SOCKET")"
[ "$(as "$uid" nbdinfo --size "$URI")" = $((1 << 20)) ] || fail "its own user isn't served"
as "$other" nbdinfo --size "$URI" >"$T/out" 2>&1 && fail "another user is served"

# Another session: a runtime directory has come meanwhile, and other variables.
runtime=/run/user/$uid
mkdir -p "$runtime"
on_exit "rmdir '$runtime'"
chown "$uid" "$runtime"
expect_status 0 as "$uid" XDG_RUNTIME_DIR="$runtime" TMPDIR=/tmp "$ZONEDEV" remove "$T/home/disk"
expect_status 0 as "$uid" "$ZONEDEV" add "$T/home/disk"
# A runtime directory that was there when the server began, and went.
serve_as "$uid" "pmem:$T/home/two,size=1M"
rmdir "$runtime"
expect_status 0 as "$uid" "$ZONEDEV" remove "$T/home/two"
mkdir "$runtime"
expect_error "no server of this user" as "$other" "$ZONEDEV" remove "$T/home/disk"
kill "$SERVER"
ended 0
[ ! -e "$SOCKET" ] || fail "$SOCKET is left behind"

# A directory that isn't the user's alone isn't used.
serve_as "$other" "pmem:$T/stranger/disk,size=1M"
kill "$SERVER"
ended 0
chmod 777 "$T/stranger/.zonedev"
expect_error "isn't a directory of this user's alone" as "$other" "$ZONEDEV" serve \
	"pmem:$T/stranger/disk"
rm -r "$T/stranger/.zonedev"
mkdir "$T/stranger/.zonedev"
expect_error "isn't a directory of this user's alone" as "$other" "$ZONEDEV" serve \
	"pmem:$T/stranger/disk"

# --- root; and regions of the same name ---

mkdir "$T/a" "$T/b"
name=zd-test-$$
serve_as 0 "pmem:$T/a/$name,size=1M"
first=$SERVER
[ "$SOCKET" = "/run/zonedev/$name.sock" ] || fail "it listens on $URI"
serve_as 0 "pmem:$T/b/$name,size=2M"
[ "$SOCKET" = "/run/zonedev/$name-2.sock" ] || fail "it listens on $URI"
[ "$(nbdinfo --size "$URI")" = $((2 << 20)) ] || fail "the wrong one"
kill -KILL "$first"
wait "$first" 2>/dev/null || true
[ -S "/run/zonedev/$name.sock" ] || fail "who removed it?"
second=$SERVER
serve_as 0 "pmem:$T/a/$name"
[ "$SOCKET" = "/run/zonedev/$name.sock" ] || fail "a dead server's socket isn't replaced: $URI"
kill "$SERVER"
ended 0
SERVER=$second
kill "$SERVER"
ended 0
[ ! -e "/run/zonedev/$name-2.sock" ] || fail "a socket is left behind"

# --- a name that is taken ---

serve "pmem:$T/a/$name" --socket "$T/s"
expect_error "a server listens on it" "$ZONEDEV" serve "pmem:$T/b/$name" --socket "$T/s"
[ "$(nbdinfo --size "$URI")" = $((1 << 20)) ] || fail "the first doesn't serve any more"
# A file that has the name by the time the server ends isn't the server's.
rm "$T/s"
echo data >"$T/s"
kill "$SERVER"
ended 0
[ "$(cat "$T/s")" = data ] || fail "it removed what wasn't its own"
expect_error "is no socket" "$ZONEDEV" serve "pmem:$T/b/$name" --socket "$T/s"
ln -s "$T/nowhere" "$T/link"
expect_error "is no socket" "$ZONEDEV" serve "pmem:$T/b/$name" --socket "$T/link"
[ "$(cat "$T/s")" = data ] && [ -L "$T/link" ] || fail "it removed a file"

# Of several that want a dead server's name at once one gets it, and keeps it.
rm "$T/s"
serve "pmem:$T/a/$name" --socket "$T/s"
kill -KILL "$SERVER"
ended 137
pids=()
for i in 1 2 3 4 5 6; do
	start "$ZONEDEV" serve "pmem:$T/many$i,size=${i}M" --socket "$T/s" >"$T/uri.$i" 2>"$T/err.$i"
	pids+=("$PID")
done
living() {
	local pid n=0
	for pid in "${pids[@]}"; do
		gone "$pid" || n=$((n + 1))
	done
	echo "$n"
}
wait_for 20 '[ "$(cat "$T"/uri.? | wc -l)" -ge 1 ] && [ "$(living)" = 1 ]' ||
	fail "$(living) servers on one socket: $(cat "$T"/err.?)"
for i in 1 2 3 4 5 6; do
	[ ! -s "$T/uri.$i" ] || [ "$(nbdinfo --size "$(cat "$T/uri.$i")")" = $((i << 20)) ] ||
		fail "the socket isn't that of the one that lives"
done
