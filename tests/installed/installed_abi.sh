#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The installed headers and library are what tests/installed/abi.txt says, and since the
# last tag nothing broke under the same version node.  And what such a check must see, it
# sees: each kind of change is made here, to a copy.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"
requires gdb nm python3

inc=$(pc --variable=includedir)
lib=$LIBDIR/libzonedev.so

# abi WHAT [OPTION...]
abi() {
	local what=$1
	shift
	python3 "$ZD_SRC/scripts/abi" "$what" --include "$inc" --library "$lib" "$@"
}

abi check --root "$ZD_SRC" >"$T/out" || fail "$(cat "$T/out")"

# --- a copy of the interface ---

mkdir -p "$T/repo/tests/installed" "$T/lib"
cp "$ZD_SRC/tests/installed/abi.txt" "$T/repo/tests/installed"
cp "$lib" "$T/lib/libzonedev.so"
cp -r "$ROOT/include" "$T/include"
lib=$T/lib/libzonedev.so
inc=$T/include

# edit HEADER SED: in the copy
edit() {
	sed -i.before "$2" "$inc/zonedev/$1"
	cmp -s "$inc/zonedev/$1.before" "$inc/zonedev/$1" && fail "no change: $2"
	rm "$inc/zonedev/$1.before"
}

# seen HEADING LINE: such a line stands in $T/out under that heading
seen() {
	awk -v h="$1:" '/^[^\t]/ { on = $0 == h } on' "$T/out" | grep -q "$2" ||
		fail "not $1: '$2': $(cat "$T/out")"
}

# a member moves; a fixed struct grows, also in a hole; types of the same size; values of an
# enum and of a flag; arguments
edit migrate.h 's/^\tuint64_t moved;/\tuint64_t other, moved;/'
edit device.h 's/^\tint event_fd;/&\n\tuint32_t other;/'
edit page.h 's/^\tuint64_t word;/&\n\tuint64_t more;/'
edit mm.h 's/^\tunsigned int fault_around;/\tint fault_around;/'
edit pagemap.h 's/DEVICE_PRIVATE = 1,/OTHER = 1, ZD_MEMORY_DEVICE_PRIVATE = 2,/'
edit gup.h 's/^#define ZD_FOLL_WRITE.*/#define ZD_FOLL_WRITE (1u << 5)/'
edit mm.h 's/^int zd_mm_close(struct zd_mm \*mm)/int zd_mm_close(struct zd_mm *mm, int how)/'
edit page.h 's/^static inline uint32_t zd_page_count/static inline uint64_t zd_page_count/'
abi check --root "$T/repo" >"$T/out" && fail "nothing seen"
seen broken 'struct zd_migrate_result.moved = at 8'
seen broken 'struct zd_device.other'
seen broken 'struct zd_page = 24, was 16'
seen broken 'struct zd_mm_attr.fault_around'
seen broken 'enum zd_memory_type.ZD_MEMORY_DEVICE_PRIVATE = 2, was 1'
seen broken 'constant ZD_FOLL_WRITE = 0x20'
seen broken 'function zd_mm_close'
seen broken 'inline zd_page_count'

# what only adds: at the end of a sized struct, which another has as its last; a value
rm -r "$inc"
cp -r "$ROOT/include" "$T/include"
edit migrate.h 's/^\tuint64_t device;/&\n\tuint64_t other;/'
edit pagemap.h 's/ZD_MEMORY_SYSTEM = 6,/& ZD_MEMORY_OTHER = 7,/'
abi check --root "$T/repo" >"$T/out" && fail "nothing seen"
seen added 'struct zd_migrate_result = 80, was 72'
seen added 'struct zd_migrate_vma.result'
seen added 'enum zd_memory_type.ZD_MEMORY_OTHER'
grep -q broken "$T/out" && fail "$(cat "$T/out")"
rm -r "$inc"
cp -r "$ROOT/include" "$T/include"

# an exported symbol goes, and another comes
cat >"$T/less.c" <<'EOF'
int zd_mm_close(void *mm);
int zd_mm_close(void *mm) { return !mm; }
int zd_other;
EOF
echo 'ZONEDEV_0.1 { global: zd_mm_close; zd_other; local: *; };' >"$T/less.map"
gcc -shared -fPIC -Wl,--version-script="$T/less.map" -o "$T/lib/less.so" "$T/less.c"
lib=$T/lib/less.so
abi check --root "$T/repo" >"$T/out" && fail "symbols: not seen"
grep -q 'symbol zd_mm_open = gone, was ZONEDEV_0.1' "$T/out" || fail "$(cat "$T/out")"
grep -q 'symbol zd_other = ZONEDEV_0.1 data 4' "$T/out" || fail "$(cat "$T/out")"
grep -q 'symbol zd_mm_close' "$T/out" && fail "$(cat "$T/out")"
lib=$T/lib/libzonedev.so

# --- an update, before a tag and after one ---

command -v git >/dev/null || exit 0	# a tree without git has no tags either
git() {
	command git -c user.name=t -c user.email=t@t -c safe.directory='*' -C "$T/repo" "$@"
}
git init -q
git add -A
git commit -qm one
edit migrate.h 's/^\tuint64_t moved;/\tuint64_t other, moved;/'
abi update --root "$T/repo" >"$T/out" || fail "no tag: $(cat "$T/out")"
abi check --root "$T/repo" >"$T/out" || fail "updated: $(cat "$T/out")"
git checkout -q tests
git tag v0.1
abi update --root "$T/repo" >"$T/out" && fail "broken since a tag, and nobody minds"
grep -q 'broken since v0.1' "$T/out" || fail "$(cat "$T/out")"
# committed all the same
python3 "$ZD_SRC/scripts/abi" dump --include "$inc" --library "$lib" >"$T/repo/tests/installed/abi.txt"
git commit -qam two
abi check --root "$T/repo" >"$T/out" && fail "broken since a tag, and the check passes"
# what was only added since is fine
cp "$ROOT/include/zonedev/migrate.h" "$inc/zonedev"
edit migrate.h 's/^\tuint64_t device;/&\n\tuint64_t other;/'
abi update --root "$T/repo" >"$T/out" || fail "$(cat "$T/out")"
exit 0
