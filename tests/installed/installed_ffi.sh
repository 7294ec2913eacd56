#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# libzonedev-ffi has every inline function of the public headers as a symbol, and nothing
# else; and a program in another language that loads it has all of zonedev.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires nm python3

ffi=$LIBDIR/libzonedev-ffi.so
nm -D --defined-only "$ffi" | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' |
	sort >"$T/exported"

# as the compiler understood the headers
for header in "$ROOT"/include/zonedev/*.h; do
	echo "#include <zonedev/${header##*/}>"
done >"$T/all.c"
# shellcheck disable=SC2046 # flags are words
gcc -fsyntax-only -aux-info "$T/aux" $(pc --cflags) -include zonedev.h "$T/all.c"
sed -n 's/^.* static [^(]*[ *]\(\(__\)\?zd_[a-z0-9_]*\) (.*/\1/p' "$T/aux" | sort -u >"$T/inline"
[ "$(wc -l <"$T/inline")" -ge 20 ] || fail "inline functions not found in the headers"
diff "$T/inline" "$T/exported" >&2 || fail "inline in the headers (<) and exported (>) differ"
# and as they are written, also behind an #if
grep -ho '^static inline .*[ *]\(__\)\?zd_[a-z0-9_]*(' "$ROOT"/include/zonedev/*.h |
	sed 's/($//; s/.*[ *]//' | sort -u | diff - "$T/inline" >&2 ||
	fail "inline in the headers' text (<) and for the compiler (>) differ"

python3 - "$ffi" <<'EOF' || fail "from another language"
import ctypes
import sys

zd = ctypes.CDLL(sys.argv[1])
u64, ptr = ctypes.c_uint64, ctypes.c_void_p
zd.zd_version.restype = ctypes.c_char_p
zd.zd_pfn_to_page.restype = ptr
zd.zd_pfn_to_page.argtypes = [u64]
zd.zd_page_to_pfn.restype = u64
zd.zd_migrate_pfn.restype = u64
zd.zd_migrate_pfn.argtypes = [u64]
for name in "zd_page_to_pfn", "zd_page_init", "zd_get_page", "zd_put_page", "zd_page_count":
    getattr(zd, name).argtypes = [ptr]


class Pagemap(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("ops", ptr), ("owner", ptr), ("nr_pages", u64),
                ("pfn", u64), ("priv", ptr), ("reserved_", u64)]


class Holders(ctypes.Structure):
    _fields_ = [("nr_pages", u64), ("nr_refs", u64), ("nr_pfns", ctypes.c_uint),
                ("pfns", u64 * 16)]


assert zd.zd_version()
assert zd.zd_migrate_pfn(5) == 5 << 6 | 1
m = Pagemap(type=4, nr_pages=512)
assert zd.zd_memremap_pages(ctypes.byref(m)) == 0
page = zd.zd_pfn_to_page(m.pfn + 7)
assert zd.zd_page_to_pfn(page) == m.pfn + 7
assert zd.zd_page_init(page) == 0
zd.zd_get_page(page)
assert zd.zd_page_count(page) == 2
zd.zd_put_page(page)
held = Holders()
assert zd.zd_memunmap_pages_timeout(ctypes.byref(m), 1, ctypes.byref(held)) == -110
assert (held.nr_pages, held.pfns[0]) == (1, m.pfn + 7)
zd.zd_put_page(page)
assert zd.zd_memunmap_pages(ctypes.byref(m)) == 0
EOF
