/* SPDX-License-Identifier: MIT */
#include "unit_test.h"

#include <zonedev/log.h>
#include <zonedev/pagemap.h>

#include "base/alloc.h"

/* The kernel says so of pages that are swapped out, too: it is not to be asked who holds. */
int mincore(void *start, size_t len, unsigned char *vec)
{
	(void)start;
	memset(vec, 0, (len + 4095) / 4096);
	return 0;
}

static int freed, revoked, revoke_result;
static char info[1100];

static void page_free(struct zd_page *page)
{
	(void)page;
	__atomic_add_fetch(&freed, 1, __ATOMIC_RELAXED);
}

static int take_back(struct zd_pagemap *pgmap)
{
	revoked++;
	/* Killed already, and not released yet. */
	assert_null(zd_get_dev_pagemap(pgmap->pfn));
	return revoke_result;
}

static const struct zd_pagemap_ops ops = { sizeof(ops), page_free, take_back };

static struct zd_pagemap make(uint64_t nr_pages)
{
	return (struct zd_pagemap){ .type = ZD_MEMORY_DEVICE_PRIVATE,
				    .ops = &ops,
				    .nr_pages = nr_pages };
}

static void catch_log(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	if (level == ZD_LOG_INFO)
		snprintf(info, sizeof(info), "%s", msg);
}

static int setup(void **state)
{
	(void)state;
	freed = revoked = revoke_result = 0;
	info[0] = '\0';
	zd_set_log(catch_log, NULL);
	return 0;
}

static void test_map_unmap(void **state)
{
	struct zd_pagemap a = make(1000), b = make(1), c = make(1024);
	struct zd_page *page;
	zd_pfn_t pfn;

	(void)state;
	assert_int_equal(zd_memremap_pages(&a), 0);
	assert_int_equal(zd_memremap_pages(&b), 0);
	assert_int_equal(a.pfn % 512, 0);
	assert_int_equal(b.pfn % 512, 0);
	assert_true(b.pfn >= a.pfn + 1000 || a.pfn >= b.pfn + 1);

	page = zd_pfn_to_page(a.pfn + 999);
	zd_page_set_private(page, 42);
	zd_page_set_private(zd_pfn_to_page(b.pfn), 43);
	pfn = a.pfn;
	assert_int_equal(zd_memunmap_pages(&a), 0);
	assert_int_equal(revoked, 1);
	assert_int_equal(zd_memunmap_pages(&a), -EINVAL);
	/* Cleared; the neighbour is not; the hole is filled again. */
	assert_int_equal(page->word, 0);
	assert_int_equal(zd_page_private(zd_pfn_to_page(b.pfn)), 43);
	assert_int_equal(zd_memremap_pages(&c), 0);
	assert_int_equal(c.pfn, pfn);
	a = make(1025);
	assert_int_equal(zd_memremap_pages(&a), 0);
	assert_true(a.pfn > b.pfn);
	assert_int_equal(zd_memunmap_pages(&b), 0);
	assert_int_equal(zd_memunmap_pages(&a), 0);
	assert_int_equal(zd_memunmap_pages(&c), 0);
}

static void test_bad_arguments(void **state)
{
	struct zd_pagemap_ops short_ops = { .size = sizeof(size_t), .page_free = page_free };
	struct zd_pagemap m = make(0);

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
	m = make((1ULL << 36) + 1);
	assert_int_equal(zd_memremap_pages(&m), -ENOSPC);
	m = make(1ULL << 36);
	assert_int_equal(zd_memremap_pages(&m), -ENOSPC);
	m = make(1);
	m.type = (enum zd_memory_type)17;
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
	m = make(1);
	m.ops = NULL;
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
	m.ops = &short_ops;	/* page_free lies beyond its size */
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
	short_ops.size = 0;
	m.type = ZD_MEMORY_GENERIC;
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
	m.ops = NULL;
	assert_int_equal(zd_memremap_pages(&m), 0);
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	assert_int_equal(zd_pagemap_live_pages(&m), 0);
}

/* An ops struct from before revoke: what lies behind it isn't called. */
static void test_short_ops(void **state)
{
	struct zd_pagemap_ops old = ops;
	struct zd_pagemap m = make(1);

	(void)state;
	old.size = offsetof(struct zd_pagemap_ops, revoke);
	m.ops = &old;
	assert_int_equal(zd_memremap_pages(&m), 0);
	assert_int_equal(zd_page_init(zd_pfn_to_page(m.pfn)), 0);
	zd_put_page(zd_pfn_to_page(m.pfn));
	assert_int_equal(freed, 1);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	assert_int_equal(revoked, 0);
}

