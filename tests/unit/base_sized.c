/* SPDX-License-Identifier: MIT */
/*
 * Public structs and enums.  Structs that are fixed for ever have the size that they
 * had; a call that fills or reads a sized one keeps to the caller's size, be it shorter
 * or longer than ours; and what a caller forgot (a type, a direction, an op), or asks for
 * that we don't know (a flag, a longer struct's members), is refused.
 */
#include "tests/unit/unit_test.h"

#include <zonedev.h>

/* --- fixed for ever --- */

#define FIXED(type, bytes)	_Static_assert(sizeof(struct type) == bytes, #type)

FIXED(zd_page, 16);
FIXED(zd_pagemap, 56);
FIXED(zd_percpu_slot, 64);
FIXED(zd_percpu_ref, 40);
FIXED(zd_devm, 16);
FIXED(zd_static_key, 4);
FIXED(zd_jump_entry, 16);
FIXED(zd_static_key_module, 24);
FIXED(zd_device, 160);
FIXED(zd_device_io, 56);
FIXED(zd_io_page, 24);
FIXED(zd_p2pdma_sg, 24);
FIXED(zd_pmem_request, 64);

_Static_assert(offsetof(struct zd_migrate_vma, result) + sizeof(struct zd_migrate_result) ==
		       sizeof(struct zd_migrate_vma),
	       "result is the last");
_Static_assert(offsetof(struct zd_pmem_holders, pages) + sizeof(struct zd_pagemap_holders) ==
		       sizeof(struct zd_pmem_holders),
	       "pages is the last");

/* --- what a test's caller has: ours, and what a newer one would have behind it --- */

#define LONGER(type)	struct { struct type s; uint64_t more[2]; }
#define SENTINEL	0x5a

static bool all(const void *mem, size_t from, size_t to, unsigned char c)
{
	for (size_t i = from; i < to; i++)
		if (((const unsigned char *)mem)[i] != c)
			return false;
	return true;
}

static unsigned int warnings;
static enum zd_log_level last_level;

static void count_warnings(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)msg;
	(void)ctx;
	last_level = level;
	warnings += level == ZD_LOG_WARN;
}

static int quiet(void **state)
{
	(void)state;
	warnings = 0;
	zd_set_log(count_warnings, NULL);
	return 0;
}

static int loud(void **state)
{
	(void)state;
	zd_set_log(NULL, NULL);
	return 0;
}

/* --- enums --- */

static void test_types(void **state)
{
	static const int known[] = { ZD_MEMORY_DEVICE_PRIVATE, ZD_MEMORY_FS_DAX, ZD_MEMORY_GENERIC,
				     ZD_MEMORY_P2PDMA, ZD_MEMORY_SYSTEM };
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = (void *)loud };
	unsigned int accepted = 0;

	(void)state;
	for (int type = -1; type < 16; type++) {
		struct zd_pagemap m = { .type = (enum zd_memory_type)type,
					.ops = &ops,
					.nr_pages = 1 };
		bool is_known = false;

		for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
			is_known |= known[i] == type;
		assert_int_equal(zd_memremap_pages(&m), is_known ? 0 : -EINVAL);
		if (!is_known)
			continue;
		accepted++;
		assert_int_equal(zd_memunmap_pages(&m), 0);
	}
	assert_int_equal(accepted, 5);
	assert_int_equal(warnings, 1);
	assert_int_equal(ZD_MEMORY_DEVICE_PRIVATE, 1);	/* as in Linux */
}

/* An unknown level is not lost. */
static void test_levels(void **state)
{
	(void)state;
	for (int level = -1; level < 8; level++) {
		bool known = level >= ZD_LOG_ERR && level <= ZD_LOG_DEBUG;

		zd_log((enum zd_log_level)level, "said");
		assert_int_equal(last_level, known ? level : ZD_LOG_WARN);
	}
}

static void test_directions(void **state)
{
	struct zd_p2pdma_sg sg = { 0 };
	struct zd_device *dev;

	(void)state;
	assert_int_equal(zd_ram_device_create(ZD_PAGE_SIZE, &dev), 0);
	for (int dir = -1; dir < 5; dir++) {
		if (dir == ZD_TO_DEVICE || dir == ZD_FROM_DEVICE)
			continue;
		assert_int_equal(zd_p2pdma_map_sg(dev, &sg, 0, (enum zd_io_dir)dir), -EINVAL);
		assert_int_equal(zd_p2pdma_unmap_sg(dev, &sg, 0, (enum zd_io_dir)dir), -EINVAL);
	}
	assert_int_equal(zd_p2pdma_map_sg(dev, &sg, 0, ZD_TO_DEVICE), 0);
	assert_int_equal(zd_device_unregister(dev), 0);
}

