/* SPDX-License-Identifier: MIT */
/*
 * Several devices of a server: which of them gets a page, what moves between them and when, and
 * how one leaves; with devices that refuse, fail, and answer when the test lets them.
 *
 * The server has no thread: each step is the test's.  Pages are never in memory until they come
 * home: the mover leaves marks where they would have been, and makes their contents up.
 */
#include "tests/unit/unit_test.h"

#include <zonedev/device.h>
#include <zonedev/log.h>

#include "base/alloc.h"
#include "base/uapi.h"
#include "engine/delayed_put.h"
#include "engine/demote.h"
#include "engine/entries.h"
#include "engine/evict.h"
#include "engine/exit.h"
#include "engine/fault.h"
#include "engine/home.h"
#include "engine/mig.h"
#include "engine/out.h"
#include "engine/poll.h"
#include "engine/server.h"
#include "engine/shift.h"
#include "engine/tier_removal.h"
#include "space/uffd.h"

#define PAGES	1024u
#define STUBS	3
#define HELD	8

struct stub {
	struct zd_device dev;
	char *memory;
	bool taken[PAGES];
	unsigned int nr_taken;
	int write_error, read_error;	/* of all pages, */
	unsigned int every;		/* or only of each page whose number is a multiple */
	bool hold;			/* batches wait for let_go() */
	struct zd_device_io *held[HELD];
	unsigned int nr_held, nr_writes;
	uint64_t ram_pages;		/* what ->ram_bytes says, in pages */
	bool direct;
};

static struct stub stub[STUBS];
static struct zd_server server;
static struct zd_mm *mm;
static char *memory;	/* PAGES pages, managed, never touched but by the server */
static unsigned int nr_logged;

static struct stub *stub_of(struct zd_device *dev)
{
	return dev->private_data;
}

static uint64_t at(unsigned int i)
{
	return (uintptr_t)memory + i * ZD_PAGE_SIZE;
}

static unsigned int number(uint64_t addr)
{
	return (addr - (uintptr_t)memory) / ZD_PAGE_SIZE;
}

/* --- the devices --- */

static int stub_alloc(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct stub *s = stub_of(dev);
	unsigned int got = 0;

	for (unsigned int i = 0; i < dev->nr_pages && got < nr; i++) {
		if (s->taken[i])
			continue;
		s->taken[i] = true;
		s->nr_taken++;
		pfns[got++] = dev->pgmap.pfn + i;
	}
	return got;
}

static void stub_give(struct zd_device *dev, zd_pfn_t pfn)
{
	struct stub *s = stub_of(dev);
	uint64_t i = zd_device_page_index(dev, pfn);

	assert_true(i < dev->nr_pages && s->taken[i]);
	s->taken[i] = false;
	s->nr_taken--;
}

static void stub_unalloc(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	while (nr--)
		stub_give(dev, *pfns++);
}

static void stub_free(struct zd_device *dev, struct zd_page *page)
{
	stub_give(dev, zd_page_to_pfn(page));
}

static char *stub_page(struct zd_device *dev, zd_pfn_t pfn)
{
	return stub_of(dev)->memory + zd_device_page_index(dev, pfn) * ZD_PAGE_SIZE;
}

static void complete(struct stub *s, struct zd_device_io *io)
{
	for (unsigned int i = 0; i < io->nr; i++) {
		struct zd_io_page *p = &io->pages[i];
		char *page = stub_page(&s->dev, p->pfn);
		uint64_t addr;

		p->error = io->dir == ZD_TO_DEVICE ? s->write_error : s->read_error;
		memcpy(&addr, io->dir == ZD_TO_DEVICE ? p->buf : page, sizeof(addr));
		if (s->every && number(addr) % s->every)
			p->error = 0;
		if (p->error)
			continue;
		if (io->dir == ZD_TO_DEVICE)
			memcpy(page, p->buf, ZD_PAGE_SIZE);
		else
			memcpy(p->buf, page, ZD_PAGE_SIZE);
	}
	zd_io_complete(io);
}

static void stub_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct stub *s = stub_of(dev);

	s->nr_writes += io->dir == ZD_TO_DEVICE;
	if (!s->hold) {
		complete(s, io);
		return;
	}
	assert_true(s->nr_held < HELD);
	s->held[s->nr_held++] = io;
}

static void let_go(struct stub *s)
{
	s->hold = false;
	while (s->nr_held)
		complete(s, s->held[--s->nr_held]);
}

