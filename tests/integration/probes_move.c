/* SPDX-License-Identifier: MIT */
/*
 * What probes.sh watches: eight pages go out, one comes home when it is touched (its
 * neighbours may come along), the others when they are asked for; one is pinned;
 * and a page that never was is touched.  With a device that the server can address
 * ("ram"), and with one that it must ask ("file").
 */
#include "tests/integration/lib_test.h"

#define PAGES	8
#define ROOM	64

int main(int argc, char **argv)
{
	struct zd_mm *mm = open_mm();
	struct zd_device *dev = argc > 1 && !strcmp(argv[1], "file") ? file_device(ROOM) :
								       ram_device(ROOM);
	char *p = map(2 * PAGES);
	struct zd_migrate_result r;
	struct zd_page *page;

	fill(p, PAGES, 1);
	CHECK_EQ(zd_mm_register(mm, p, 2 * PAGES * PAGE), 0);
	printf("PROGRAM %llu %llu\n", (unsigned long long)(uintptr_t)p,
	       (unsigned long long)dev->pgmap.pfn);
	fflush(stdout);
	evict(mm, p, PAGES, dev);
	CHECK_EQ(*(volatile uint64_t *)p, word(1, 0, 0));
	CHECK_EQ(zd_migrate_to_ram(mm, p, PAGES * PAGE, &r), 0);
	CHECK_FILLED(p, PAGES, 1);
	*(volatile char *)(p + (2 * PAGES - 1) * PAGE) = 1;

	CHECK_EQ(zd_pin_user_pages_fast(mm, p, 1, ZD_FOLL_WRITE, &page), 1);
	printf("PINNED %llu\n", (unsigned long long)zd_page_to_pfn(page));
	fflush(stdout);
	zd_unpin_user_pages(&page, 1);
	CHECK_EQ(zd_pin_user_pages_fast(mm, p, 1, 0, &page), 1);
	zd_unpin_user_page(page);
	close_mm(mm, dev);
	printf("DONE\n");
	return 0;
}
