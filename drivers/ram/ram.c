/* SPDX-License-Identifier: MIT */
/*
 * drivers/ram/ram.c - device memory made of RAM; the reference driver.
 *
 * Memory: an unnamed shared mapping.  Shared, because such a mapping never
 * merges with a neighbouring mapping of the program (so it can't be registered by
 * accident), and because a server that forks to go to the background finds
 * the same memory in the child.  Nothing is reserved: a page costs RAM from
 * its first write on, and the memory of 64-page words that have become free is given
 * back with MADV_REMOVE from ->reap.
 *
 * The server copies by plain loads and stores (->direct_access) and never
 * calls ->submit, unless a test injects latency or errors.  Then batches wait
 * in a queue, the copy is made when they are due, and the timer of event_fd
 * makes the server call ->reap.  The same timer is how ->page_free asks for a
 * ->reap that gives memory back.  Only words that have been free for a while are given
 * back: when the next eviction uses such a word again it costs a fault and a cleared
 * page, which is more than the copy.
 *
 * Locks: ram->lock guards the faults and the two due times, and makes changing one and
 * setting the timer one step.  The pool's lock is not taken inside.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault_guard.h"
#include "base/lock.h"
#include "base/sized.h"
#include "base/time.h"
#include "pages/ioq.h"
#include "drivers/pool.h"
#include "zonedev/device.h"
#include "zonedev/log.h"
#include "zonedev/ram.h"

#define RAM_KICK_WORDS	64	/* 16 MiB: ask for a reap */
#define RAM_IDLE_NS	1000000000ull	/* a word that is punched was free for at least so long */
#define RAM_PUNCH_WORDS	16	/* at most this many in one reap: a fault may wait */

struct zd_ram {
	struct zd_device dev;
	struct zd_pool pool;
	char *mem;
	size_t bytes;
	int timer;
	struct zd_process process;	/* the user: the creator may fork and go on in the child */
	struct zd_mutex lock;
	uint64_t batch_due;		/* for the timer; 0: none */
	uint64_t punch_due;		/* when idle words are given back; 0: none */
	bool faulty;			/* __atomic: direct_access reads it unlocked */
	struct zd_ram_faults faults;
	struct zd_ioq queue;		/* io->driver: when it is due */
	struct zd_io_finisher finisher;
};

static struct zd_ram *to_ram(const struct zd_device *dev)
{
	return dev->private_data;
}

static struct timespec ns_to_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
}

/* Set the timer to what is due first; it isn't readable before.  Called with ram->lock held, by any
 * thread. */
static void set_timer(struct zd_ram *ram)
{
	uint64_t due = ram->batch_due;
	struct itimerspec when = { 0 };

	/* a forked child that puts its copy of a page must not set the parent's timer */
	if (!zd_is_this_process(&ram->process))
		return;

	if (!due || (ram->punch_due && ram->punch_due < due))
		due = ram->punch_due;
	when.it_value = ns_to_timespec(due);
	timerfd_settime(ram->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* The first batch in the queue is due then; 0: the queue is empty. */
static void set_batch_due(struct zd_ram *ram, uint64_t due)
{
	zd_mutex_lock(&ram->lock);
	ram->batch_due = due;
	set_timer(ram);
	zd_mutex_unlock(&ram->lock);
}

/* Have ->reap called in @delay_ns, to give memory back.  Any thread. */
static void schedule_punch(struct zd_ram *ram, uint64_t delay_ns)
{
	zd_mutex_lock(&ram->lock);
	if (!ram->punch_due) {
		ram->punch_due = zd_now_ns() + delay_ns;
		set_timer(ram);
	}
	zd_mutex_unlock(&ram->lock);
}

/* Is the punch due?  It is not any more, then: the caller does it. */
static bool claim_punch(struct zd_ram *ram)
{
	bool now;

	zd_mutex_lock(&ram->lock);
	now = ram->punch_due && ram->punch_due <= zd_now_ns();
	if (now)
		ram->punch_due = 0;
	zd_mutex_unlock(&ram->lock);
	return now;
}

static uint64_t next_due(const struct zd_ram *ram)
{
	return ram->queue.head ? (uint64_t)(uintptr_t)ram->queue.head->driver : 0;
}

static int ram_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	if (nr > INT_MAX)
		nr = INT_MAX;
	return zd_pool_alloc(&to_ram(dev)->pool, nr, dev->pgmap.pfn, pfns);
}

static void free_index(struct zd_ram *ram, uint64_t index)
{
	if (zd_pool_free(&ram->pool, index))
		schedule_punch(ram, RAM_IDLE_NS);
}

static void ram_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		free_index(to_ram(dev), zd_device_page_index(dev, pfns[i]));
}

