/* SPDX-License-Identifier: MIT */
/*
 * Out of memory anywhere on the way to a region, a mapping, a provider or a copy: the call
 * fails with -ENOMEM, and leaves nothing behind.
 */
#include <dirent.h>

#include "base/alloc.h"
#include "tests/integration/p2p_test.h"

#define N	16

static int fd;

static size_t open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t nr = 0;

	CHECK(d);
	while (readdir(d))
		nr++;
	closedir(d);
	return nr;
}

/* Mappings of the memfd. */
static size_t mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	size_t nr = 0;

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		nr += strstr(line, "dax-test") || strstr(line, "zonedev-revoked");
	fclose(f);
	return nr;
}

static struct zd_mm *mm;

/* Each makes one call with the @nth allocation failing, undoes it, and returns what
 * the call did. */

static int region(unsigned int nth)
{
	struct zd_dax *dax;
	int rc;

	zd_alloc_fail_nth(nth);
	rc = zd_dax_open_fd(fd, NULL, &dax);
	zd_alloc_fail_nth(0);
	if (!rc)
		CHECK_EQ(zd_dax_close(dax), 0);
	return rc;
}

static int managed_region(unsigned int nth)
{
	struct zd_devm devm;
	struct zd_dax *dax;
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	zd_devm_init(&devm);
	zd_alloc_fail_nth(nth);
	rc = zd_devm_dax_open(&devm, path, NULL, &dax);
	zd_alloc_fail_nth(0);
	CHECK_EQ(zd_devm_release_all(&devm), rc ? 0 : 5);
	return rc;
}

static int mapping(unsigned int nth)
{
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_dax_mapping *map;
	int rc;

	zd_alloc_fail_nth(nth);
	rc = zd_dax_mmap(dax, mm, NULL, 0, N * PAGE, PROT_READ, ZD_DAX_POPULATE, &map);
	zd_alloc_fail_nth(0);
	if (!rc)
		CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	return rc;
}

static int provider(unsigned int nth)
{
	struct zd_p2pdma_resource res = { .size = sizeof(res), .fd = fd, .length = N * PAGE };
	struct zd_p2pdma *p;
	int rc;

	zd_alloc_fail_nth(nth);
	rc = zd_p2pdma_add_resource(&res, &p);
	zd_alloc_fail_nth(0);
	if (!rc)
		CHECK_EQ(zd_p2pdma_remove(p), 0);
	return rc;
}

static int part(unsigned int nth)
{
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_p2pdma *p;
	int rc;

	zd_alloc_fail_nth(nth);
	rc = zd_p2pdma_add_dax(dax, 0, PAGE, &p);
	zd_alloc_fail_nth(0);
	if (!rc)
		CHECK_EQ(zd_p2pdma_remove(p), 0);
	/* no page is held */
	CHECK_EQ(zd_dax_close_timeout(dax, PATIENCE * 1000, NULL), 0);
	return rc;
}

static int copy(unsigned int nth)
{
	struct zd_p2pdma *p = provider_of(fd, N);
	struct zd_device *a = ram_device(1), *b = ram_device(1);
	struct zd_page *src, *dst;
	zd_pfn_t pfn;
	int rc;

	CHECK_EQ(a->ops->alloc_pages(a, 1, &pfn), 1);
	src = zd_pfn_to_page(pfn);
	CHECK_EQ(b->ops->alloc_pages(b, 1, &pfn), 1);
	dst = zd_pfn_to_page(pfn);
	CHECK(!zd_page_init(src) && !zd_page_init(dst));
	zd_alloc_fail_nth(nth);
	rc = zd_p2pdma_copy(&dst, &src, 1, NULL);
	zd_alloc_fail_nth(0);
	zd_put_page(src);
	zd_put_page(dst);
	CHECK_EQ(zd_device_unregister(a), 0);
	CHECK_EQ(zd_device_unregister(b), 0);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	return rc;
}

/* Every allocation of @call fails in turn; @least: there are so many at least. */
static void try(const char *what, int (*call)(unsigned int nth), unsigned int least)
{
	size_t fds, maps;
	unsigned int nth;
	int rc = -ENOMEM;

	CHECK_EQ(call(0), 0);	/* what the first call of all allocates for good */
	fds = open_fds();
	maps = mappings();
	for (nth = 1; rc; nth++) {
		rc = call(nth);
		CHECK(!rc || rc == -ENOMEM);
		CHECK_EQ(open_fds(), fds);
		CHECK_EQ(mappings(), maps);
		CHECK(nth < 100);
	}
	printf("%s: %u allocations\n", what, nth - 2);
	CHECK(nth - 2 >= least);
}

int main(void)
{
	fd = new_memfd(N * PAGE);
	mm = open_mm();
	try("region", region, 5);
	try("managed region", managed_region, 5);
	try("mapping", mapping, 3);
	try("provider", provider, 5);
	try("part", part, 5);
	try("copy", copy, 2);
	CHECK_EQ(zd_mm_close(mm), 0);
	CHECK_EQ(mappings(), 0);
	return 0;
}
