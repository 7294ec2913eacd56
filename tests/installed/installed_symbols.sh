#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The library gives away zd_* and __zd_* and nothing else; every function that
# the public headers declare is there; and nothing beyond them is.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires nm

nm -D --defined-only "$LIBDIR/libzonedev.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	sort >"$T/exported"
[ -s "$T/exported" ] || fail "nothing exported"
bad=$(grep -v '^\(__\)\?zd_' "$T/exported") && fail "exported, too: $bad"

# What the headers declare, as the compiler lists it.
for header in "$ROOT"/include/zonedev/*.h; do
	echo "#include <zonedev/${header##*/}>"
done >"$T/all.c"
# shellcheck disable=SC2046 # flags are words
gcc -fsyntax-only -aux-info "$T/aux" $(pc --cflags) -include zonedev.h "$T/all.c"
sed -n 's/^.* extern [^(]*[ *]\(\(__\)\?zd_[a-z0-9_]*\) (.*/\1/p' "$T/aux" | sort -u >"$T/declared"
[ -s "$T/declared" ] || fail "no declaration found in the headers"
missing=$(comm -13 "$T/exported" "$T/declared")
[ -z "$missing" ] || fail "declared, not exported: $missing"

# The preload library lives in other people's programs: it must not give away
# anything that could take the place of a symbol of theirs, but for what it stands in
# front of on purpose (preload_exec.c, preload_clone.c, preload_asan.c).
front='__asan_default_options\|chroot\|clone\|execl[ep]\?\|execvp\?e\?\|execveat\|fexecve\|posix_spawnp\?'
preload=$LIBDIR/zonedev/libzonedev-preload.so
bad=$(nm -D --defined-only "$preload" | awk '$2 != "A" { print $3 }' |
	grep -v -e '^\(__\)\?zd_' -e "^\($front\)\$") &&
	fail "exported by the preload library: $bad"
exit 0