static void ram_page_free(struct zd_device *dev, struct zd_page *page)
{
	free_index(to_ram(dev), zd_device_page_index(dev, zd_page_to_pfn(page)));
}

static void *ram_direct_access(struct zd_device *dev, zd_pfn_t pfn)
{
	struct zd_ram *ram = to_ram(dev);

	if (__atomic_load_n(&ram->faulty, __ATOMIC_RELAXED))
		return NULL;
	return ram->mem + zd_device_page_index(dev, pfn) * ZD_PAGE_SIZE;
}

static int copy_page(void *dst, const void *src)
{
	return zd_fault_copy(dst, src, ZD_PAGE_SIZE).left ? -EIO : 0;
}

static void copy_batch(struct zd_ram *ram, struct zd_device_io *io)
{
	struct zd_ram_faults faults;
	unsigned int i;

	zd_mutex_lock(&ram->lock);
	faults = ram->faults;
	zd_mutex_unlock(&ram->lock);

	for (i = 0; i < io->nr; i++) {
		struct zd_io_page *page = &io->pages[i];
		uint64_t index = zd_device_page_index(&ram->dev, page->pfn);
		char *mem = ram->mem + index * ZD_PAGE_SIZE;

		page->error = zd_io_dir_is_known(io->dir) ? 0 : -EINVAL;
		if (index >= faults.first && index - faults.first < faults.nr)
			page->error = io->dir == ZD_TO_DEVICE ? faults.write_error :
								faults.read_error;
		if (page->error)
			continue;
		/* the buffer may be a peer's memory, and gone */
		if (io->dir == ZD_TO_DEVICE)
			page->error = copy_page(mem, page->buf);
		else
			page->error = copy_page(page->buf, mem);
	}
	zd_ioq_push(&ram->finisher.done, io);
}

static void ram_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct zd_ram *ram = to_ram(dev);
	uint64_t latency_us;

	zd_mutex_lock(&ram->lock);
	latency_us = ram->faults.latency_us;
	ram->process = zd_this_process();
	zd_mutex_unlock(&ram->lock);

	/* A queue that is not empty keeps its order, even if the latency has
	 * just been turned off. */
	if (!latency_us && !ram->queue.head) {
		copy_batch(ram, io);
		zd_io_finish(&ram->finisher);
		return;
	}
	io->driver = (void *)(uintptr_t)(zd_now_ns() + latency_us * 1000);
	zd_ioq_push(&ram->queue, io);
	if (ram->queue.head == io)
		set_batch_due(ram, next_due(ram));
}

