/* SPDX-License-Identifier: MIT */
/*
 * A removal that can't be: the device answers errors, or there is no memory for the pages
 * on it.  The removal is called off, and everything is as it was.
 */
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "tests/integration/lib_gate.h"

#define N	300
#define FIRST	100
#define BAD	5

static struct zd_mm *mm;

/* So many times UFFDIO_COPY finds memory for a few pages, and then for none; < 0: always for
 * all. */
static int copies = -1;
#define FEW	8

/* Copy a part and say so, as the kernel does. */
static int copy_few(int fd, struct uffdio_copy *copy)
{
	uint64_t len = copy->len;
	int rc;

	if (len > FEW * PAGE)
		copy->len = FEW * PAGE;
	rc = syscall(SYS_ioctl, fd, UFFDIO_COPY, copy);
	if (rc || copy->len == len)
		return rc;
	copy->len = len;
	errno = EAGAIN;
	return -1;
}

/* In place of libc's: the library is linked into this program. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int left;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	left = __atomic_load_n(&copies, __ATOMIC_ACQUIRE);
	if (request != UFFDIO_COPY || left < 0)
		return syscall(SYS_ioctl, fd, request, arg);
	/* the server's thread copies, and no other */
	if (left) {
		__atomic_compare_exchange_n(&copies, &left, left - 1, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_RELAXED);
		return copy_few(fd, arg);
	}
	errno = ENOMEM;
	return -1;
}

static void no_memory_after(int nr)
{
	__atomic_store_n(&copies, nr, __ATOMIC_RELEASE);
}

static void enough_memory(void)
{
	__atomic_store_n(&copies, -1, __ATOMIC_RELEASE);
}

/* Everything is as it was: the pages are on the device, which takes and gives as before. */
static void check_live(struct zd_device *dev, char *mem, uint64_t tag)
{
	struct zd_pagemap *held = zd_get_dev_pagemap(dev->pgmap.pfn);
	struct zd_migrate_result r;

	CHECK(held);
	zd_put_dev_pagemap(held);
	CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved + r.already, N);
	CHECK_EQ(zd_device_live_pages(dev), N);
	CHECK_EQ(stats(mm).pages_poisoned, 0);
	CHECK_FILLED(mem, N, tag);
	evict(mm, mem, N, dev);
}

/* --- errors --- */

static int go[2];

static void child_reads(void *mem)
{
	char c;

	CHECK_EQ(read(go[0], &c, 1), 1);
	CHECK_FILLED(mem, N, 1);
}

/* From now on the device pages of mem[FIRST..] answer @error, or none (0). */
static void inject(struct zd_device *dev, char *mem, int error)
{
	static struct zd_ram_faults f;
	zd_pfn_t pfns[BAD];

	if (error) {
		CHECK_EQ(zd_migrate_device_pfns(mm, mem + FIRST * PAGE, BAD * PAGE, pfns, BAD), 0);
		for (int i = 1; i < BAD; i++)
			CHECK_EQ(pfns[i], pfns[0] + i);
		f.first = zd_device_page_index(dev, pfns[0]);
	}
	f.nr = BAD;
	f.read_error = error;
	CHECK_EQ(zd_ram_device_inject(dev, &f), 0);
}

/*
 * Pages that the device can't read stay, and so does the device; when it can, they come home.
 *
 * Linux 6.1: what to do is the driver's; nouveau_dmem_evict_chunk() ignores the copy's
 * error and gives the program the new page with whatever was in it
 * (drivers/gpu/drm/nouveau/nouveau_dmem.c).
 */
static void cant_read(void)
{
	struct zd_device *dev = ram_device(2 * N);
	char *mem = evicted(mm, N, 1, dev);
	struct zd_pagemap_holders h;
	pid_t child;

	inject(dev, mem, -ENXIO);
	CHECK_EQ(zd_device_unregister(dev), -EIO);
	CHECK(zd_device_live_pages(dev) >= BAD);
	CHECK_EQ(zd_device_unregister_timeout(dev, PATIENCE * 1000, &h), -EIO);
	CHECK(zd_device_live_pages(dev) >= BAD);
	inject(dev, mem, 0);
	check_live(dev, mem, 1);

	/* shared with a child: neither process loses a page */
	CHECK(!pipe(go));
	child = child_start(child_reads, mem);
	inject(dev, mem, -EIO);
	CHECK_EQ(zd_device_unregister(dev), -EIO);
	inject(dev, mem, 0);
	CHECK_EQ(write(go[1], "", 1), 1);
	child_ok(child);
	check_live(dev, mem, 1);
	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_EQ(resident(mem, N), N);
	CHECK_FILLED(mem, N, 1);
	munmap(mem, N * PAGE);
}

/* A thread that must have such a page now gets SIGBUS, never zeros; then the page holds up
 * the removal no more. */