static void *stub_direct(struct zd_device *dev, zd_pfn_t pfn)
{
	return stub_of(dev)->direct ? stub_page(dev, pfn) : NULL;
}

static uint64_t stub_ram_bytes(struct zd_device *dev)
{
	return stub_of(dev)->ram_pages * ZD_PAGE_SIZE;
}

static const struct zd_device_ops stub_ops = {
	.size = sizeof(stub_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.alloc_pages = stub_alloc,
	.unalloc_pages = stub_unalloc,
	.page_free = stub_free,
	.submit = stub_submit,
	.direct_access = stub_direct,
	.ram_bytes = stub_ram_bytes,
};

/* --- the address space --- */

static void fill(void *page, uint64_t addr)
{
	uint64_t *word = page;

	for (unsigned int i = 0; i < ZD_PAGE_SIZE / sizeof(*word); i++)
		word[i] = addr + i;
}

static struct zd_mig *moving;

static int mover_start(struct zd_mm *m, struct zd_mig *mig)
{
	moving = mig;
	for (unsigned int i = 0; i < mig->nr; i++) {
		assert_int_equal(zd_uffd_mark(zd_mm_uffd(m), mig->page[i].addr, ZD_PAGE_SIZE), 0);
		mig->page[i].marked = true;
		mig->page[i].error = 0;
	}
	zd_out_moved(mig);
	return 0;
}

static int mover_fetch(struct zd_mm *m, unsigned int nr, const uint16_t *slot, void *const *dst,
		       bool *zero)
{
	(void)m;
	for (unsigned int k = 0; k < nr; k++) {
		fill(dst[k], moving->page[slot[k]].addr);
		zero[k] = false;
	}
	return 0;
}

static void mover_nothing(struct zd_mm *m)
{
	(void)m;
}

static const struct zd_mover_ops mover = {
	.start = mover_start,
	.fetch = mover_fetch,
	.release = mover_nothing,
	.destroy = mover_nothing,
};

static void resync(struct zd_server *s)
{
	(void)s;
}

static void count_log(enum zd_log_level level, const char *text, void *ctx)
{
	(void)level;
	(void)text;
	(void)ctx;
	nr_logged++;
}

static int setup(void **state)
{
	static const struct zd_server_host host = { .resync = resync };
	int uffd = zd_uffd_open();

	(void)state;
	nr_logged = 0;
	memset(stub, 0, sizeof(stub));
	assert_int_equal(zd_uffd_api(uffd, ZD_UFFD_FEATURES), 0);
	assert_int_equal(zd_server_init(&server, &host, NULL), 0);
	assert_int_equal(zd_mm_create(&server, uffd, NULL, &mm), 0);
	memory = mmap(NULL, PAGES * ZD_PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(zd_mm_manage(mm, at(0), at(PAGES)), 0);
	mm->mover = &mover;
	server.track = true;
	return 0;
}

/* @nr pages; the next tier. */
static struct stub *add(unsigned int nr)
{
	struct stub *s = &stub[server.nr_tiers];

	s->dev.ops = &stub_ops;
	s->dev.name = server.nr_tiers ? server.nr_tiers > 1 ? "third" : "second" : "first";
	s->dev.nr_pages = nr;
	s->dev.private_data = s;
	s->memory = malloc(nr * ZD_PAGE_SIZE);
	assert_int_equal(zd_device_register(&s->dev), 0);
	assert_int_equal(zd_server_attach(&server, &s->dev), 0);
	return s;
}

static int teardown(void **state)
{
	(void)state;
	zd_mm_destroy(mm);
	assert_true(cds_list_empty(&server.migs));
	zd_server_destroy(&server);
	for (unsigned int i = 0; i < STUBS; i++) {
		if (!stub[i].dev.ops)
			continue;
		assert_int_equal(stub[i].nr_taken, 0);
		assert_int_equal(zd_device_unregister(&stub[i].dev), 0);
		free(stub[i].memory);
	}
	munmap(memory, PAGES * ZD_PAGE_SIZE);
	return 0;
}

static int start_out(unsigned int first, unsigned int nr)
{
	struct zd_out_want want = { .dev = server.tiers[0]->dev, .pass_on = server.nr_tiers > 1 };
	uint64_t addrs[ZD_MIG_MAX];

	for (unsigned int i = 0; i < nr; i++)
		addrs[i] = at(first + i);
	return zd_out_start(mm, addrs, nr, &want);
}

/* Pages first .. first + nr - 1 go out, to the first device where it takes them. */
static void out(unsigned int first, unsigned int nr)
{
	assert_int_equal(start_out(first, nr), nr);
}

/* The device that page @i is on, with its content; NULL: it isn't away. */
static struct stub *where(unsigned int i)
{
	zd_entry_t e = *zd_mm_entry(mm, at(i));
	char expected[ZD_PAGE_SIZE];
	struct zd_device *dev;

	if (zd_entry_state(e) != ZD_ENTRY_DEVICE)
		return NULL;
	fill(expected, at(i));
	dev = zd_server_device(&server, zd_entry_val(e));
	assert_memory_equal(stub_page(dev, zd_entry_val(e)), expected, ZD_PAGE_SIZE);
	return stub_of(dev);
}

static unsigned int nr_on(const struct stub *s)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < PAGES; i++)
		nr += where(i) == s;
	return nr;
}

