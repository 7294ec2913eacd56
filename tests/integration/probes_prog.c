/* SPDX-License-Identifier: MIT */
/* What probes.sh watches: compiled with ZD_PAGE_TRACE. */
#include <stdio.h>

#include <zonedev/page.h>
#include <zonedev/pagemap.h>

static void page_free(struct zd_page *page)
{
	(void)page;
}

int main(void)
{
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_free };
	struct zd_pagemap pgmap = {
		.type = ZD_MEMORY_DEVICE_PRIVATE, .ops = &ops, .nr_pages = 512,
	};
	struct zd_page *page;

	if (zd_memremap_pages(&pgmap))
		return 1;
	printf("PROGRAM %llu\n", (unsigned long long)pgmap.pfn);
	fflush(stdout);
	page = zd_pfn_to_page(pgmap.pfn);
	if (zd_try_get_page(page) || zd_page_init(page))
		return 1;
	zd_get_page(page);
	zd_put_page(page);
	if (!zd_try_get_page(page))
		return 1;
	zd_put_page(page);
	if (!zd_try_get_page_refs(page, 3))
		return 1;
	zd_put_page_refs(page, 3);
	zd_put_page(page);
	return zd_memunmap_pages(&pgmap) ? 1 : 0;
}
