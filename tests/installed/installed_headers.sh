#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Each public header compiles by itself, in C and in C++, without a warning.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires g++

inc=$(pc --variable=includedir)
count=0
for header in "$inc"/zonedev.h "$inc"/zonedev/*.h; do
	name=${header#"$inc"/}
	echo "#include <$name>" >"$T/one.c"
	for cc in "gcc -std=c11" "gcc -std=gnu17" "g++ -x c++ -std=c++11" "g++ -x c++ -std=c++20"; do
		# shellcheck disable=SC2046,SC2086 # flags are words
		$cc -Wall -Wextra -Werror -fsyntax-only $(pc --cflags) "$T/one.c" ||
			fail "$name: $cc"
	done
	count=$((count + 1))
done
# As many as the source tree has.
[ "$count" = "$(find "$ZD_SRC/include" -name '*.h' | wc -l)" ] || fail "$count headers installed"
