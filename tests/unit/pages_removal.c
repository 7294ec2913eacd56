/* SPDX-License-Identifier: MIT */
/*
 * Removal of a pagemap and of a device by themselves: held pages, removal from
 * where it would wait for itself, twice, and what a reader may still look at.
 * What Linux 6.1 does is said at each (mm/memremap.c, unless told otherwise).
 */
#include "unit_test.h"

#include <pthread.h>
#include <zonedev/device.h>
#include <zonedev/gup.h>
#include <zonedev/log.h>
#include <zonedev/page_owner.h>
#include <zonedev/pagemap.h>

#include "pages/rcu.h"
#include "pages/pagemap.h"
#include "pages/pfn_range.h"

static int freed, warned;
static char warning[1100];

static void count_free(struct zd_page *page)
{
	(void)page;
	__atomic_add_fetch(&freed, 1, __ATOMIC_RELAXED);
}

static const struct zd_pagemap_ops plain_ops = { .size = sizeof(plain_ops),
						 .page_free = count_free };

static void catch_log(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	if (level == ZD_LOG_WARN) {
		warned++;
		snprintf(warning, sizeof(warning), "%s", msg);
	}
}

static int setup(void **state)
{
	(void)state;
	freed = 0;
	zd_set_log(catch_log, NULL);
	return 0;
}

static struct zd_pagemap make(enum zd_memory_type type, const struct zd_pagemap_ops *ops)
{
	return (struct zd_pagemap){ .type = type, .ops = ops, .nr_pages = 1000 };
}

static bool is_dying(const struct zd_pagemap *m)
{
	struct zd_pagemap *held = zd_get_dev_pagemap(m->pfn);

	if (held)
		zd_put_dev_pagemap(held);
	return !held;
}

/* --- pinned pages --- */

struct unmapping {
	struct zd_pagemap *map;
	int rc;
	bool done;	/* __atomic */
	pthread_t thread;
};

static void *unmap_thread(void *arg)
{
	struct unmapping *u = arg;

	u->rc = zd_memunmap_pages(u->map);
	__atomic_store_n(&u->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void unmap_start(struct unmapping *u, struct zd_pagemap *map)
{
	*u = (struct unmapping){ .map = map, .rc = 1 };
	assert_int_equal(pthread_create(&u->thread, NULL, unmap_thread, u), 0);
	while (!is_dying(map))
		usleep(100);
}

/*
 * A page that is pinned for a short time: removal waits for it.
 *
 * Linux 6.1: memunmap_pages() waits for pgmap->ref, which for MEMORY_DEVICE_FS_DAX
 * and _GENERIC counts each page once from memremap_pages() on, pinned or not;
 * memunmap_pages() itself puts those counts just before it waits.  A pinned page's
 * own count isn't looked at: the struct pages go under the pin.
 */
static void test_pinned_short(void **state)
{
	static const enum zd_memory_type types[] = {
		ZD_MEMORY_DEVICE_PRIVATE,
		ZD_MEMORY_FS_DAX,
		ZD_MEMORY_GENERIC,
		ZD_MEMORY_P2PDMA,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct zd_pagemap m = make(types[i], &plain_ops);
		struct zd_page *page;
		struct unmapping u;

		assert_int_equal(zd_memremap_pages(&m), 0);
		page = zd_pfn_to_page(m.pfn + 5);
		assert_int_equal(zd_page_init(page), 0);
		assert_true(zd_try_get_page_refs(page, ZD_PIN_BIAS));
		zd_put_page(page);		/* only the pin is left */
		unmap_start(&u, &m);
		assert_false(__atomic_load_n(&u.done, __ATOMIC_ACQUIRE));
		zd_get_page(page);		/* it is as good as ever */
		zd_put_page(page);
		assert_true(zd_page_maybe_dma_pinned(page));
		zd_unpin_user_page(page);
		assert_int_equal(pthread_join(u.thread, NULL), 0);
		assert_int_equal(u.rc, 0);
		assert_int_equal(freed, i + 1);
	}
}

/*
 * A page that is pinned for long: the timed form gives up and names it, as often as
 * it is asked, and the pin stays good.
 *
 * Linux 6.1: GUP refuses FOLL_LONGTERM of FS_DAX pages (hmm/gup.c, check_vma_flags());
 * a device-dax page may be pinned so, and its removal doesn't wait (see above).  There
 * is no timed form and no report.  For _PRIVATE and _COHERENT pages, which hold
 * pgmap->ref while they are in use, memunmap_pages() waits without a limit.
 */
static void test_pinned_long(void **state)
{
	struct zd_pagemap m = make(ZD_MEMORY_GENERIC, &plain_ops);
	struct zd_pagemap_holders h;
	struct zd_page *page;

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), 0);
	page = zd_pfn_to_page(m.pfn + 999);
	assert_int_equal(zd_page_init(page), 0);
	assert_true(zd_try_get_page_refs(page, ZD_PIN_BIAS));
	zd_put_page(page);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(zd_memunmap_pages_timeout(&m, i, &h), -ETIMEDOUT);
		assert_int_equal(h.nr_pages, 1);
		assert_int_equal(h.nr_refs, 0);
		assert_int_equal(h.nr_pfns, 1);
		assert_int_equal(h.pfns[0], m.pfn + 999);
		assert_int_equal(zd_page_count(page), ZD_PIN_BIAS);
	}
	assert_int_equal(zd_page_init(page - 1), -ENODEV);
	zd_unpin_user_page(page);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	assert_int_equal(freed, 1);
}

