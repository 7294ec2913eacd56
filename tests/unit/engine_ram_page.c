/* SPDX-License-Identifier: MIT */
/* Descriptors of RAM pages when their pagemap is being removed: none is lost. */
#include "tests/unit/unit_test.h"

#include "engine/ram_page.c"

#define BASE	UINT64_C(0x200000000)
#define AT(i)	(BASE + (uint64_t)(i) * ZD_PAGE_SIZE)
#define N	10

static struct zd_mm mm;

/* Numbers that were given out and are not on the list of free ones. */
static uint64_t in_use(void)
{
	uint64_t nr = mm.ram_pages->fresh;

	for (zd_pfn_t pfn = mm.ram_pages->free; pfn; pfn = zd_page_private(zd_pfn_to_page(pfn)))
		nr--;
	return nr;
}

static void test_dying(void **state)
{
	struct zd_pagemap *pgmap;

	(void)state;
	assert_int_equal(zd_table_init(&mm.table), 0);
	assert_int_equal(zd_table_reserve(&mm.table, AT(0), AT(N)), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(zd_ram_page_install(&mm, AT(i)), 0);
	pgmap = &mm.ram_pages->pgmap;
	assert_int_equal(zd_pagemap_live_pages(pgmap), 3);
	zd_ram_page_drop(zd_mm_entry(&mm, AT(2)));	/* one on the list */
	assert_int_equal(in_use(), 2);

	assert_int_equal(zd_memunmap_pages_timeout(pgmap, 0, NULL), -ETIMEDOUT);
	for (int i = 3; i < N; i++) {
		assert_int_equal(zd_ram_page_install(&mm, AT(i)), -ENODEV);
		assert_int_equal(*zd_mm_entry(&mm, AT(i)), 0);
		assert_int_equal(in_use(), 2);
	}
	for (int i = 0; i < 2; i++)
		assert_true(zd_ram_page_release(zd_mm_entry(&mm, AT(i))));
	assert_int_equal(in_use(), 0);
	zd_ram_pages_destroy(&mm);
	zd_table_destroy(&mm.table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dying),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
