#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The README's program is the installed example hello.c, compiles against the installed
# copy, and does what it says.  So does a program with the drivers that are there to copy.
# shellcheck source=tests/installed/installed.sh
. "$(dirname "$0")/installed.sh"

# shellcheck disable=SC2016 # backquotes of the README
sed -n '/^```c$/,/^```$/p' "$ZD_SRC/README.md" | sed '1d;$d' >"$T/hello.c"
tail -n +2 "$EXAMPLES/hello.c" | diff - "$T/hello.c" >&2 ||
	fail "docs/examples/hello.c (<) and the README (>) differ"

cat >"$T/driver.c" <<'EOF'
#include "example.c"
#include "example_async.c"
#include "example_blocking.c"

static char buf[ZD_PAGE_SIZE] __attribute__((aligned(4096)));
static bool done;

static void is_done(struct zd_device_io *io)
{
	(void)io;
	done = true;
}

static int copy(struct zd_device *dev, zd_pfn_t pfn, enum zd_io_dir dir)
{
	struct zd_io_page page = { .pfn = pfn, .buf = buf, .error = -ENODATA };
	struct zd_device_io io = { .dir = dir, .nr = 1, .pages = &page, .done = is_done };

	done = false;
	dev->ops->submit(dev, &io);
	while (!done)
		dev->ops->reap(dev, true);
	return page.error;
}

static int try(struct zd_device *dev)
{
	zd_pfn_t pfn;

	if (dev->ops->alloc_pages(dev, 1, &pfn) != 1 || zd_page_init(zd_pfn_to_page(pfn)))
		return 2;
	memset(buf, 7, sizeof(buf));
	if (copy(dev, pfn, ZD_TO_DEVICE))
		return 3;
	memset(buf, 8, sizeof(buf));
	if (copy(dev, pfn, ZD_FROM_DEVICE) || buf[0] != 7 || buf[4095] != 7)
		return 4;
	zd_put_page(zd_pfn_to_page(pfn));
	return zd_device_unregister(dev) ? 5 : 0;
}

int main(int argc, char **argv)
{
	struct zd_device *dev;
	int rc;

	if (argc != 2 || example_device_create(16, &dev) || (rc = try(dev)))
		return 10 + rc;
	if (example_async_device_create(16, &dev) || (rc = try(dev)))
		return 20 + rc;
	if (example_blocking_device_create(argv[1], 16, &dev) || (rc = try(dev)))
		return 30 + rc;
	return 0;
}
EOF
# shellcheck disable=SC2046 # flags are words
gcc -D_GNU_SOURCE -Wall -Wextra -Werror -pthread -I "$EXAMPLES" -o "$T/driver" "$T/driver.c" $(pc --cflags --libs) ||
	fail "the drivers to copy do not compile"
"$T/driver" "$T/device" || fail "a driver to copy fails: $?"

# shellcheck disable=SC2046 # flags are words
gcc -Wall -Wextra -Werror -o "$T/hello" "$T/hello.c" $(pc --cflags --libs) || fail "does not compile"

if ! "$T/hello" >"$T/out"; then
	"$ZONEDEV" info --json >"$T/info.json" || true
	[ "$(json "$T/info.json" userfaultfd.events)" = true ] || skip "no userfaultfd with events here"
	fail "the example fails"
fi
[ "$(cat "$T/out")" = "the device changed 524288 numbers" ] || fail "$(cat "$T/out")"
