/* SPDX-License-Identifier: MIT */
/*
 * Devices come and go.
 *
 * One thread creates a device, lets the other threads use it, changes its latency
 * and makes its writes fail meanwhile, and removes it under them.  Removal destroys
 * it, so a thread that names the device in a call must keep it alive: by a reference
 * to one page of it, the anchor.  (That is what page references are for: a live page
 * holds its pagemap.)  A removal can therefore begin at any moment, in the
 * middle of any thread's call, and can't end before the last of these calls.
 *
 * The generation tells a device from the next one: it is raised when one is
 * published and when it is withdrawn, so an even one means none.
 */
#include "tests/stress/lifetime.h"

#define SLOTS	64

static struct lent slot[SLOTS];		/* of each generation; members __atomic */
static uint64_t generation;
static struct lent now_there;		/* the keeper's; between rounds, main's */
static bool is_ram;
bool wanted_back;
struct totals removed;			/* the keeper's */

/* The device that there is, held; false: there is none. */
bool lend(struct lent *l)
{
	/* pairs with the release in publish() */
	uint64_t g = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
	const struct lent *s = &slot[g / 2 % SLOTS];

	if (!(g & 1))
		return false;
	l->dev = __atomic_load_n(&s->dev, __ATOMIC_RELAXED);
	l->anchor = __atomic_load_n(&s->anchor, __ATOMIC_RELAXED);
	/* a descriptor stays readable: at worst it is free, or has become
	 * another page's, and then the generation is another */
	if (!zd_try_get_page(l->anchor))
		return false;
	if (__atomic_load_n(&generation, __ATOMIC_ACQUIRE) == g)
		return true;
	zd_put_page(l->anchor);
	return false;
}

void give_back(const struct lent *l)
{
	zd_put_page(l->anchor);
}

static void publish(const struct lent *l)
{
	uint64_t g = generation + 1;

	__atomic_store_n(&slot[g / 2 % SLOTS].dev, l->dev, __ATOMIC_RELAXED);
	__atomic_store_n(&slot[g / 2 % SLOTS].anchor, l->anchor, __ATOMIC_RELAXED);
	__atomic_store_n(&generation, g, __ATOMIC_RELEASE);
}

static void create(uint64_t *rng)
{
	static const size_t size[] = { 500, 2048, 4096 };
	size_t pages = size[rnd(rng) % 3];
	struct lent l;
	zd_pfn_t pfn;

	is_ram = rnd(rng) % 3;
	l.dev = is_ram ? ram_device(pages) : file_device(pages);
	if (is_ram && rnd(rng) & 1)
		set_latency(l.dev, rnd(rng) % 2000);
	EXPECT(NULL, l.dev->ops->alloc_pages(l.dev, 1, &pfn) == 1, "a new device has no page");
	l.anchor = zd_pfn_to_page(pfn);
	EXPECT(NULL, !zd_page_init(l.anchor), "a new device's page can't be used");
	now_there = l;
	removed.devices++;
	removed.file_devices += !is_ram;
	publish(&l);
}

/* Something changes: how long it takes, or whether writing works. */
static void disturb(uint64_t *rng)
{
	struct zd_ram_faults f = { 0 };

	if (!is_ram)
		return;
	if (rnd(rng) & 1)
		f.latency_us = rnd(rng) % 3000;
	if (rnd(rng) % 4 == 0) {
		f.write_error = -EIO;
		f.first = rnd(rng) % now_there.dev->nr_pages;
		f.nr = rnd(rng) % 64;
	}
	EXPECT(NULL, !zd_ram_device_inject(now_there.dev, &f), "injecting");
}

/* A thread that removes the device, too (OP_REMOVE), can't finish, but may be at it. */
static int remove_timed(unsigned int ms, struct zd_pagemap_holders *h)
{
	int rc;

	do
		rc = zd_device_unregister_timeout(now_there.dev, ms, h);
	while (rc == -EBUSY);
	return rc;
}

/* As long as the anchor is held the device can't go, and the report names the anchor. */
static void remove_in_vain(unsigned int ms)
{
	struct zd_pagemap_holders h = { 0 };
	int rc = remove_timed(ms, &h);

	EXPECT(NULL, rc == -ETIMEDOUT, "removing a device whose page is held: %d", rc);
	EXPECT(NULL, h.nr_pages && h.nr_pfns && h.pfns[0] == zd_page_to_pfn(now_there.anchor),
	       "%llu pages hold the device, the first %#llx: not %#llx",
	       (unsigned long long)h.nr_pages, (unsigned long long)h.pfns[0],
	       (unsigned long long)zd_page_to_pfn(now_there.anchor));
	removed.timeouts++;
}

static void remove_blocking(void)
{
	int rc;

	zd_put_page(now_there.anchor);
	do
		rc = zd_device_unregister(now_there.dev);
	while (rc == -EBUSY);
	EXPECT(NULL, !rc, "zd_device_unregister: %d", rc);
}

static void remove_in_steps(unsigned int ms)
{
	double until = now() + PATIENCE;
	struct zd_pagemap_holders h;
	int rc;

	zd_put_page(now_there.anchor);
	while ((rc = remove_timed(ms, &h)) == -ETIMEDOUT) {
		EXPECT(NULL, now() < until,
		       "%llu pages hold the device, the first %#llx, "
		       "and nobody lets go",
		       (unsigned long long)h.nr_pages, (unsigned long long)h.pfns[0]);
		removed.timeouts++;
	}
	EXPECT(NULL, !rc, "zd_device_unregister_timeout: %d", rc);
}

static void withdraw(void)
{
	__atomic_store_n(&wanted_back, true, __ATOMIC_RELEASE);
	__atomic_store_n(&generation, generation + 1, __ATOMIC_RELEASE);
}

static void remove_it(uint64_t *rng)
{
	unsigned int how = rnd(rng) % 4, ms = rnd(rng) % 20;

	__atomic_store_n(&wanted_back, true, __ATOMIC_RELEASE);
	/* begun while other threads may still get the device */
	if (rnd(rng) & 1)
		remove_in_vain(ms / 2);
	withdraw();
	switch (how) {
	case 0:		/* the device doesn't answer */
		if (is_ram)
			set_latency(now_there.dev, 60000);
		remove_in_vain(ms);
		if (is_ram)
			set_latency(now_there.dev, 0);
		remove_blocking();
		break;
	case 1:
		remove_in_vain(ms);
		/* fallthrough */
	case 2:
		remove_in_steps(1 + ms);
		break;
	default:
		remove_blocking();
	}
	now_there.dev = NULL;
	removed.removals++;
	__atomic_store_n(&wanted_back, false, __ATOMIC_RELEASE);
}

struct lent *the_device(void)
{
	return now_there.dev ? &now_there : NULL;
}

void end_device(void)
{
	if (!now_there.dev)
		return;
	withdraw();
	remove_blocking();
	now_there.dev = NULL;
	removed.removals++;
	__atomic_store_n(&wanted_back, false, __ATOMIC_RELEASE);
}

/* Until the round ends. */
static void keep_round(uint64_t *rng)
{
	for (;;) {
		unsigned int moments = rnd(rng) % 60;

		if (!now_there.dev)
			create(rng);
		while (moments--) {
			if (round_over())
				return;
			usleep(rnd(rng) % 5000);
			disturb(rng);
		}
		remove_it(rng);
	}
}

void *keep_devices(void *unused)
{
	do {
		uint64_t rng = round_seed(THREADS);

		keep_round(&rng);
	} while (round_wait(NULL));
	return unused;
}
