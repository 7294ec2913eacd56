#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# zonedev's library in a program calls none of the program's own functions, whatever their
# names, and needs hardly any stack; and programs of another libc, or below a chroot, don't get
# the library.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"
requires_run
requires "${CC:=gcc}"

zd=("$ZONEDEV" run --quiet --device ram:size=64M --ram 32M)
for what in exec stack; do
	expect_status 0 "$H/run_names" $what /bin/true
	expect_status 0 "${zd[@]}" -- "$H/run_names" $what /bin/true
	[ -z "$OUT$ERR" ] || fail "$what: $OUT$ERR"
done

# --- another libc: it is known by the name of its loader ---
echo 'int main(void) { return 7; }' >"$T/seven.c"
"$CC" -o "$T/seven" "$T/seven.c" || skip "no compiler"
loader=$(readelf -p .interp "$T/seven" | grep -o '/[^ ]*$')
ln -s "$loader" "$T/ld-other.so.1"
"$CC" -Wl,--dynamic-linker="$T/ld-other.so.1" -o "$T/other" "$T/seven.c"
"$T/other" && fail "no other loader"
expect_error "another libc" "${zd[@]}" -- "$T/other"
# a child's loader, which prints what it loads, isn't told of the library
cat >"$T/child.sh" <<END
'$T/other'
[ \$? = 7 ] || exit 1
LD_DEBUG=files LD_DEBUG_OUTPUT='$T/debug' '$T/other'
[ \$? = 7 ] || exit 2
exit 0
END
expect_status 0 "${zd[@]}" --report "$T/report.json" -- sh "$T/child.sh"
expect_report unmanaged.libc -eq 2
grep -q 'libc\.so' "$T"/debug.* || fail "the loader doesn't tell what it loads"
grep -q zonedev-preload "$T"/debug.* && fail "another libc's loader got the library"

# --- below a chroot, the shells that libc starts ---
if [ "$(id -u)" = 0 ]; then
	mkdir -p "$T/root/bin" "$T/root${loader%/*}"
	cp /bin/sh "$T/root/bin/"
	cp "$loader" "$T/root$loader"
	libc=$(ldd /bin/sh | sed -n 's/.*libc\.so[^ ]* => \([^ ]*\).*/\1/p')
	mkdir -p "$T/root${libc%/*}"
	cp "$libc" "$T/root$libc"
	expect_status 0 "${zd[@]}" -- "$H/run_names" root "$T/root"
	[ -z "$ERR" ] || fail "below a chroot: $ERR"
fi
exit 0