/* Page @i is in memory, and what it was. */
static void is_home(unsigned int i)
{
	char expected[ZD_PAGE_SIZE];

	fill(expected, at(i));
	assert_null(where(i));
	assert_false(*zd_mm_entry(mm, at(i)) & ZD_ENTRY_LOCK);
	assert_memory_equal(memory + i * ZD_PAGE_SIZE, expected, ZD_PAGE_SIZE);
}

/* --- who gets a page --- */

static void first_with_room(void **state)
{
	struct stub *a = add(10), *b = add(20), *c = add(100);

	(void)state;
	out(0, 50);
	assert_int_equal(nr_on(a), 10);
	assert_int_equal(nr_on(b), 20);
	assert_int_equal(nr_on(c), 20);
	assert_ptr_equal(where(0), a);
	assert_ptr_equal(where(49), c);
	assert_int_equal(a->nr_writes + b->nr_writes + c->nr_writes, 3);
	assert_int_equal(mm->nr_device, 50);
	assert_int_equal(server.tiers[1]->nr_entries, 20);
	assert_int_equal(server.tiers[2]->pages_in, 20);
	assert_int_equal(nr_logged, 0);
}

/* No page of any: what was moved goes back, and while that is known nothing is moved. */
static void no_room_at_all(void **state)
{
	struct stub *a = add(10), *b = add(5);

	(void)state;
	out(0, 20);
	zd_mm_drop(mm, at(0), at(1));
	assert_int_equal(start_out(20, 4), 1);
	zd_mm_drop(mm, at(20), at(21));
	assert_int_equal(start_out(0, 1), 1);
	assert_int_equal(nr_on(a), 10);
	assert_int_equal(nr_on(b), 5);
	for (unsigned int i = 15; i < 20; i++)
		is_home(i);
	assert_int_equal(server.stats.c.refused_device, 5);
	zd_flush_delayed_puts(&server);
}

/* A page that doesn't fit goes on alone, at once, and nothing else changes. */
static void one_does_not_fit(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	a->write_error = -ENOSPC;
	a->every = 3;
	out(0, 30);
	for (unsigned int i = 0; i < 30; i++)
		assert_ptr_equal(where(i), i % 3 ? a : b);
	assert_int_equal(nr_logged, 0);
	assert_false(server.tiers[0]->write_failed);
	assert_int_equal(server.tiers[0]->pause_until_ns, 0);
	assert_int_equal(a->nr_taken, 20);
	/* none takes it: RAM */
	b->write_error = -ENOSPC;
	out(30, 3);
	is_home(30);
	assert_ptr_equal(where(31), a);
}

static void a_device_fails(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	a->write_error = -EIO;
	out(0, 10);
	assert_int_equal(nr_on(b), 10);
	out(10, 10);
	assert_int_equal(nr_on(b), 20);
	assert_int_equal(a->nr_taken, 0);
	assert_int_equal(nr_logged, 1);
	/* for a moment the next is asked first */
	assert_false(zd_tier_may_take(&server, server.tiers[0]));
	assert_true(zd_tier_may_take(&server, server.tiers[1]));
	server.tiers[0]->pause_until_ns = 0;
	a->write_error = 0;
	out(20, 10);
	assert_int_equal(nr_on(a), 10);
}