/* --- from where it would wait for itself --- */

static struct zd_pagemap inner, outer;
static int inner_rc[3], outer_rc[2];

static void removes(struct zd_page *page)
{
	/* its own, also timed, and another one */
	assert_ptr_equal(zd_page_pagemap(page), &inner);
	inner_rc[0] = zd_memunmap_pages(&inner);
	inner_rc[1] = zd_memunmap_pages_timeout(&inner, 0, NULL);
	inner_rc[2] = zd_memunmap_pages(&outer);
	count_free(page);
}

/* A page_free that puts a page whose page_free removes. */
static void puts_inner(struct zd_page *page)
{
	zd_put_page(zd_pfn_to_page(inner.pfn));
	outer_rc[0] = zd_memunmap_pages(&outer);
	count_free(page);
}

static const struct zd_pagemap_ops removes_ops = { .size = sizeof(removes_ops),
						   .page_free = removes };
static const struct zd_pagemap_ops puts_ops = { .size = sizeof(puts_ops), .page_free = puts_inner };

/*
 * From inside page_free: refused.
 *
 * Linux 6.1: free_zone_device_page() calls ->page_free and puts pgmap->ref after it;
 * a page_free that calls memunmap_pages() waits for that put and never returns.
 * Nothing detects it but the hung-task watchdog.
 */
