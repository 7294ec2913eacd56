#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The installed zonedev serves by itself; nbdkit loads the installed plugin, where there
# is one, and that the installed library.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires nbdinfo
# It must be found without help.
unset LD_LIBRARY_PATH

start "$ROOT/bin/zonedev" serve "pmem:$T/region,size=2M" --socket "$T/s" >"$T/uri" 2>"$T/err"
wait_for 20 "[ -s '$T/uri' ] || gone $PID" && [ -s "$T/uri" ] || fail "serve: $(cat "$T/err")"
[ "$(nbdinfo --size "$(cat "$T/uri")")" = $((2 << 20)) ] || fail "serve: $(cat "$T/err")"
[ "$(readlink "/proc/$PID/exe")" = "$(realpath "$ROOT/bin/zonedev")" ] || fail "who serves?"
expect_status 0 "$ROOT/bin/zonedev" remove "$T/region"

for page in man1/zonedev-serve.1 man1/zonedev-remove.1 man1/zonedev-add.1 \
	man1/nbdkit-zonedev-plugin.1; do
	[ -s "$ROOT/share/man/$page" ] || fail "no $page"
done

plugin=$(find "$ROOT" -name nbdkit-zonedev-plugin.so)
[ -n "$plugin" ] || exit 0
requires nbdkit
nbdkit --dump-plugin "$plugin" >"$T/dump" || fail "nbdkit can't load it"
library=$(ldd "$plugin" | awk '/libzonedev/ { print $3 }')
[ "$(realpath "$library")" = "$(realpath "$LIBDIR/libzonedev.so.0")" ] ||
	fail "the library: $(ldd "$plugin")"