/* A device that can't be reached now keeps nothing from RAM: the page goes back there. */
static void a_device_is_away(void **state)
{
	add(100);
	add(100);
	(void)state;
	stub[0].write_error = -EAGAIN;
	out(0, 4);
	for (unsigned int i = 0; i < 4; i++)
		is_home(i);
}

/* What happens to pages while they are between two devices. */
static void dropped_on_the_way(void **state)
{
	struct stub *a = add(4), *b = add(100);

	(void)state;
	b->hold = true;
	out(0, 10);
	assert_int_equal(b->nr_held, 1);
	zd_mm_drop(mm, at(6), at(8));
	zd_mm_remap(mm, at(9), at(500), ZD_PAGE_SIZE);
	let_go(b);
	assert_int_equal(zd_entry_state(*zd_mm_entry(mm, at(500))), ZD_ENTRY_DEVICE);
	zd_mm_drop(mm, at(500), at(501));
	assert_int_equal(nr_on(a), 4);
	assert_int_equal(b->nr_taken, 3);
	assert_ptr_equal(where(5), b);
	assert_null(where(6));
	assert_null(where(9));
}

/* --- eviction and RAM --- */

static void queue(unsigned int first, unsigned int nr)
{
	for (unsigned int i = first; i < first + nr; i += 32)
		assert_int_equal(zd_mm_lru_add(mm, at(i), 32, false), 0);
	server.resident += nr;
}

static void ram_counts(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	queue(0, 512);
	server.limit = 1000;
	zd_server_evict(&server);
	assert_int_equal(server.resident, 512);
	a->ram_pages = 600;		/* 1112 in all, and more than the share */
	assert_int_equal(zd_server_used(&server), 1112);
	assert_true(zd_server_throttle(&server) || zd_server_used(&server) <= 1000);
	zd_server_evict(&server);
	assert_true(zd_server_used(&server) <= 1000);
	assert_int_equal(nr_on(a), 0);
	assert_true(nr_on(b) >= 112);
	/* within its share it is the first again */
	a->ram_pages = 500;
	queue(512, 256);
	zd_server_evict(&server);
	assert_true(nr_on(a) > 0);
	/* and has no limit when there is no other */
	b->write_error = -EIO;
	a->ram_pages = 700;
	server.tiers[1]->pause_until_ns = UINT64_MAX;
	assert_true(zd_tier_may_take(&server, server.tiers[0]));
	server.tiers[1]->pause_until_ns = 0;
}

/* --- demotion --- */

static void turns(unsigned int nr)
{
	while (nr--)
		zd_server_demote(&server);
}

/* Time passes: what goes out from now on is younger. */
static void later(void)
{
	server.lru.clock += 1 << ZD_LRU_AGE_SHIFT;
}

static void coldest_first(void **state)
{
	struct stub *a = add(320), *b = add(PAGES);
	zd_pfn_t shared;

	(void)state;
	out(100, 100);
	later();
	out(300, 100);
	later();
	turns(4);
	assert_int_equal(nr_on(b), 0);	/* 20 pages are to be free, and are */
	out(0, 100);
	turns(4);
	assert_int_equal(nr_on(b), 0);
	later();
	out(500, 10);
	/* one that a forked child shares isn't worth moving */
	shared = zd_entry_val(*zd_mm_entry(mm, at(101)));
	zd_get_page(zd_pfn_to_page(shared));
	/* went home, and out again: young */
	zd_mm_drop(mm, at(102), at(103));
	out(102, 1);
	turns(20);
	assert_int_equal(server.tiers[0]->pages_demoted, nr_on(b));
	assert_int_equal(nr_on(b), 64);
	for (unsigned int i = 100; i < 166; i++)
		assert_ptr_equal(where(i), i == 101 || i == 102 ? a : b);
	assert_int_equal(server.tiers[1]->pages_in, nr_on(b));
	assert_false(server.demoting);
	zd_put_page(zd_pfn_to_page(shared));
}

/* What its contents take is above the share. */
static void ram_above_share(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	server.limit = 1000;
	out(0, 256);
	a->ram_pages = 500;
	turns(3);
	assert_int_equal(nr_on(b), 0);
	a->ram_pages = 501;
	turns(3);
	assert_int_equal(nr_on(b), 3 * 64);
	/* a turn that has served a fault does less, and none while faults wait */
	server.last_fault = mm;
	turns(1);
	assert_int_equal(nr_on(b), 3 * 64 + 8);
	server.last_fault = NULL;
	server.backlog.nr = 1;
	turns(1);
	server.backlog.nr = 0;
	assert_int_equal(nr_on(b), 3 * 64 + 8);
	assert_int_equal(nr_on(a), 256 - 3 * 64 - 8);
}