static void cant_read_and_wanted(void)
{
	struct zd_device *dev = ram_device(2 * N);
	char *mem = evicted(mm, N, 2, dev);
	uint64_t poisoned = stats(mm).pages_poisoned;

	inject(dev, mem, -EIO);
	CHECK_EQ(zd_device_unregister(dev), -EIO);
	for (int i = 0; i < BAD; i++)
		CHECK(raises_sigbus(mem + (FIRST + i) * PAGE));
	CHECK_EQ(stats(mm).pages_poisoned - poisoned, BAD);
	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_EQ(bad_page(mem, 0, FIRST, 2), FIRST);
	CHECK_EQ(bad_page(mem, FIRST + BAD, N, 2), N);
	CHECK(raises_sigbus(mem + FIRST * PAGE));
	munmap(mem, N * PAGE);
}

/* A thread waits for a page of the removal's own batch when that fails: it faults again, and
 * gets its own answer. */
struct waiter {
	char *addr;
	bool bus;
};

static void *waiter_thread(void *arg)
{
	struct waiter *w = arg;

	w->bus = raises_sigbus(w->addr);
	return NULL;
}

struct removal {
	struct zd_device *dev;
	int rc;
};

static void *removal_thread(void *arg)
{
	struct removal *r = arg;

	r->rc = zd_device_unregister(r->dev);
	return NULL;
}

static void waits_for_the_removals_batch(void)
{
	struct gate *g = gate_device(N);
	char *mem = evicted(mm, N, 3, &g->dev);
	struct waiter w = { .addr = mem + 50 * PAGE };
	struct removal removal = { .dev = &g->dev };
	uint64_t faults;
	pthread_t t, r;

	gate_close(g);
	gate_error(g, ZD_FROM_DEVICE, -EIO);
	CHECK_EQ(pthread_create(&r, NULL, removal_thread, &removal), 0);
	WAIT_FOR(gate_waiting(g));
	faults = stats(mm).faults;
	CHECK_EQ(pthread_create(&t, NULL, waiter_thread, &w), 0);
	WAIT_FOR(stats(mm).faults > faults);
	gate_open(g);
	CHECK_EQ(pthread_join(r, NULL), 0);
	CHECK_EQ(removal.rc, -EIO);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK(w.bus);
	gate_error(g, ZD_FROM_DEVICE, 0);
	CHECK_EQ(bad_page(mem, 0, 50, 3), 50);
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	CHECK_EQ(gate_used(g), 0);
	munmap(mem, N * PAGE);
}

/* --- no memory --- */

/*
 * There is no memory for the pages on the device, or only for some.
 *
 * Linux 6.1: nouveau_dmem_evict_chunk() allocates with __GFP_NOFAIL, "because the GPU is
 * going away and there is nothing sensible we can do": the driver waits, or the OOM killer
 * is called, with the device half removed.
 */
static void no_memory(unsigned int latency_us)
{
	struct zd_device *dev = ram_device(2 * N);
	char *mem;

	if (latency_us)		/* else the kernel copies straight from it */
		set_latency(dev, latency_us);
	mem = evicted(mm, N, 4, dev);
	for (int nr = 0; nr < 2; nr++) {
		no_memory_after(nr);
		CHECK_EQ(zd_device_unregister(dev), -ENOMEM);
		CHECK(zd_device_live_pages(dev) > 0);
		no_memory_after(0);
		CHECK_EQ(zd_device_unregister_timeout(dev, PATIENCE * 1000, NULL), -ENOMEM);
		enough_memory();
		check_live(dev, mem, 4);
	}
	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_FILLED(mem, N, 4);
	munmap(mem, N * PAGE);
}

/* A removal that has timed out, and then finds no memory: called off all the same, so
 * that the device is not left half removed. */
static void no_memory_after_a_timeout(void)
{
	struct zd_device *dev = ram_device(2 * N);
	char *mem = evicted(mm, N, 5, dev);
	struct zd_page *held;
	zd_pfn_t pfns[N];

	CHECK_EQ(zd_migrate_device_pfns(mm, mem, N * PAGE, pfns, N), 0);
	held = zd_pfn_to_page(pfns[0]);
	zd_get_page(held);
	set_latency(dev, 300000);	/* longer than the removal waits */
	CHECK_EQ(zd_device_unregister_timeout(dev, 1, NULL), -ETIMEDOUT);
	CHECK(!zd_get_dev_pagemap(dev->pgmap.pfn));
	no_memory_after(0);
	CHECK_EQ(zd_device_unregister(dev), -ENOMEM);
	enough_memory();
	set_latency(dev, 0);
	zd_put_page(held);
	check_live(dev, mem, 5);
	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_FILLED(mem, N, 5);
	munmap(mem, N * PAGE);
}

int main(void)
{
	static unsigned int logged;

	catch_sigbus();
	mm = open_mm();
	zd_set_log(quiet, &logged);
	cant_read();
	no_memory(0);
	no_memory(1);
	no_memory_after_a_timeout();
	cant_read_and_wanted();
	waits_for_the_removals_batch();
	CHECK(__atomic_load_n(&logged, __ATOMIC_RELAXED));	/* the log says so */
	CHECK_EQ(zd_mm_close(mm), 0);
	return 0;
}
