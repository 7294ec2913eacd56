/* SPDX-License-Identifier: MIT */
/*
 * What the tests of tiers share: devices that refuse, fail, and answer when the test lets them,
 * and a server without a thread, whose steps are the test's.  Pages are never in memory until
 * they come home: the mover leaves marks where they would have been, and makes their contents up.
 */
#ifndef ZD_UNIT_TIERS_TEST_H
#define ZD_UNIT_TIERS_TEST_H

#include "tests/unit/unit_test.h"

#include <zonedev/device.h>
#include <zonedev/log.h>

#include "base/alloc.h"
#include "base/uapi.h"
#include "engine/delayed_put.h"
#include "engine/entries.h"
#include "engine/exit.h"
#include "engine/mig.h"
#include "engine/out.h"
#include "engine/server.h"
#include "space/uffd.h"

#define PAGES	1024u
#define STUBS	3
#define HELD	32

struct stub {
	struct zd_device dev;
	char *memory;
	bool taken[PAGES];
	unsigned int nr_taken, most;	/* 0: as many as there are */
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
static bool may_log;	/* or any log, a reference put too many, say, is a failure */

static inline struct stub *stub_of(struct zd_device *dev)
{
	return dev->private_data;
}

static inline uint64_t at(unsigned int i)
{
	return (uintptr_t)memory + i * ZD_PAGE_SIZE;
}

static inline unsigned int number(uint64_t addr)
{
	return (addr - (uintptr_t)memory) / ZD_PAGE_SIZE;
}

/* --- the devices --- */

static inline int stub_alloc(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct stub *s = stub_of(dev);
	unsigned int got = 0;

	for (unsigned int i = 0; i < dev->nr_pages && got < nr; i++) {
		if (s->most && s->nr_taken == s->most)
			break;
		if (s->taken[i])
			continue;
		s->taken[i] = true;
		s->nr_taken++;
		pfns[got++] = dev->pgmap.pfn + i;
	}
	return got;
}

static inline void stub_give(struct zd_device *dev, zd_pfn_t pfn)
{
	struct stub *s = stub_of(dev);
	uint64_t i = zd_device_page_index(dev, pfn);

	assert_true(i < dev->nr_pages && s->taken[i]);
	s->taken[i] = false;
	s->nr_taken--;
}

static inline void stub_unalloc(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	while (nr--)
		stub_give(dev, *pfns++);
}

static inline void stub_free(struct zd_device *dev, struct zd_page *page)
{
	stub_give(dev, zd_page_to_pfn(page));
}

static inline char *stub_page(struct zd_device *dev, zd_pfn_t pfn)
{
	return stub_of(dev)->memory + zd_device_page_index(dev, pfn) * ZD_PAGE_SIZE;
}

static inline void complete(struct stub *s, struct zd_device_io *io)
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

static inline void stub_submit(struct zd_device *dev, struct zd_device_io *io)
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

static inline void let_go(struct stub *s)
{
	s->hold = false;
	while (s->nr_held)
		complete(s, s->held[--s->nr_held]);
}

static inline void *stub_direct(struct zd_device *dev, zd_pfn_t pfn)
{
	return stub_of(dev)->direct ? stub_page(dev, pfn) : NULL;
}

static inline uint64_t stub_ram_bytes(struct zd_device *dev)
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

static inline void fill(void *page, uint64_t addr)
{
	uint64_t *word = page;

	for (unsigned int i = 0; i < ZD_PAGE_SIZE / sizeof(*word); i++)
		word[i] = addr + i;
}

static struct zd_mig *moving;

static inline int mover_start(struct zd_mm *m, struct zd_mig *mig)
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

static inline int mover_fetch(struct zd_mm *m, unsigned int nr, const uint16_t *slot,
			      void *const *dst, bool *zero)
{
	(void)m;
	for (unsigned int k = 0; k < nr; k++) {
		fill(dst[k], moving->page[slot[k]].addr);
		zero[k] = false;
	}
	return 0;
}

static inline void mover_nothing(struct zd_mm *m)
{
	(void)m;
}

static const struct zd_mover_ops mover = {
	.start = mover_start,
	.fetch = mover_fetch,
	.release = mover_nothing,
	.destroy = mover_nothing,
};

static inline void resync(struct zd_server *s)
{
	(void)s;
}

static inline void count_log(enum zd_log_level level, const char *text, void *ctx)
{
	(void)level;
	(void)text;
	(void)ctx;
	nr_logged++;
}

static inline int setup(void **state)
{
	static const struct zd_server_host host = { .resync = resync };
	int uffd = zd_uffd_open();

	(void)state;
	nr_logged = 0;
	may_log = false;
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
static inline struct stub *add(unsigned int nr)
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

static inline int teardown(void **state)
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
	assert_true(may_log || !nr_logged);
	return 0;
}

static inline int start_out(unsigned int first, unsigned int nr)
{
	struct zd_out_want want = { .dev = server.tiers[0]->dev, .pass_on = server.nr_tiers > 1 };
	uint64_t addrs[ZD_MIG_MAX];

	for (unsigned int i = 0; i < nr; i++)
		addrs[i] = at(first + i);
	return zd_out_start(mm, addrs, nr, &want);
}

/* Pages first .. first + nr - 1 go out, to the first device where it takes them. */
static inline void out(unsigned int first, unsigned int nr)
{
	assert_int_equal(start_out(first, nr), nr);
}

/* The device that page @i is on, with its content; NULL: it isn't away. */
static inline struct stub *where(unsigned int i)
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

static inline unsigned int nr_on(const struct stub *s)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < PAGES; i++)
		nr += where(i) == s;
	return nr;
}

/* Page @i is in memory, and what it was. */
static inline void is_home(unsigned int i)
{
	char expected[ZD_PAGE_SIZE];

	fill(expected, at(i));
	assert_null(where(i));
	assert_false(*zd_mm_entry(mm, at(i)) & ZD_ENTRY_LOCK);
	assert_memory_equal(memory + i * ZD_PAGE_SIZE, expected, ZD_PAGE_SIZE);
}

static inline int run_all(const struct CMUnitTest *tests, size_t nr)
{
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	close(fd);
	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	zd_set_log(count_log, NULL);
	return _cmocka_run_group_tests("tests", tests, nr, NULL, NULL);
}

#define TEST(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
