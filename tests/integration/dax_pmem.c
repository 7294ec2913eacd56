/* SPDX-License-Identifier: MIT */
/*
 * The pages of a pmem region: mapped and pinned as those of device-dax, but not long-term;
 * lent to other devices, which fill them directly; and the region removed under all of that.
 */
#include "tests/integration/p2p_test.h"

#define N	128
#define SECTORS	(PAGE / ZD_SECTOR_SIZE)

static struct zd_pmem *open_pmem(void)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr), .bytes = N * PAGE };
	struct zd_pmem *pmem;
	char err[256];
	int rc = zd_pmem_open("memfd:dax-pmem", &attr, &pmem, err, sizeof(err));

	if (rc)
		fprintf(stderr, "%s\n", err);
	CHECK_EQ(rc, 0);
	return pmem;
}

static void pinned(void)
{
	struct zd_pmem *pmem = open_pmem();
	struct zd_dax *dax = zd_pmem_dax(pmem);
	struct zd_pmem_holders who = { 0 };
	struct zd_mm *mm = open_mm();
	struct zd_dax_mapping *map = map_all(dax, mm, 0);
	char *mem = zd_dax_mapping_addr(map), *buf = malloc(N * PAGE);
	struct zd_page *pages[N];
	struct zd_pmem_info info;

	fill(buf, N, 1);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_WRITE, 0, 0, N * SECTORS, buf), 0);
	CHECK_FILLED(mem, N, 1);
	CHECK_EQ(zd_pmem_get_info(pmem, &info), 0);
	CHECK_EQ(zd_dax_close(dax), -EINVAL);

	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, N, ZD_FOLL_LONGTERM, pages), -EOPNOTSUPP);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, N, ZD_FOLL_WRITE, pages), N);
	/* nor now that GUP has entries for the pages */
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem, 1, ZD_FOLL_LONGTERM, pages), -EOPNOTSUPP);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(zd_page_to_pfn(pages[i]), info.pfn + i);
		CHECK_EQ(zd_page_pagemap(pages[i])->type, ZD_MEMORY_FS_DAX);
	}
	memcpy((char *)zd_page_address(pages[3]) + 8, "by the holder", 14);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, 3 * SECTORS, 1, buf), 0);
	CHECK(!strcmp(buf + 8, "by the holder"));

	for (int i = 0; i < N; i++)
		if (i != 9)
			zd_unpin_user_page(pages[i]);
	CHECK_EQ(zd_pmem_remove_timeout(pmem, 10, &who), -ETIMEDOUT);
	CHECK_EQ(who.pages.nr_pages, 1);
	CHECK_EQ(who.pages.pfns[0], info.pfn + 9);
	CHECK_EQ(zd_dax_read(map, 0, buf, 1), -ENODEV);
	CHECK_EQ(*(uint64_t *)zd_page_address(pages[9]), word(1, 9, 0));
	zd_unpin_user_pages_dirty_lock(&pages[9], 1, true);
	CHECK_EQ(zd_pmem_remove_timeout(pmem, 10000, NULL), 0);
	CHECK_EQ(zd_dax_munmap(map), 0);
	zd_pmem_close(pmem);
	CHECK_EQ(zd_mm_close(mm), 0);
	free(buf);
}

/* A file device's pages are copied to the region directly; removal waits for the provider. */
static void lent(void)
{
	struct zd_pmem *pmem = open_pmem();
	struct zd_device *file = file_device(N);
	bool direct = strstr(zd_file_device_mode(file), "O_DIRECT") != NULL;
	struct zd_pmem_holders who = { 0 };
	struct zd_page *theirs[N], *ours[N];
	struct zd_p2pdma_result r;
	char *buf = malloc(N * PAGE);
	struct zd_p2pdma *p;
	zd_pfn_t pfns[N];
	char *mem;

	CHECK_EQ(zd_p2pdma_add_dax(zd_pmem_dax(pmem), N / 2 * PAGE, N / 2 * PAGE, &p), 0);
	mem = alloc_p2p(p, N / 2);
	CHECK_EQ(file->ops->alloc_pages(file, N / 2, pfns), N / 2);
	for (int i = 0; i < N / 2; i++) {
		ours[i] = zd_p2pmem_page(p, mem + i * PAGE);
		theirs[i] = zd_pfn_to_page(pfns[i]);
		CHECK_EQ(zd_page_init(theirs[i]), 0);
	}
	fill(mem, N / 2, 2);
	CHECK_EQ(zd_p2pdma_copy(theirs, ours, N / 2, NULL), 0);
	memset(mem, 0, N / 2 * PAGE);
	CHECK_EQ(zd_p2pdma_copy(ours, theirs, N / 2, &r), 0);
	CHECK_EQ(direct ? r.direct : r.bounced, N / 2);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, N / 2 * SECTORS, N / 2 * SECTORS, buf), 0);
	CHECK_FILLED(buf, N / 2, 2);

	CHECK_EQ(zd_pmem_remove_timeout(pmem, 10, &who), -ETIMEDOUT);
	CHECK_EQ(who.pages.nr_pages, 0);
	CHECK_EQ(who.pages.nr_refs, 1);
	CHECK_FILLED(mem, N / 2, 2);
	for (int i = 0; i < N / 2; i++)
		zd_put_page(theirs[i]);
	zd_free_p2pmem(p, mem, N / 2 * PAGE);
	CHECK_EQ(zd_p2pdma_remove(p), 0);
	CHECK_EQ(zd_pmem_remove_timeout(pmem, 10000, NULL), 0);
	zd_pmem_close(pmem);
	CHECK_EQ(zd_device_unregister(file), 0);
	free(buf);
}

int main(void)
{
	pinned();
	lent();
	return 0;
}
