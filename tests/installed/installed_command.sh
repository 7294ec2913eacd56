#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The installed command runs, finds the installed preload library (the build
# directory's is not beside it), and has its man pages.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

cmd=$ROOT/bin/zonedev
expect_status 0 "$cmd" --version
[ "$OUT" = "zonedev $(pc --modversion)" ] || fail "$OUT"

"$cmd" info --json >"$T/info.json" || [ $? = 1 ] || fail "info"
preload=$(json "$T/info.json" preload)
[ "$(realpath "$preload")" = "$(realpath "$LIBDIR/zonedev/libzonedev-preload.so")" ] ||
	fail "preload library: $preload"

for page in man1/zonedev.1 man1/zonedev-run.1 man1/zonedev-info.1 man1/zonedev-check.1 man1/zonedev-stat.1 man7/zonedev-plugin.7 man7/zonedev.7; do
	[ -s "$ROOT/share/man/$page" ] || fail "no $page"
done

if "$cmd" info >/dev/null; then
	expect_status 0 "$cmd" run --device ram:size=64M --ram 1G -- echo hello
	[ "$OUT" = hello ] || fail "installed zonedev run: $OUT"
fi
