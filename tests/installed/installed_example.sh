#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The README's program is docs/examples/hello.c, compiles against the installed
# copy, and does what it says.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

# shellcheck disable=SC2016 # backquotes of the README
sed -n '/^```c$/,/^```$/p' "$ZD_SRC/README.md" | sed '1d;$d' >"$T/hello.c"
tail -n +2 "$ZD_SRC/docs/examples/hello.c" | diff - "$T/hello.c" >&2 ||
	fail "docs/examples/hello.c (<) and the README (>) differ"

# shellcheck disable=SC2046 # flags are words
gcc -Wall -Wextra -Werror -o "$T/hello" "$T/hello.c" $(pc --cflags --libs) || fail "does not compile"

if ! "$T/hello" >"$T/out"; then
	"$ZONEDEV" info --json >"$T/info.json" || true
	[ "$(json "$T/info.json" userfaultfd.events)" = true ] || skip "no userfaultfd with events here"
	fail "the example fails"
fi
[ "$(cat "$T/out")" = "the device changed 524288 numbers" ] || fail "$(cat "$T/out")"