/* Pages that no run names: the queue is made anew. */
static void found_by_a_walk(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	server.limit = 1000;
	out(0, 64);
	while (server.tiers[0]->queue.runs)
		zd_fifo_pop(&server.tiers[0]->queue);
	a->ram_pages = 600;
	turns(2);
	assert_int_equal(nr_on(b), 64);
	assert_int_equal(nr_on(a), 0);
}

/* An error on the way leaves a page where it was, and isn't tried again at once. */
static void stays_on_error(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);

	(void)state;
	server.limit = 1000;
	out(0, 64);
	a->ram_pages = 600;
	b->write_error = -EIO;
	turns(2);
	assert_int_equal(nr_on(a), 64);
	assert_int_equal(b->nr_taken, 0);
	assert_int_equal(b->nr_writes, 1);
	b->write_error = 0;
	a->read_error = -EIO;
	server.tiers[0]->demote_after_ns = server.tiers[1]->pause_until_ns = 0;
	turns(2);
	assert_int_equal(nr_on(a), 64);
	a->read_error = 0;
	server.tiers[0]->demote_after_ns = 0;
	turns(2);
	assert_int_equal(nr_on(b), 64);
}

/* --- a shift, step by step --- */

static unsigned int went, landings;

static void shift_landed(struct zd_mig *mig)
{
	went += mig->gone;
	landings++;
}

static int shift(unsigned int first, unsigned int nr, unsigned int to)
{
	struct zd_shift_want want = { .to = server.tiers[to], .landed = shift_landed };
	struct zd_place places[ZD_MIG_MAX];

	went = landings = 0;
	for (unsigned int i = 0; i < nr; i++)
		places[i] = (struct zd_place){ mm, at(first + i) };
	return zd_shift(&server, places, nr, &want);
}

/* An unmap, an mremap and a fork while the pages are read, or written. */
static void meanwhile(bool reading)
{
	struct stub *a = add(100), *b = add(100);
	struct stub *slow = reading ? a : b;
	struct zd_mm *child;

	out(0, 10);
	slow->hold = true;
	assert_int_equal(shift(0, 10, 1), 10);
	assert_int_equal(slow->nr_held, 1);
	assert_int_equal(mm->nr_device, 10);
	zd_mm_drop(mm, at(2), at(4));
	zd_mm_remap(mm, at(5), at(600), ZD_PAGE_SIZE);
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &child), 0);
	assert_int_equal(zd_uffd_api(zd_mm_uffd(child), 0), 0);
	assert_int_equal(zd_mm_adopt(child, at(0), at(PAGES)), 0);
	zd_get_page(zd_pfn_to_page(zd_entry_val(*zd_mm_entry(mm, at(7)))));
	zd_mm_set_device(child, at(7), zd_entry_val(*zd_mm_entry(mm, at(7))));
	let_go(slow);
	assert_int_equal(landings, 1);
	assert_int_equal(went, 8);
	assert_int_equal(mm->nr_device, 8);
	assert_int_equal(b->nr_taken, 8);
	assert_int_equal(a->nr_taken, 1);	/* the child's */
	assert_int_equal(child->on_tier[0], 1);
	assert_int_equal(mm->on_tier[1], 8);
	assert_int_equal(zd_entry_state(*zd_mm_entry(mm, at(600))), ZD_ENTRY_DEVICE);
	zd_mm_drop(mm, at(600), at(601));
	assert_int_equal(nr_on(b), 7);
	zd_mm_destroy(child);
}

static void while_it_reads(void **state)
{
	(void)state;
	meanwhile(true);
}

static void while_it_writes(void **state)
{
	(void)state;
	meanwhile(false);
}

/* The address space ends in the middle. */
static void ends_meanwhile(void **state)
{
	struct stub *a = add(100), *b = add(100);
	struct zd_mm *other;

	(void)state;
	out(0, 10);
	b->hold = true;
	assert_int_equal(shift(0, 10, 1), 10);
	zd_mm_drop(mm, at(0), at(PAGES));
	assert_int_equal(mm->nr_device, 0);
	assert_int_equal(zd_mm_create(&server, zd_uffd_open(), NULL, &other), 0);
	zd_mm_destroy(mm);
	mm = other;
	let_go(b);
	assert_int_equal(a->nr_taken + b->nr_taken, 0);
}