static void wait_until(uint64_t due)
{
	struct timespec ts = ns_to_timespec(due);

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void punch_pages(void *arg, uint64_t first, uint64_t nr)
{
	struct zd_ram *ram = arg;

	if (madvise(ram->mem + first * ZD_PAGE_SIZE, nr * ZD_PAGE_SIZE, MADV_REMOVE))
		zd_warn_once("ram device: can't give memory back: %s", strerrordesc_np(errno));
}

/* Give back the memory of words that were free all through the last period.  The rest of
 * them is for the next ->reap; younger words are for the end of another period. */
static void punch(struct zd_ram *ram)
{
	bool more = zd_pool_punch(&ram->pool, RAM_PUNCH_WORDS, punch_pages, ram);

	if (zd_pool_idle_words(&ram->pool))
		schedule_punch(ram, more ? 0 : RAM_IDLE_NS);
}

static int ram_reap(struct zd_device *dev, bool wait)
{
	struct zd_ram *ram = to_ram(dev);
	int nr;

	if (wait && ram->queue.head)
		wait_until(next_due(ram));
	while (ram->queue.head && next_due(ram) <= zd_now_ns())
		copy_batch(ram, zd_ioq_pop(&ram->queue));
	nr = zd_io_finish(&ram->finisher);

	if (claim_punch(ram))
		punch(ram);
	set_batch_due(ram, next_due(ram));
	return nr;
}

static int ram_event_fd(struct zd_device *dev)
{
	return to_ram(dev)->timer;
}

static int ram_resize(struct zd_device *dev, uint64_t nr_pages)
{
	zd_pool_resize(&to_ram(dev)->pool, nr_pages);
	return 0;
}

static int ram_p2p_distance(struct zd_device *dev, const void *addr, size_t len)
{
	(void)dev;
	(void)addr;
	(void)len;
	return 0;
}

static void ram_destroy(struct zd_device *dev)
{
	struct zd_ram *ram = to_ram(dev);

	close(ram->timer);
	munmap(ram->mem, ram->bytes);
	zd_pool_exit(&ram->pool);
	zd_free(ram);
}

static const struct zd_device_ops ram_ops = {
	.size = sizeof(ram_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_NO_MALLOC,
	.alloc_pages = ram_alloc_pages,
	.unalloc_pages = ram_unalloc_pages,
	.page_free = ram_page_free,
	.submit = ram_submit,
	.reap = ram_reap,
	.event_fd = ram_event_fd,
	.direct_access = ram_direct_access,
	.destroy = ram_destroy,
	.p2p_distance = ram_p2p_distance,
	.resize = ram_resize,
};

int zd_ram_device_create(uint64_t size, struct zd_device **dev)
{
	uint64_t pages = size >> ZD_PAGE_SHIFT;
	struct zd_ram *ram;
	int ret;

	if (!pages)
		return -EINVAL;
	ram = zd_alloc(sizeof(*ram));
	if (!ram)
		return -ENOMEM;
	ret = zd_pool_init(&ram->pool, pages, ZD_POOL_COMPACT, RAM_KICK_WORDS, true);
	if (ret)
		goto out_free;

	ram->bytes = pages << ZD_PAGE_SHIFT;
	ram->mem = mmap(NULL, ram->bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram->mem == MAP_FAILED) {
		ret = -ENOMEM;
		goto out_pool;
	}
	/* A core dump of the program must not hold the device's pages as well. */
	madvise(ram->mem, ram->bytes, MADV_DONTDUMP);

	ram->process = zd_this_process();
	ram->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (ram->timer < 0) {
		ret = -errno;
		goto out_unmap;
	}
	ram->dev.ops = &ram_ops;
	ram->dev.name = "ram";
	ram->dev.nr_pages = pages;
	ram->dev.private_data = ram;
	ret = zd_device_register(&ram->dev);
	if (ret)
		goto out_timer;
	*dev = &ram->dev;
	return 0;

out_timer:
	close(ram->timer);
out_unmap:
	munmap(ram->mem, ram->bytes);
out_pool:
	zd_pool_exit(&ram->pool);
out_free:
	zd_free(ram);
	return ret;
}

int zd_ram_device_inject_sized(struct zd_device *dev, const struct zd_ram_faults *wanted,
			       size_t size)
{
	struct zd_ram_faults known, *faults = &known;
	struct zd_ram *ram;

	if (!dev || !wanted || !zd_tail_is_zero(wanted, sizeof(known), size))
		return -EINVAL;
	zd_take(&known, sizeof(known), wanted, size);
	if (dev->ops != &ram_ops || faults->read_error > 0 || faults->write_error > 0)
		return -EINVAL;
	ram = to_ram(dev);
	zd_mutex_lock(&ram->lock);
	ram->faults = *faults;
	zd_mutex_unlock(&ram->lock);
	__atomic_store_n(&ram->faulty,
			 faults->latency_us || faults->read_error || faults->write_error,
			 __ATOMIC_RELAXED);
	return 0;
}
