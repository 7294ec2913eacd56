/* SPDX-License-Identifier: MIT */
/*
 * A device with a gate.  While the gate is closed, batches wait in it: so a test can
 * do things while pages are in flight, for as long as they take, and the outcome
 * doesn't depend on time.  Errors are for all pages of a direction.
 */
#ifndef LIB_GATE_H
#define LIB_GATE_H

#include <poll.h>
#include <sys/eventfd.h>

#include "tests/integration/lib_test.h"

struct gate {
	struct zd_device dev;
	char *mem;
	unsigned char *used;		/* one byte a page: no lock is needed */
	struct zd_device_io *head, **tail;	/* the server's thread only */
	int efd;
	bool swaps;			/* gives out the second and third of three the other way round */
	/* the rest: __atomic */
	bool closed;
	bool pairs;			/* a second batch opens the gate, for both */
	unsigned int waiting;		/* batches at the gate */
	unsigned int asked[ZD_FROM_DEVICE + 1];	/* batches so far, by direction */
	int error[ZD_FROM_DEVICE + 1];	/* by direction */
};

static inline struct gate *to_gate(struct zd_device *dev)
{
	return dev->private_data;
}

static inline int gate_alloc(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct gate *g = to_gate(dev);
	unsigned int got = 0;

	for (uint64_t k = 0; k < dev->nr_pages && got < nr; k++) {
		uint64_t i = g->swaps && k % 3 && k - k % 3 + 2 < dev->nr_pages ?
				     k - k % 3 + 3 - k % 3 :
				     k;

		if (!__atomic_exchange_n(&g->used[i], 1, __ATOMIC_ACQUIRE))
			pfns[got++] = dev->pgmap.pfn + i;
	}
	return got;
}

static inline void gate_give(struct zd_device *dev, zd_pfn_t pfn)
{
	struct gate *g = to_gate(dev);
	uint64_t i = zd_device_page_index(dev, pfn);

	CHECK(i < dev->nr_pages);
	CHECK(__atomic_exchange_n(&g->used[i], 0, __ATOMIC_RELEASE));	/* not freed twice */
}

static inline void gate_unalloc(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	while (nr--)
		gate_give(dev, *pfns++);
}

static inline void gate_page_free(struct zd_device *dev, struct zd_page *page)
{
	gate_give(dev, zd_page_to_pfn(page));
}

static inline char *gate_page(struct zd_device *dev, zd_pfn_t pfn)
{
	return to_gate(dev)->mem + zd_device_page_index(dev, pfn) * PAGE;
}

static inline void gate_do(struct gate *g, struct zd_device_io *io)
{
	for (unsigned int i = 0; i < io->nr; i++) {
		struct zd_io_page *p = &io->pages[i];
		char *mem = gate_page(&g->dev, p->pfn);

		p->error = __atomic_load_n(&g->error[io->dir], __ATOMIC_ACQUIRE);
		if (p->error)
			continue;
		if (io->dir == ZD_TO_DEVICE)
			memcpy(mem, p->buf, PAGE);
		else
			memcpy(p->buf, mem, PAGE);
	}
	io->done(io);
}

/* The first batch out. */
static inline bool gate_let_through(struct gate *g)
{
	struct zd_device_io *io = g->head;

	if (!io)
		return false;
	g->head = io->next;
	if (!g->head)
		g->tail = &g->head;
	__atomic_sub_fetch(&g->waiting, 1, __ATOMIC_RELEASE);
	gate_do(g, io);
	return true;
}

/* What zonedev/device.h says of every batch. */
static inline void gate_check(const struct zd_device_io *io)
{
	CHECK(io->nr && io->nr <= ZD_IO_PAGES_MAX);
	for (unsigned int i = 1; i < io->nr; i++)
		if (io->pages[i].pfn == io->pages[i - 1].pfn + 1)
			CHECK(io->pages[i].buf == (char *)io->pages[i - 1].buf + PAGE);
}

static inline void gate_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct gate *g = to_gate(dev);

	gate_check(io);
	__atomic_add_fetch(&g->asked[io->dir], 1, __ATOMIC_RELEASE);
	if (__atomic_load_n(&g->pairs, __ATOMIC_ACQUIRE) && gate_let_through(g)) {
		gate_do(g, io);
		return;
	}
	if (!__atomic_load_n(&g->closed, __ATOMIC_ACQUIRE) && !g->head) {
		gate_do(g, io);
		return;
	}
	io->next = NULL;
	*g->tail = io;
	g->tail = &io->next;
	__atomic_add_fetch(&g->waiting, 1, __ATOMIC_RELEASE);
}

static inline int gate_reap(struct zd_device *dev, bool wait)
{
	struct gate *g = to_gate(dev);
	struct pollfd pfd = { .fd = g->efd, .events = POLLIN };
	uint64_t n;
	int done = 0;

	do {
		poll(&pfd, 1, wait && g->head ? -1 : 0);
		if (read(g->efd, &n, sizeof(n)) < 0 && errno != EAGAIN)
			return 0;
		while (!__atomic_load_n(&g->closed, __ATOMIC_ACQUIRE) && gate_let_through(g))
			done++;
	} while (wait && !done && g->head);
	return done;
}