/* A fault waits for the read, and not for the write. */
static void fault_meanwhile(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	out(0, 4);
	a->hold = b->hold = true;
	assert_int_equal(shift(0, 4, 1), 4);
	zd_fault(mm, at(1), 0, 0);
	assert_true(*zd_mm_entry(mm, at(1)) & ZD_ENTRY_LOCK);
	let_go(a);
	is_home(1);
	assert_true(*zd_mm_entry(mm, at(2)) & ZD_ENTRY_LOCK);
	zd_fault(mm, at(2), 0, 0);
	is_home(2);
	let_go(b);
	is_home(1);
	is_home(2);
	assert_ptr_equal(where(0), b);
	assert_ptr_equal(where(3), b);
	assert_int_equal(went, 2);
	zd_flush_delayed_puts(&server);
	assert_int_equal(a->nr_taken, 0);
	assert_int_equal(b->nr_taken, 2);
}

/* Where the server can address both devices nothing is ever in flight. */
static void direct(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	a->direct = b->direct = true;
	out(0, 10);
	assert_int_equal(shift(0, 10, 1), 10);
	assert_int_equal(went, 10);
	assert_int_equal(nr_on(b), 10);
	assert_int_equal(a->nr_taken, 0);
	assert_int_equal(a->nr_writes + b->nr_writes, 0);
}

/* --- home --- */

/* A fault brings neighbours, but of one device. */
static void home_of_one_device(void **state)
{
	struct stub *a = add(5), *b = add(100);

	(void)state;
	out(0, 8);
	assert_int_equal(zd_home(mm, at(0), 8, ZD_HOME_FAULT, at(6), 0), 3);
	assert_int_equal(nr_on(a), 5);
	assert_int_equal(nr_on(b), 0);
	assert_int_equal(zd_home(mm, at(1), 4, ZD_HOME_MOVE, 0, 0), 4);
	assert_ptr_equal(where(0), a);
	for (unsigned int i = 1; i < 8; i++)
		is_home(i);
	zd_flush_delayed_puts(&server);
	assert_int_equal(server.tiers[0]->pages_home, 4);
	assert_int_equal(server.tiers[1]->pages_home, 3);
}

/* --- removal --- */

static int take_away(struct stub *s)
{
	struct zd_tier_removal r = { .dev = &s->dev };
	enum zd_cmd_result result;
	int rc;

	for (unsigned int i = 0; i < 10000; i++) {
		result = zd_tier_removal_step(&server, &r, &rc);
		zd_flush_delayed_puts(&server);
		if (result == ZD_CMD_DONE)
			return rc;
		if (result == ZD_CMD_WAIT)
			for (unsigned int k = 0; k < STUBS; k++)
				let_go(&stub[k]);
	}
	fail_msg("a removal that doesn't end");
	return -1;
}

static void detach(struct stub *s)
{
	assert_int_equal(zd_device_live_pages(&s->dev), 0);
	zd_server_detach(&server, &s->dev);
	assert_int_equal(zd_device_unregister(&s->dev), 0);
	free(s->memory);
	s->dev.ops = NULL;
}

/* @which of three tiers goes, all others have room. */
static void remove_one(unsigned int which)
{
	struct stub *s[] = { add(100), add(100), add(300) };

	out(0, 250);
	assert_int_equal(nr_on(s[which]), which == 2 ? 50 : 100);
	zd_mm_drop(mm, at(0), at(60));
	zd_mm_drop(mm, at(100), at(110));
	s[which]->hold = true;
	assert_int_equal(take_away(s[which]), 0);
	assert_int_equal(nr_on(s[which]), 0);
	assert_int_equal(mm->nr_device, 180);
	/* the next below, as far as it has room; from the last, the first above */
	assert_int_equal(nr_on(s[0]), which == 0 ? 0 : which == 1 ? 40 : 90);
	assert_int_equal(nr_on(s[1]), which == 0 ? 100 : which == 1 ? 0 : 90);
	detach(s[which]);
	assert_int_equal(server.nr_tiers, 2);
	if (which == 0)
		zd_mm_drop(mm, at(110), at(120));
	/* the others go on */
	out(0, 10);
	assert_int_equal(nr_on(&stub[0]) + nr_on(&stub[1]) + nr_on(&stub[2]), mm->nr_device);
	assert_int_equal(mm->nr_device, which == 0 ? 180 : 190);
}