static void test_lookup(void **state)
{
	struct zd_pagemap m[40];

	(void)state;
	for (int i = 0; i < 40; i++) {
		m[i] = make(i * 100 + 1);
		assert_int_equal(zd_memremap_pages(&m[i]), 0);
	}
	for (int i = 0; i < 40; i++) {
		assert_ptr_equal(zd_get_dev_pagemap(m[i].pfn), &m[i]);
		assert_ptr_equal(zd_get_dev_pagemap(m[i].pfn + i * 100), &m[i]);
		assert_null(zd_get_dev_pagemap(m[i].pfn + i * 100 + 1));
		zd_put_dev_pagemap(&m[i]);
		zd_put_dev_pagemap(&m[i]);
	}
	assert_null(zd_get_dev_pagemap(0));
	assert_null(zd_get_dev_pagemap(1ULL << 35));
	for (int i = 0; i < 40; i += 2)
		assert_int_equal(zd_memunmap_pages(&m[i]), 0);
	for (int i = 1; i < 40; i += 2) {
		assert_ptr_equal(zd_get_dev_pagemap(m[i].pfn), &m[i]);
		zd_put_dev_pagemap(&m[i]);
		assert_int_equal(zd_memunmap_pages(&m[i]), 0);
	}
}

static void test_timeout(void **state)
{
	struct zd_pagemap m = make(100000), *held;
	struct zd_pagemap_holders h;
	struct zd_page *first, *last;

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), 0);
	first = zd_pfn_to_page(m.pfn + 10);
	last = zd_pfn_to_page(m.pfn + 99999);
	assert_int_equal(zd_page_init(first), 0);
	assert_int_equal(zd_page_init(last), 0);
	held = zd_get_dev_pagemap(m.pfn);
	assert_ptr_equal(held, &m);

	assert_int_equal(zd_memunmap_pages_timeout(&m, 5, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_pages, 2);
	assert_int_equal(h.nr_refs, 1);
	assert_int_equal(h.nr_pfns, 2);
	assert_int_equal(h.pfns[0], m.pfn + 10);
	assert_int_equal(h.pfns[1], m.pfn + 99999);

	/* Those who hold it go on; nobody new comes in. */
	zd_get_page(first);
	assert_true(zd_try_get_page(last));
	zd_put_page(last);
	assert_null(zd_get_dev_pagemap(m.pfn));
	assert_int_equal(zd_page_init(zd_pfn_to_page(m.pfn + 1)), -ENODEV);
	assert_int_equal(zd_page_count(zd_pfn_to_page(m.pfn + 1)), 0);

	zd_put_page(first);
	zd_put_page(first);
	assert_int_equal(freed, 1);
	zd_put_dev_pagemap(held);
	assert_int_equal(zd_memunmap_pages_timeout(&m, 0, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_pages, 1);
	assert_int_equal(h.nr_refs, 0);
	assert_int_equal(h.nr_pfns, 1);
	assert_int_equal(zd_memunmap_pages_timeout(&m, 0, NULL), -ETIMEDOUT);
	zd_put_page(last);
	assert_int_equal(zd_memunmap_pages_timeout(&m, 0, &h), 0);
	assert_int_equal(revoked, 1);
	assert_int_equal(last->pgmap_id, 0);
}

/* More live pages than the report holds. */
static void test_many_holders(void **state)
{
	struct zd_pagemap m = make(1000);
	struct zd_pagemap_holders h;

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(zd_page_init(zd_pfn_to_page(m.pfn + i)), 0);
	assert_int_equal(zd_pagemap_live_pages(&m), 1000);
	assert_int_equal(zd_memunmap_pages_timeout(&m, 0, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_pages, 1000);
	assert_int_equal(h.nr_pfns, ZD_PAGEMAP_HOLDER_PFNS);
	assert_int_equal(h.pfns[15], m.pfn + 15);
	for (int i = 0; i < 1000; i++)
		zd_put_page(zd_pfn_to_page(m.pfn + i));
	assert_int_equal(zd_memunmap_pages(&m), 0);
	assert_int_equal(freed, 1000);
}

static void test_revoke_refuses(void **state)
{
	struct zd_pagemap m = make(10);
	struct zd_page *page;

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), 0);
	page = zd_pfn_to_page(m.pfn);
	assert_int_equal(zd_page_init(page), 0);
	revoke_result = -ENOMEM;
	assert_int_equal(zd_memunmap_pages(&m), -ENOMEM);
	assert_int_equal(zd_memunmap_pages_timeout(&m, 0, NULL), -ENOMEM);
	/* As it was. */
	assert_ptr_equal(zd_get_dev_pagemap(m.pfn), &m);
	zd_put_dev_pagemap(&m);
	assert_int_equal(zd_page_init(page + 1), 0);
	zd_put_page(page + 1);
	assert_int_equal(zd_pagemap_live_pages(&m), 1);
	revoke_result = 0;
	assert_int_equal(zd_memunmap_pages_timeout(&m, 0, NULL), -ETIMEDOUT);
	zd_put_page(page);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	assert_int_equal(revoked, 3);
}

