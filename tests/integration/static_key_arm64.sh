#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Static keys on arm64: off is one NOP, on is a B to where it should go, and the
# program that is patched runs (under qemu).  The public headers compile there.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires aarch64-linux-gnu-gcc aarch64-linux-gnu-objdump qemu-aarch64

compile() {
	aarch64-linux-gnu-gcc -std=gnu11 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE \
		-I"$ZD_SRC" -I"$ZD_SRC/include" "$@"
}
echo '#include <zonedev.h>' | compile -fsyntax-only -x c -

compile -c "$ZD_SRC/tests/integration/static_key_arm64.c" -o "$T/prog.o"
compile -static "$T/prog.o" "$ZD_SRC"/base/{static_key,static_key_text,log,lock}.c -o "$T/prog"

# As compiled: a branch, the addition, the return; and behind it the look at the key.
aarch64-linux-gnu-objdump -d --no-show-raw-insn --no-addresses "$T/prog.o" |
	sed -n '/<plus_one>:/,/^$/p' | awk 'NF { print $1 }' | sed -n '2,4p' | tr '\n' ' ' >"$T/head"
[ "$(cat "$T/head")" = 'b add ret ' ] || fail "a branch that is off is $(cat "$T/head")"

# Through /proc/self/mem, qemu doesn't see that its program changes: not tried.
[ "$(ZONEDEV_STATIC_KEYS=mprotect qemu-aarch64 "$T/prog" patched)" = DONE ] || fail "patched"
[ "$(ZONEDEV_STATIC_KEYS=plain qemu-aarch64 "$T/prog" plain 2>"$T/log")" = DONE ] || fail "plain"
grep -q 'plain branches' "$T/log" || fail "the log doesn't say that they are plain"