static void remove_first(void **state)
{
	(void)state;
	remove_one(0);
}

/* Both of two, the last one first. */
static void remove_all(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	out(0, 150);
	assert_int_equal(take_away(b), 0);
	/* above there is no room: home */
	assert_int_equal(nr_on(a), 100);
	for (unsigned int i = 100; i < 150; i++)
		is_home(i);
	detach(b);
	assert_int_equal(take_away(a), 0);
	assert_int_equal(mm->nr_device, 0);
	assert_true(server.tiers[0]->removing);
	detach(a);
	assert_int_equal(server.nr_tiers, 0);
}

static void remove_middle(void **state)
{
	(void)state;
	remove_one(1);
}

static void remove_last(void **state)
{
	(void)state;
	remove_one(2);
}

/* What can't be read calls the removal off, and all else stays as it is. */
static void removal_called_off(void **state)
{
	struct stub *a = add(100), *b = add(100);

	(void)state;
	out(0, 50);
	a->read_error = -EIO;
	a->every = 10;
	assert_int_equal(take_away(a), -EIO);
	assert_int_equal(nr_on(a), 5);
	assert_int_equal(nr_on(b), 45);
	assert_false(server.tiers[0]->removing);
	a->read_error = 0;
	assert_int_equal(take_away(a), 0);
	assert_int_equal(nr_on(b), 50);
	/* a page that no other device takes comes home */
	a->write_error = -EIO;
	a->every = 0;
	server.tiers[0]->removing = false;
	assert_int_equal(take_away(b), 0);
	for (unsigned int i = 0; i < 50; i++)
		is_home(i);
	assert_int_equal(a->nr_taken + b->nr_taken, 0);
}

/* A batch on its way to a device that is being removed goes to the next. */
static void removed_in_flight(void **state)
{
	struct stub *a = add(100), *b = add(100);
	struct zd_tier_removal r = { .dev = &a->dev };
	int rc;

	(void)state;
	a->hold = true;
	out(0, 20);
	assert_int_equal(zd_tier_removal_step(&server, &r, &rc), ZD_CMD_WAIT);
	let_go(a);
	assert_int_equal(zd_tier_removal_step(&server, &r, &rc), ZD_CMD_DONE);
	assert_int_equal(rc, 0);
	assert_int_equal(nr_on(b), 20);
	/* and nothing new goes there */
	assert_false(zd_tier_may_take(&server, server.tiers[0]));
	zd_tier_removal_cancel(&server, &r);
	assert_true(zd_tier_may_take(&server, server.tiers[0]));
}

/* Memory runs out at each allocation in turn: the removal ends, and no page is lost. */
static void removal_without_memory(void **state)
{
	struct stub *a = add(PAGES), *b = add(PAGES);
	int rc;

	(void)state;
	for (unsigned int nth = 1, first = 0; nth < 6; nth++, first += 150) {
		out(first, 150);
		server.tiers[0]->removing = false;
		zd_migs_free_spares(&server);
		zd_alloc_fail_nth(nth);
		rc = take_away(a);
		zd_alloc_fail_nth(0);
		assert_true(!rc || rc == -ENOMEM);
		assert_true(rc || !nr_on(a));
		for (unsigned int i = first; i < first + 150; i++)
			if (!where(i))
				is_home(i);
		if (rc)
			zd_mm_drop(mm, at(first), at(first + 150));
		server.tiers[0]->removing = false;
	}
	assert_true(nr_on(b) > 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(first_with_room),	  TEST(no_room_at_all),
		TEST(one_does_not_fit),	  TEST(a_device_fails),
		TEST(a_device_is_away),	  TEST(dropped_on_the_way),
		TEST(ram_counts),	  TEST(coldest_first),
		TEST(ram_above_share),	  TEST(found_by_a_walk),
		TEST(stays_on_error),	  TEST(while_it_reads),
		TEST(while_it_writes),	  TEST(ends_meanwhile),
		TEST(fault_meanwhile),	  TEST(direct),
		TEST(home_of_one_device), TEST(remove_first),
		TEST(remove_middle),	  TEST(remove_last),
		TEST(remove_all),	  TEST(removal_called_off),
		TEST(removed_in_flight),  TEST(removal_without_memory),
	};
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	close(fd);
	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	zd_set_log(count_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
