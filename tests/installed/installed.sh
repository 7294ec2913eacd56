# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# For the tests in this directory: install into $T/root, and point pkg-config there.
# shellcheck source=tests/lib/lib.sh
. "$(dirname "$0")/../lib/lib.sh"

requires meson pkg-config

meson install -C "$ZD_BUILD" --no-rebuild --quiet --destdir "$T/root" >"$T/install.log" 2>&1 ||
	fail "meson install: $(cat "$T/install.log")"

PC=$(find "$T/root" -name zonedev.pc)
[ -n "$PC" ] || fail "no zonedev.pc in $(find "$T/root" -type f)"
# The file names the final prefix; the tree stands elsewhere.
PREFIX=$(sed -n 's/^prefix=//p' "$PC")
ROOT=$T/root$PREFIX
export PKG_CONFIG_PATH=${PC%/*}
LIBDIR=$(pkg-config --define-variable=prefix="$ROOT" --variable=libdir zonedev)
export LD_LIBRARY_PATH=$LIBDIR
# shellcheck disable=SC2034 # for those that read this file
EXAMPLES=$ROOT/share/doc/zonedev/examples

# pc OPTION...: ask pkg-config about the copy under $ROOT; word-split its answer
pc() {
	pkg-config --define-variable=prefix="$ROOT" "$@" zonedev
}

# build PROGRAM COMPILER OPTION...: a file of this directory against the installed copy
build() {
	# shellcheck disable=SC2046 # flags are words
	"${@:2}" -Wall -Wextra -Werror -o "$T/prog" "$(dirname "$0")/$1" $(pc --cflags --libs) ||
		fail "$1 does not compile"
}

# build_and_run COMPILER OPTION...: prog.c against the installed copy
build_and_run() {
	build prog.c "$@"
	grep -q "=> $LIBDIR/libzonedev.so.0 " <<<"$(ldd "$T/prog")" ||
		fail "not linked to the installed copy: $(ldd "$T/prog")"
	"$T/prog" "$(pc --modversion)" || fail "prog exited with $?"
}