static void test_pmem(void **state)
{
	struct {
		struct zd_pmem_attr s;
		uint64_t more;
	} attr = {
		.s = { .size = sizeof(attr), .bytes = 1 << 20 },
	};
	LONGER(zd_pmem_holders) h;
	LONGER(zd_pmem_info) info;
	char buf[ZD_SECTOR_SIZE];
	struct zd_pmem *pmem;

	(void)state;
	attr.more = 1;
	assert_int_equal(zd_pmem_open("memfd:sized", &attr.s, &pmem, NULL, 0), -EINVAL);
	attr.s.flags = 1u << 31;
	attr.more = 0;
	assert_int_equal(zd_pmem_open("memfd:sized", &attr.s, &pmem, NULL, 0), -EINVAL);
	attr.s.flags = 0;
	assert_int_equal(zd_pmem_open("memfd:sized", &attr.s, &pmem, NULL, 0), 0);

	assert_int_equal(zd_pmem_rw(pmem, (enum zd_pmem_op)0, 0, 0, 1, buf), -EINVAL);
	assert_int_equal(zd_pmem_rw(pmem, (enum zd_pmem_op)6, 0, 0, 1, buf), -EINVAL);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_READ, 1u << 31, 0, 1, buf), -EINVAL);
	assert_int_equal(zd_pmem_queue_enter(pmem, ZD_PMEM_FUA), -EINVAL);
	memset(&info, SENTINEL, sizeof(info));
	assert_int_equal(zd_pmem_get_info_sized(pmem, &info.s, sizeof(info)), 0);
	assert_int_equal(info.s.media_bytes, 1 << 20);
	assert_true(all(&info, sizeof(info.s), sizeof(info), 0));

	assert_int_equal(zd_pmem_queue_enter(pmem, 0), 0);
	memset(&h, SENTINEL, sizeof(h));
	assert_int_equal(zd_pmem_remove_timeout_sized(pmem, 1, &h.s, 8), -ETIMEDOUT);
	assert_int_equal(h.s.nr_requests, 1);
	assert_true(all(&h, 8, sizeof(h), SENTINEL));
	assert_int_equal(zd_pmem_remove_timeout_sized(pmem, 1, &h.s, sizeof(h)), -ETIMEDOUT);
	assert_true(all(&h, sizeof(h.s), sizeof(h), 0));
	zd_pmem_queue_exit(pmem);
	zd_pmem_close(pmem);
}

/* --- structs that calls fill --- */

typedef int (*timeout_fn)(void *what, struct zd_pagemap_holders *out, size_t size);

/* @what has @pages live pages. */
static void check_holders(timeout_fn fn, void *what, uint64_t pages)
{
	LONGER(zd_pagemap_holders) h;

	memset(&h, SENTINEL, sizeof(h));
	assert_int_equal(fn(what, &h.s, sizeof(h.s.nr_pages)), -ETIMEDOUT);
	assert_int_equal(h.s.nr_pages, pages);
	assert_true(all(&h, sizeof(h.s.nr_pages), sizeof(h), SENTINEL));
	assert_int_equal(fn(what, &h.s, sizeof(h)), -ETIMEDOUT);
	assert_int_equal(h.s.nr_pages, pages);
	assert_int_equal(h.s.nr_pfns, pages);
	assert_true(all(&h, sizeof(h.s), sizeof(h), 0));
	assert_int_equal(fn(what, NULL, 0), -ETIMEDOUT);
}

static int unmap(void *what, struct zd_pagemap_holders *out, size_t size)
{
	return zd_memunmap_pages_timeout_sized(what, 1, out, size);
}

static int unregister(void *what, struct zd_pagemap_holders *out, size_t size)
{
	return zd_device_unregister_timeout_sized(what, 1, out, size);
}

static int close_dax(void *what, struct zd_pagemap_holders *out, size_t size)
{
	return zd_dax_close_timeout_sized(what, 1, out, size);
}

static int remove_provider(void *what, struct zd_pagemap_holders *out, size_t size)
{
	return zd_p2pdma_remove_timeout_sized(what, 1, out, size);
}

static void test_holders(void **state)
{
	struct zd_pagemap m = { .type = ZD_MEMORY_GENERIC, .nr_pages = 8 };
	struct zd_pagemap_holders h;
	struct zd_device *dev;
	zd_pfn_t pfn;

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), 0);
	assert_int_equal(zd_page_init(zd_pfn_to_page(m.pfn)), 0);
	check_holders(unmap, &m, 1);
	zd_put_page(zd_pfn_to_page(m.pfn));
	memset(&h, SENTINEL, sizeof(h));
	assert_int_equal(zd_memunmap_pages_timeout(&m, 1, &h), 0);
	assert_true(all(&h, 0, sizeof(h), 0));

	assert_int_equal(zd_ram_device_create(ZD_PAGE_SIZE, &dev), 0);
	assert_int_equal(dev->ops->alloc_pages(dev, 1, &pfn), 1);
	assert_int_equal(zd_page_init(zd_pfn_to_page(pfn)), 0);
	check_holders(unregister, dev, 1);
	zd_put_page(zd_pfn_to_page(pfn));
	assert_int_equal(zd_device_unregister_timeout(dev, 1, &h), 0);
}