static inline int gate_event_fd(struct zd_device *dev)
{
	return to_gate(dev)->efd;
}

static const struct zd_device_ops gate_ops = {
	.size = sizeof(gate_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC,
	.alloc_pages = gate_alloc,
	.unalloc_pages = gate_unalloc,
	.page_free = gate_page_free,
	.submit = gate_submit,
	.reap = gate_reap,
	.event_fd = gate_event_fd,
};

/* Static, so that no test manages its memory.  One a process. */
static inline struct gate *gate_device(size_t pages)
{
	static struct gate g;

	CHECK(!g.mem);
	g.mem = mmap(NULL, pages * (PAGE + 1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	CHECK(g.mem != MAP_FAILED);
	g.used = (unsigned char *)g.mem + pages * PAGE;
	g.tail = &g.head;
	g.efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(g.efd >= 0);
	g.dev.ops = &gate_ops;
	g.dev.name = "gate";
	g.dev.nr_pages = pages;
	g.dev.private_data = &g;
	CHECK_EQ(zd_device_register(&g.dev), 0);
	return &g;
}

static inline void gate_error(struct gate *g, enum zd_io_dir dir, int error)
{
	__atomic_store_n(&g->error[dir], error, __ATOMIC_RELEASE);
}

/* The device again, after its removal. */
static inline void gate_again(struct gate *g)
{
	gate_error(g, ZD_TO_DEVICE, 0);
	gate_error(g, ZD_FROM_DEVICE, 0);
	CHECK_EQ(zd_device_register(&g->dev), 0);
}

static inline void gate_close(struct gate *g)
{
	__atomic_store_n(&g->closed, true, __ATOMIC_RELEASE);
}

static inline void gate_open(struct gate *g)
{
	uint64_t one = 1;

	__atomic_store_n(&g->closed, false, __ATOMIC_RELEASE);
	CHECK_EQ(write(g->efd, &one, sizeof(one)), sizeof(one));
}

static inline unsigned int gate_waiting(const struct gate *g)
{
	return __atomic_load_n(&g->waiting, __ATOMIC_ACQUIRE);
}

static inline unsigned int gate_asked(const struct gate *g, enum zd_io_dir dir)
{
	return __atomic_load_n(&g->asked[dir], __ATOMIC_ACQUIRE);
}

static inline size_t gate_used(const struct gate *g)
{
	size_t nr = 0;

	for (uint64_t i = 0; i < g->dev.nr_pages; i++)
		nr += __atomic_load_n(&g->used[i], __ATOMIC_ACQUIRE);
	return nr;
}

/* --- a migration out in another thread, stopped at the gate --- */

struct migration {
	struct zd_mm *mm;
	void *mem;
	size_t pages;
	struct zd_device *dev;
	struct zd_migrate_result result;
	int rc;
	pthread_t thread;
};

static inline void *migration_thread(void *arg)
{
	struct migration *m = arg;

	m->rc = zd_migrate_to_device(m->mm, m->mem, m->pages * PAGE, m->dev, &m->result);
	return NULL;
}

/* Closes the gate; returns when the first batch (512 pages) waits there. */
static inline void migration_start(struct migration *m)
{
	struct gate *g = to_gate(m->dev);

	gate_close(g);
	CHECK_EQ(gate_waiting(g), 0);
	CHECK_EQ(pthread_create(&m->thread, NULL, migration_thread, m), 0);
	WAIT_FOR(gate_waiting(g));
}

/* Opens the gate, waits for the end. */
static inline void migration_finish(struct migration *m)
{
	gate_open(to_gate(m->dev));
	CHECK_EQ(pthread_join(m->thread, NULL), 0);
	CHECK_EQ(m->rc, 0);
}

/* --- a thread that reads one word, and may have to wait for its page --- */

struct toucher {
	const uint64_t *addr;
	uint64_t value;
	bool done;
	pthread_t thread;
};

static inline void *toucher_thread(void *arg)
{
	struct toucher *t = arg;

	t->value = *(const volatile uint64_t *)t->addr;
	__atomic_store_n(&t->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Returns when the server has seen the thread's fault; no other thread may fault
 * meanwhile. */
static inline void toucher_start(struct toucher *t, struct zd_mm *mm, const void *addr)
{
	uint64_t faults = stats(mm).faults;

	*t = (struct toucher){ .addr = addr };
	CHECK_EQ(pthread_create(&t->thread, NULL, toucher_thread, t), 0);
	WAIT_FOR(stats(mm).faults > faults);
}

static inline bool toucher_done(const struct toucher *t)
{
	return __atomic_load_n(&t->done, __ATOMIC_ACQUIRE);
}

static inline uint64_t toucher_join(struct toucher *t)
{
	WAIT_FOR(toucher_done(t));
	CHECK_EQ(pthread_join(t->thread, NULL), 0);
	return t->value;
}

#endif
