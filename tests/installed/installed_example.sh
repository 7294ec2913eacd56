#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The README's program is the installed example hello.c, compiles against the installed
# copy, and does what it says.  So does a program with the driver that is there to copy.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

# shellcheck disable=SC2016 # backquotes of the README
sed -n '/^```c$/,/^```$/p' "$ZD_SRC/README.md" | sed '1d;$d' >"$T/hello.c"
tail -n +2 "$EXAMPLES/hello.c" | diff - "$T/hello.c" >&2 ||
	fail "docs/examples/hello.c (<) and the README (>) differ"

cat >"$T/driver.c" <<'EOF'
#include "example.c"
int main(void)
{
	struct zd_device *dev;
	zd_pfn_t pfn;
	int rc;

	if (example_device_create(16, &dev) || dev->ops->alloc_pages(dev, 1, &pfn) != 1)
		return 1;
	rc = zd_page_init(zd_pfn_to_page(pfn));
	zd_put_page(zd_pfn_to_page(pfn));
	return rc || zd_device_unregister(dev);
}
EOF
# shellcheck disable=SC2046 # flags are words
gcc -Wall -Wextra -Werror -I "$EXAMPLES" -o "$T/driver" "$T/driver.c" $(pc --cflags --libs) ||
	fail "the driver to copy does not compile"
"$T/driver" || fail "the driver to copy fails"

# shellcheck disable=SC2046 # flags are words
gcc -Wall -Wextra -Werror -o "$T/hello" "$T/hello.c" $(pc --cflags --libs) || fail "does not compile"

if ! "$T/hello" >"$T/out"; then
	"$ZONEDEV" info --json >"$T/info.json" || true
	[ "$(json "$T/info.json" userfaultfd.events)" = true ] || skip "no userfaultfd with events here"
	fail "the example fails"
fi
[ "$(cat "$T/out")" = "the device changed 524288 numbers" ] || fail "$(cat "$T/out")"