static void test_regions(void **state)
{
	struct {
		struct zd_dax_opts s;
		uint64_t more;
	} opts = { .s = { .size = sizeof(opts) } };
	struct {
		struct zd_p2pdma_resource s;
		uint64_t more;
	} res = {
		.s = { .size = sizeof(res), .length = 16 * ZD_PAGE_SIZE },
	};
	int fd = memfd_create("sized", MFD_CLOEXEC);
	struct zd_p2pdma *provider;
	struct zd_dax *dax;
	zd_pfn_t pfn;
	void *mem;

	(void)state;
	assert_int_equal(ftruncate(fd, 16 * ZD_PAGE_SIZE), 0);
	opts.more = 1;
	assert_int_equal(zd_dax_open_fd(fd, &opts.s, &dax), -EINVAL);
	opts.more = 0;
	opts.s.flags = ZD_DAX_RDONLY << 1;
	assert_int_equal(zd_dax_open_fd(fd, &opts.s, &dax), -EINVAL);
	opts.s.flags = 0;
	assert_int_equal(zd_dax_open_fd(fd, &opts.s, &dax), 0);
	assert_int_equal(zd_dax_direct_access(dax, 0, 1, NULL, &pfn), 1);
	check_holders(close_dax, dax, 1);
	zd_put_page(zd_pfn_to_page(pfn));
	assert_int_equal(zd_dax_close(dax), 0);

	res.s.fd = fd;
	res.more = 1;
	assert_int_equal(zd_p2pdma_add_resource(&res.s, &provider), -EINVAL);
	res.more = 0;
	assert_int_equal(zd_p2pdma_add_resource(&res.s, &provider), 0);
	assert_int_equal(zd_alloc_p2pmem(provider, ZD_PAGE_SIZE, &mem), 0);
	check_holders(remove_provider, provider, 1);
	zd_free_p2pmem(provider, mem, ZD_PAGE_SIZE);
	assert_int_equal(zd_p2pdma_remove(provider), 0);
	close(fd);
}

static void test_copy(void **state)
{
	LONGER(zd_p2pdma_result) r;

	(void)state;
	memset(&r, SENTINEL, sizeof(r));
	assert_int_equal(zd_p2pdma_copy_sized(NULL, NULL, 1, &r.s, 8), -EINVAL);
	assert_true(all(&r, 0, 8, 0));
	assert_true(all(&r, 8, sizeof(r), SENTINEL));
	assert_int_equal(zd_p2pdma_copy_sized(NULL, NULL, 1, &r.s, sizeof(r)), -EINVAL);
	assert_true(all(&r, 0, sizeof(r), 0));
	assert_int_equal(zd_p2pdma_copy(NULL, NULL, 1, NULL), -EINVAL);
}

/* --- structs that calls read --- */

static void test_ops(void **state)
{
	struct {
		struct zd_pagemap_ops s;
		void *more;
	} ops = { .s = { .size = sizeof(ops) } };
	struct zd_pagemap m = { .type = ZD_MEMORY_GENERIC, .ops = &ops.s, .nr_pages = 1 };

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), 0);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	ops.more = &ops;
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
	ops.s.size = SIZE_MAX;		/* garbage: nothing behind it is read */
	assert_int_equal(zd_memremap_pages(&m), -EINVAL);
}

static void test_faults(void **state)
{
	struct {
		struct zd_ram_faults s;
		uint64_t more;
	} f = {
		.s = { .read_error = -EIO, .nr = 1 },
	};
	struct zd_device *dev;

	(void)state;
	assert_int_equal(zd_ram_device_create(ZD_PAGE_SIZE, &dev), 0);
	assert_int_equal(zd_ram_device_inject(NULL, &f.s), -EINVAL);
	assert_int_equal(zd_ram_device_inject(dev, NULL), -EINVAL);
	/* one that ends before @read_error has none */
	assert_int_equal(zd_ram_device_inject_sized(dev, &f.s, 8), 0);
	assert_non_null(dev->ops->direct_access(dev, dev->pgmap.pfn));
	assert_int_equal(zd_ram_device_inject_sized(dev, &f.s, sizeof(f)), 0);
	assert_null(dev->ops->direct_access(dev, dev->pgmap.pfn));
	f.more = 1;
	assert_int_equal(zd_ram_device_inject_sized(dev, &f.s, sizeof(f)), -EINVAL);
	assert_int_equal(zd_device_unregister(dev), 0);
}

static void test_mm_attr(void **state)
{
	struct {
		struct zd_mm_attr s;
		uint64_t more;
	} attr = {
		.s = { .size = sizeof(attr) }, .more = 1,
	};
	struct zd_mm *mm;

	(void)state;
	assert_int_equal(zd_mm_open(&attr.s, &mm), -EINVAL);
	attr.s.size = SIZE_MAX;
	assert_int_equal(zd_mm_open(&attr.s, &mm), -EINVAL);
}

#define T(fn)	cmocka_unit_test_setup_teardown(fn, quiet, loud)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_types),	 T(test_levels),  T(test_directions), T(test_pmem),
		T(test_holders), T(test_regions), T(test_copy),	      T(test_ops),
		T(test_faults),	 T(test_mm_attr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