static void test_from_page_free(void **state)
{
	(void)state;
	inner = make(ZD_MEMORY_DEVICE_PRIVATE, &removes_ops);
	outer = make(ZD_MEMORY_DEVICE_PRIVATE, &puts_ops);
	assert_int_equal(zd_memremap_pages(&inner), 0);
	assert_int_equal(zd_memremap_pages(&outer), 0);
	assert_int_equal(zd_page_init(zd_pfn_to_page(inner.pfn)), 0);
	assert_int_equal(zd_page_init(zd_pfn_to_page(outer.pfn)), 0);
	warned = 0;
	zd_put_page(zd_pfn_to_page(outer.pfn));
	assert_int_equal(freed, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(inner_rc[i], -EDEADLK);
	assert_int_equal(outer_rc[0], -EDEADLK);	/* also after the inner one */
	assert_int_equal(warned, 1);
	assert_non_null(strstr(warning, "page_free"));

	/* nothing has changed, and behind it removal works as ever */
	assert_false(is_dying(&inner));
	assert_false(is_dying(&outer));
	assert_int_equal(zd_memunmap_pages(&outer), 0);
	assert_int_equal(zd_memunmap_pages(&inner), 0);
}

/* The same while a removal waits for that very page. */
static void test_from_last_page_free(void **state)
{
	struct unmapping u;

	(void)state;
	inner = make(ZD_MEMORY_DEVICE_PRIVATE, &removes_ops);
	assert_int_equal(zd_memremap_pages(&inner), 0);
	assert_int_equal(zd_page_init(zd_pfn_to_page(inner.pfn)), 0);
	unmap_start(&u, &inner);
	zd_put_page(zd_pfn_to_page(inner.pfn));
	assert_int_equal(pthread_join(u.thread, NULL), 0);
	assert_int_equal(u.rc, 0);
	assert_int_equal(inner_rc[0], -EDEADLK);
}

static int removes_itself(struct zd_pagemap *m)
{
	outer_rc[0] = zd_memunmap_pages(m);
	outer_rc[1] = zd_memunmap_pages(&inner);
	return 0;
}

static int removes_outer(struct zd_pagemap *m)
{
	inner_rc[0] = zd_memunmap_pages(&outer);
	inner_rc[1] = zd_memunmap_pages(m);
	return 0;
}

/* From inside revoke: itself refused, directly or by way of another; another one is
 * fine, since a device may be made of others.  (Linux 6.1 has no revoke.) */
static void test_from_revoke(void **state)
{
	static const struct zd_pagemap_ops outer_ops = {
		.size = sizeof(outer_ops), .page_free = count_free, .revoke = removes_itself,
	}, inner_ops = {
		.size = sizeof(inner_ops), .page_free = count_free, .revoke = removes_outer,
	};

	(void)state;
	outer = make(ZD_MEMORY_DEVICE_PRIVATE, &outer_ops);
	inner = make(ZD_MEMORY_DEVICE_PRIVATE, &inner_ops);
	assert_int_equal(zd_memremap_pages(&outer), 0);
	assert_int_equal(zd_memremap_pages(&inner), 0);
	assert_int_equal(zd_memunmap_pages(&outer), 0);
	assert_int_equal(outer_rc[0], -EDEADLK);
	assert_int_equal(outer_rc[1], 0);
	assert_int_equal(inner_rc[0], -EDEADLK);
	assert_int_equal(inner_rc[1], -EDEADLK);
	assert_null(inner.priv);
}

/* --- devices: from page_free, and twice --- */

static int alloc_pages(struct zd_device *d, unsigned int nr, zd_pfn_t *pfns)
{
	(void)d, (void)nr, (void)pfns;
	return 0;
}

static void unalloc_pages(struct zd_device *d, unsigned int nr, const zd_pfn_t *pfns)
{
	(void)d, (void)nr, (void)pfns;
}

static int device_rc[2];

static void device_page_free(struct zd_device *d, struct zd_page *page)
{
	(void)page;
	device_rc[0] = zd_device_unregister(d);
	device_rc[1] = zd_device_unregister_timeout(d, 0, NULL);
}

static void submit(struct zd_device *d, struct zd_device_io *io)
{
	(void)d;
	zd_io_complete(io);
}

/* As drivers do: the device's memory goes with it. */
static void destroy(struct zd_device *d)
{
	memset(d, 0xaa, sizeof(*d));
	__asm__ volatile("" : : "r"(d) : "memory");	/* not for nothing */
	free(d);
}

static const struct zd_device_ops device_ops = {
	.size = sizeof(device_ops), .version = ZD_DEVICE_OPS_VERSION,
	.alloc_pages = alloc_pages, .unalloc_pages = unalloc_pages,
	.page_free = device_page_free, .submit = submit, .destroy = destroy,
};

static struct zd_device *make_device(void)
{
	struct zd_device *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	d->ops = &device_ops;
	d->name = "test";
	d->nr_pages = 100;
	assert_int_equal(zd_device_register(d), 0);
	return d;
}

static void test_device_from_page_free(void **state)
{
	struct zd_device *d = make_device();
	struct zd_page *page = zd_pfn_to_page(d->pgmap.pfn);

	(void)state;
	assert_int_equal(zd_page_init(page), 0);
	zd_put_page(page);
	assert_int_equal(device_rc[0], -EDEADLK);
	assert_int_equal(device_rc[1], -EDEADLK);
	assert_int_equal(zd_device_unregister(d), 0);
}

/*
 * One after the other: the second finds nothing to remove, and doesn't look at memory
 * that is gone.
 *
 * Linux 6.1: a second memunmap_pages() kills pgmap->ref again, after percpu_ref_exit():
 * percpu_ref_kill_and_confirm() warns and the rest works on freed memory.  The driver
 * core calls a driver's remove once, so that drivers needn't care.
 */
static void test_twice(void **state)
{
	struct zd_pagemap *m = malloc(sizeof(*m));
	struct zd_device *d = make_device();
	volatile uintptr_t was_at;

	(void)state;
	*m = make(ZD_MEMORY_GENERIC, NULL);
	assert_int_equal(zd_memremap_pages(m), 0);
	assert_int_equal(zd_memunmap_pages(m), 0);
	assert_int_equal(zd_memunmap_pages(m), -EINVAL);
	assert_int_equal(zd_memunmap_pages_timeout(m, 0, NULL), -EINVAL);
	was_at = (uintptr_t)m;
	free(m);
	assert_int_equal(zd_memunmap_pages((struct zd_pagemap *)was_at), -EINVAL);
	assert_int_equal(zd_device_unregister(d), 0);
	assert_int_equal(zd_device_unregister(d), -EINVAL);
	assert_int_equal(zd_device_unregister_timeout(d, 0, NULL), -EINVAL);
}

#define REMOVERS	3
#define RACES		(SANITIZED ? 100 : 400)

static struct zd_device *contested;
static pthread_barrier_t barrier;
static int wins, losses;

static void *remover(void *arg)
{
	(void)arg;
	for (int i = 0; i < RACES; i++) {
		int rc;

		pthread_barrier_wait(&barrier);		/* it is there */
		rc = i & 1 ? zd_device_unregister(contested) :
			     zd_device_unregister_timeout(contested, 1000, NULL);
		assert_true(rc == 0 || rc == -EBUSY || rc == -EINVAL);
		__atomic_add_fetch(rc ? &losses : &wins, 1, __ATOMIC_RELAXED);
		pthread_barrier_wait(&barrier);		/* all have tried */
	}
	return NULL;
}

/*
 * At once: one removes, the others are told that somebody does, or did.
 *
 * Linux 6.1: device_lock() lets one thread at a time unbind a driver, and the second
 * finds none bound (drivers/base/dd.c, device_driver_detach()).
 */
static void test_at_once(void **state)
{
	pthread_t t[REMOVERS];

	(void)state;
	pthread_barrier_init(&barrier, NULL, REMOVERS + 1);
	for (int i = 0; i < REMOVERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, remover, NULL), 0);
	for (int i = 0; i < RACES; i++) {
		contested = make_device();
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
	}
	for (int i = 0; i < REMOVERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(wins, RACES);
	assert_int_equal(losses, RACES * (REMOVERS - 1));
	pthread_barrier_destroy(&barrier);
}

/* --- what a reader may still look at --- */

struct remapping {
	struct zd_pagemap map;
	zd_pfn_t pfn;		/* __atomic: where it got to; 0: not yet */
	pthread_t thread;
};

static void *remap_thread(void *arg)
{
	struct remapping *r = arg;

	r->map = make(ZD_MEMORY_DEVICE_PRIVATE, &plain_ops);
	assert_int_equal(zd_memremap_pages(&r->map), 0);
	__atomic_store_n(&r->pfn, r->map.pfn, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * A reader that has found the range before it was taken out of the table may still be
 * looking at its state and its descriptors: until it leaves its section the removal
 * doesn't end, the descriptors aren't cleared, and nobody else is given the pfns.
 *
 * Nothing here can fail for want of speed: were the grace period missing, both threads
 * would be done within the time that is waited for them in vain.
 *
 * Linux 6.1: pgmap_array_delete() ends with synchronize_rcu(), for the lookups of
 * get_dev_pagemap(); but pageunmap_range() has removed the struct pages before that.
 */
static void test_not_reused_under_a_reader(void **state)
{
	struct zd_pagemap m = make(ZD_MEMORY_DEVICE_PRIVATE, &plain_ops);
	const struct zd_pagemap_priv *s;
	struct remapping again = { .pfn = 0 };
	struct unmapping u;
	struct zd_page *page;
	unsigned int section;
	uint32_t id;

	(void)state;
	assert_int_equal(zd_memremap_pages(&m), 0);
	page = zd_pfn_to_page(m.pfn + 3);
	zd_page_set_private(page, 0x5ca1ab1e);
	s = m.priv;
	id = s->id;

	section = zd_rcu_read_lock();
	assert_ptr_equal(zd_pagemap_by_id(id), s);
	unmap_start(&u, &m);
	assert_int_equal(pthread_create(&again.thread, NULL, remap_thread, &again), 0);
	for (int i = 0; i < 100; i++) {
		usleep(1000);
		assert_false(__atomic_load_n(&u.done, __ATOMIC_ACQUIRE));
		assert_true(__atomic_load_n(&again.pfn, __ATOMIC_ACQUIRE) != m.pfn);
		assert_int_equal(page->word, 0x5ca1ab1e);
		assert_int_equal(s->nr_pages, 1000);
		assert_ptr_equal(s->pgmap, &m);
		assert_false(zd_try_get_page(page));
	}
	zd_rcu_read_unlock(section);

	assert_int_equal(pthread_join(u.thread, NULL), 0);
	assert_int_equal(u.rc, 0);
	assert_int_equal(pthread_join(again.thread, NULL), 0);
	/* now it may have them: zero again, whoever they were */
	assert_int_equal(zd_pfn_to_page(again.map.pfn + 3)->word, 0);
	assert_int_equal(page->word, 0);
	assert_int_equal(zd_memunmap_pages(&again.map), 0);
}

/* A page_free that takes its time counts as a holder: its page's number can't become
 * another's under it. */
static pthread_barrier_t free_began, free_may_end;

static void slow_free(struct zd_page *page)
{
	pthread_barrier_wait(&free_began);
	pthread_barrier_wait(&free_may_end);
	assert_int_equal(zd_page_pagemap(page)->nr_pages, 1000);
	zd_page_set_private(page, 7);
	count_free(page);
}

static void *put_thread(void *arg)
{
	zd_put_page(arg);
	return NULL;
}

static void test_waits_for_page_free(void **state)
{
	static const struct zd_pagemap_ops slow_ops = { .size = sizeof(slow_ops),
							.page_free = slow_free };
	struct zd_pagemap m = make(ZD_MEMORY_DEVICE_PRIVATE, &slow_ops);
	struct zd_pagemap_holders h;
	struct zd_page *page;
	pthread_t t;

	(void)state;
	pthread_barrier_init(&free_began, NULL, 2);
	pthread_barrier_init(&free_may_end, NULL, 2);
	assert_int_equal(zd_memremap_pages(&m), 0);
	page = zd_pfn_to_page(m.pfn);
	assert_int_equal(zd_page_init(page), 0);
	assert_int_equal(pthread_create(&t, NULL, put_thread, page), 0);
	pthread_barrier_wait(&free_began);
	assert_int_equal(zd_page_count(page), 0);
	assert_int_equal(zd_memunmap_pages_timeout(&m, 50, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_pages, 1);	/* live until page_free has returned */
	assert_int_equal(h.nr_pfns, 0);		/* and yet none that can be pointed at */
	pthread_barrier_wait(&free_may_end);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(freed, 1);
	assert_int_equal(zd_memunmap_pages(&m), 0);
	assert_int_equal(page->word, 0);
}

/* What a build without -Dpage_owner=true says to who asks (pages_page_owner: with). */
static void test_no_page_owner(void **state)
{
	(void)state;
#ifndef ZD_PAGE_OWNER
	assert_int_equal(zd_page_owner_enable(), -EOPNOTSUPP);
	assert_int_equal(zd_page_owner_disable(), -EOPNOTSUPP);
	assert_int_equal(zd_page_owner_report(&inner, NULL, 0), -EOPNOTSUPP);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_pinned_short, setup),
		cmocka_unit_test_setup(test_pinned_long, setup),
		cmocka_unit_test_setup(test_from_page_free, setup),
		cmocka_unit_test_setup(test_from_last_page_free, setup),
		cmocka_unit_test_setup(test_from_revoke, setup),
		cmocka_unit_test_setup(test_device_from_page_free, setup),
		cmocka_unit_test_setup(test_twice, setup),
		cmocka_unit_test_setup(test_at_once, setup),
		cmocka_unit_test_setup(test_not_reused_under_a_reader, setup),
		cmocka_unit_test_setup(test_waits_for_page_free, setup),
		cmocka_unit_test(test_no_page_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
