#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The library gives away what the public headers declare, functions and data, all of it
# and nothing else, under one version node.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires nm

nm -D --defined-only "$LIBDIR/libzonedev.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	sort >"$T/exported"
[ -s "$T/exported" ] || fail "nothing exported"
nodes=$(nm -D --defined-only --with-symbol-versions "$LIBDIR/libzonedev.so" |
	sed -n 's/^.*@@*//p' | grep -vx ZONEDEV_PAGE_OWNER | sort -u | wc -l)
[ "$nodes" = 1 ] || fail "$nodes version nodes"

# What the headers declare, as the compiler lists it.
for header in "$ROOT"/include/zonedev/*.h; do
	echo "#include <zonedev/${header##*/}>"
done >"$T/all.c"
# shellcheck disable=SC2046 # flags are words
gcc -fsyntax-only -aux-info "$T/aux" $(pc --cflags) -include zonedev.h "$T/all.c"
sed -n 's/^.* extern [^(]*[ *]\(\(__\)\?zd_[a-z0-9_]*\) (.*/\1/p' "$T/aux" | sort -u >"$T/functions"
# data: "extern struct zd_page *zd_vmemmap;"
gcc -E -P $(pc --cflags) -include zonedev.h "$T/all.c" |
	sed -n 's/^extern [^(]*[ *]\(zd_[a-z0-9_]*\);$/\1/p' | sort -u >"$T/data"
sort -u "$T/functions" "$T/data" >"$T/declared"
[ -s "$T/functions" ] && [ -s "$T/data" ] || fail "no declaration found in the headers"
missing=$(comm -13 "$T/exported" "$T/declared")
[ -z "$missing" ] || fail "declared, not exported: $missing"
more=$(comm -23 "$T/exported" "$T/declared" |
	grep -v '^__zd_page_owner_\(as\|drops\|took\)$\|^zd_page_owner_key$') &&
	fail "exported, not declared: $more"

# The preload library lives in other people's programs: it must not export
# anything that could take the place of a program's symbol, but for the functions that it
# wraps on purpose (exec_calls.c, clone_call.c, asan_options.c).
front='__asan_default_options\|chroot\|clone\|execl[ep]\?\|execvp\?e\?\|execveat\|fexecve\|posix_spawnp\?'
preload=$LIBDIR/zonedev/libzonedev-preload.so
bad=$(nm -D --defined-only "$preload" | awk '$2 != "A" { print $3 }' |
	grep -v -e '^\(__\)\?zd_' -e "^\($front\)\$") &&
	fail "exported by the preload library: $bad"
exit 0