static void test_out_of_memory(void **state)
{
	struct zd_pagemap m[20];
	int i;

	(void)state;
	/* Each allocation of a map fails once; the last try has none left. */
	m[0] = make(10);
	for (i = 1; i < 10; i++) {
		zd_alloc_fail_nth(i);
		if (zd_memremap_pages(&m[0]) == 0)
			break;
		assert_null(m[0].priv);
	}
	zd_alloc_fail_nth(0);
	assert_in_range(i, 3, 9);
	/* Past the tables' first capacity, where they grow. */
	for (i = 1; i < 16; i++) {
		m[i] = make(1);
		assert_int_equal(zd_memremap_pages(&m[i]), 0);
	}
	/* Unmapping needs no memory. */
	zd_alloc_fail_nth(1);
	for (i = 0; i < 16; i++)
		assert_int_equal(zd_memunmap_pages(&m[i]), 0);
	zd_alloc_fail_nth(0);
}

static void test_speed_and_size(void **state)
{
	struct zd_pagemap m = make(1ULL << 32);	/* 16 TiB */
	double best = 1, t;
	long before;

	(void)state;
	if (SANITIZED)
		skip();
	assert_int_equal(zd_memremap_pages(&m), 0);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	before = rss();
	/* The best of several: others share the machine. */
	for (int i = 0; i < 20; i++) {
		t = now_s();
		assert_int_equal(zd_memremap_pages(&m), 0);
		zd_page_init(zd_pfn_to_page(m.pfn + (1ULL << 31)));
		zd_put_page(zd_pfn_to_page(m.pfn + (1ULL << 31)));
		assert_true(rss() - before < 1 << 20);
		assert_int_equal(zd_memunmap_pages(&m), 0);
		t = now_s() - t;
		best = t < best ? t : best;
	}
	printf("16 TiB map + unmap: %.0f us\n", best * 1e6);
	assert_true(best < 1e-3);

	/* Finding the one holder of 16 TiB, without touching the other pages. */
	struct zd_pagemap_holders h;
	struct rusage before_use, use;

	assert_int_equal(zd_memremap_pages(&m), 0);
	assert_int_equal(zd_page_init(zd_pfn_to_page(m.pfn + m.nr_pages - 1)), 0);
	getrusage(RUSAGE_SELF, &before_use);
	assert_int_equal(zd_memunmap_pages_timeout(&m, 0, &h), -ETIMEDOUT);
	getrusage(RUSAGE_SELF, &use);
	assert_true(use.ru_minflt - before_use.ru_minflt < 100);
	assert_int_equal(h.nr_pfns, 1);
	assert_int_equal(h.pfns[0], m.pfn + m.nr_pages - 1);
	assert_true(rss() - before < 1 << 20);
	zd_put_page(zd_pfn_to_page(h.pfns[0]));
	assert_int_equal(zd_memunmap_pages(&m), 0);
}

static long vm_size_kb(void)
{
	char line[128];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmSize: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

/* In a child: what a pagemap adds to the process is what its descriptors take, and so
 * mlockall() can still lock it, and doesn't lock what isn't there yet. */
static void test_size_of_process(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (pid == 0) {
		struct zd_pagemap m = make(512), big = make(1ULL << 34);
		long before = vm_size_kb();

		if (zd_memremap_pages(&m) || vm_size_kb() - before > 32 << 10)
			_exit(1);
		if (!mlockall(MCL_CURRENT | MCL_FUTURE)) {
			long locked = rss();

			if (zd_memremap_pages(&big) || rss() - locked > 32 << 20)
				_exit(2);
			if (zd_page_init(zd_pfn_to_page(big.pfn + big.nr_pages - 1)))
				_exit(3);
			zd_put_page(zd_pfn_to_page(big.pfn + big.nr_pages - 1));
			if (zd_memunmap_pages(&big))
				_exit(4);
		}
		_exit(zd_memunmap_pages(&m) ? 5 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* In a child: with less address space the table is smaller, and says so. */
static void test_small_address_space(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (SANITIZED)	/* its shadow doesn't fit under a limit */
		skip();
	pid = fork();
	if (pid == 0) {
		struct rlimit as = { 16UL << 30, 16UL << 30 };
		struct zd_pagemap m = make(1 << 20), big = make(1ULL << 34);

		setrlimit(RLIMIT_AS, &as);
		if (zd_memremap_pages(&m) || !strstr(info, "address space is limited"))
			_exit(1);
		info[0] = '\0';
		if (zd_memremap_pages(&big) != -ENOSPC || info[0])
			_exit(2);
		_exit(zd_memunmap_pages(&m) ? 3 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* first: the table isn't reserved yet in this process */
		cmocka_unit_test_setup(test_size_of_process, setup),
		cmocka_unit_test_setup(test_small_address_space, setup),
		cmocka_unit_test_setup(test_out_of_memory, setup),
		cmocka_unit_test_setup(test_map_unmap, setup),
		cmocka_unit_test_setup(test_bad_arguments, setup),
		cmocka_unit_test_setup(test_short_ops, setup),
		cmocka_unit_test_setup(test_lookup, setup),
		cmocka_unit_test_setup(test_timeout, setup),
		cmocka_unit_test_setup(test_many_holders, setup),
		cmocka_unit_test_setup(test_revoke_refuses, setup),
		cmocka_unit_test_setup(test_speed_and_size, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
