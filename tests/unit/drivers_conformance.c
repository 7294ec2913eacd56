/* SPDX-License-Identifier: MIT */
/*
 * One suite over every driver: what zonedev/device.h promises, each driver must
 * keep.  A driver that can't run here is skipped by name.
 */
#include "drivers_common.h"

#include <pthread.h>
#include <sys/stat.h>

#include "drivers/blocking/blocking.h"
#include "drivers/file/file.h"
#include "drivers/lz4/lz4.h"
#include "drivers/pmem/device.h"
#include "zonedev/log.h"
#include "zonedev/lz4.h"
#include "zonedev/pmem_device.h"
#include "../../drivers/example/example.c"
#include "../../drivers/example/example_async.c"
#include "../../drivers/example/example_blocking.c"

#define SIZE (16UL << 20)
#define NR_PAGES (SIZE / ZD_PAGE_SIZE)

struct subject {
	const char *name;
	int (*create)(struct zd_device **dev);
	const char *mode;	/* that a file device must report; else it is skipped, */
	bool strict;		/* or fails if io_uring is to be had */
	bool gives_back;	/* memory of freed pages; space_used() can tell */
	bool recurses;		/* calls ->done inside ->submit */
	bool direct;		/* direct_access works */
	bool rigid;		/* can't be resized */
	bool blocking;		/* the adapter's, on the file blocking_path */
	unsigned int fds;
	struct zd_device *dev;
};

/* ---- the drivers ---- */

static int create_ram(struct zd_device **dev)
{
	return zd_ram_device_create(SIZE, dev);
}

static int create_slow_ram(struct zd_device **dev)
{
	const struct zd_ram_faults slow = { .latency_us = 100 };
	int ret = zd_ram_device_create(SIZE, dev);

	return ret ? ret : zd_ram_device_inject(*dev, &slow);
}

/* Every page may be as large as it can get. */
static int create_lz4(struct zd_device **dev)
{
	return zd_lz4_create(NR_PAGES, NR_PAGES, ZD_LZ4_LEVEL_FAST, dev);
}

static int create_lz4hc(struct zd_device **dev)
{
	return zd_lz4_create(NR_PAGES, NR_PAGES, 3, dev);
}

static int create_disk(struct zd_device **dev)
{
	return zd_file_device_create(NULL, SIZE, 0, dev);
}

static int create_tmpfs(struct zd_device **dev)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/shm/zd-conformance-%d", getpid());
	return zd_file_device_create(path, SIZE, 0, dev);
}

/* The last driver, since forbidding io_uring can't be undone. */
static int create_no_uring(struct zd_device **dev)
{
	int ret = forbid_io_uring();

	return ret ? ret : create_disk(dev);
}

static int create_example(struct zd_device **dev)
{
	return example_device_create(NR_PAGES, dev);
}

static int create_async(struct zd_device **dev)
{
	return example_async_device_create(NR_PAGES, dev);
}

static char blocking_path[64];

static int create_blocking(struct zd_device **dev)
{
	int ret;

	snprintf(blocking_path, sizeof(blocking_path), "/dev/shm/zd-blocking-%d", getpid());
	ret = example_blocking_device_create(blocking_path, NR_PAGES, dev);
	if (ret)
		unlink(blocking_path);
	return ret;
}

/* Copies by way of the workers' own memory; the deadline is never reached. */
static int create_deadline(struct zd_device **dev)
{
	struct zd_blocking_attr attr = {
		.size = sizeof(attr), .name = "deadline", .nr_pages = NR_PAGES, .threads = 2,
		.deadline_ms = PATIENCE_MS, .ops = &example_blocking_ops,
	};
	int fd;

	snprintf(blocking_path, sizeof(blocking_path), "/dev/shm/zd-blocking-%d", getpid());
	fd = open(blocking_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	attr.priv = (void *)(intptr_t)fd;
	if (fd < 0 || ftruncate(fd, SIZE))
		return -errno;
	return zd_blocking_device_create(&attr, dev);
}

static int create_block(struct zd_device **dev)
{
	return zd_file_device_create(loop_path, 0, 0, dev);
}

static int create_pmem(const char *path, uint64_t bytes, unsigned int flags, struct zd_device **dev)
{
	char err[256];
	int rc = zd_pmem_device_create(path, bytes, flags, dev, err, sizeof(err));

	if (rc)
		print_error("%s: %s\n", path, err);
	return rc;
}

static int create_pmem_memfd(struct zd_device **dev)
{
	return create_pmem("memfd:conformance", SIZE, 0, dev);
}

static int create_pmem_new(struct zd_device **dev)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/shm/zd-conformance-%d", getpid());
	return create_pmem(path, SIZE, 0, dev);
}

/* With a name as long as the device is made: another process could cut it. */
static int create_on_file(unsigned int flags, struct zd_device **dev)
{
	char path[64];
	int fd, rc;

	snprintf(path, sizeof(path), "/dev/shm/zd-conformance-%d", getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, SIZE) || close(fd))
		return -errno;
	rc = create_pmem(path, 0, flags, dev);
	unlink(path);
	return rc;
}

static int create_pmem_old(struct zd_device **dev)
{
	return create_on_file(0, dev);
}

static int create_dax(struct zd_device **dev)
{
	return create_on_file(ZD_PMEM_DEVICE_DAX, dev);
}

static int create_pmem_block(struct zd_device **dev)
{
	return create_pmem(loop_path, 0, 0, dev);
}

static int setup(void **state)
{
	struct subject *s = *state;

	s->dev = NULL;
	if ((s->create == create_block || s->create == create_pmem_block) && loop_fd < 0 &&
	    attach_loop(SIZE))
		return 0;	/* no loop devices here: device() skips */
	s->fds = count_fds();
	return s->create(&s->dev);
}

/* Each test leaves the device as unregister must find it. */
static int teardown(void **state)
{
	struct subject *s = *state;

	if (!s->dev)
		return 0;
	if (s->blocking)
		unlink(blocking_path);
	if (zd_device_live_pages(s->dev) || zd_device_unregister(s->dev))
		return -1;
	if (count_fds() != s->fds) {
		print_error("%s: %u descriptors before, %u after\n", s->name, s->fds, count_fds());
		return -1;
	}
	return 0;
}

static struct zd_device *device(void **state)
{
	struct subject *s = *state;
	const char *mode;

	if (!s->dev) {
		print_message("SKIP: %s: no such device here\n", s->name);
		skip();
	}
	mode = s->mode ? zd_file_device_mode(s->dev) : NULL;
	if (mode && strncmp(mode, s->mode, strlen(s->mode))) {
		if (s->strict && have_io_uring())
			fail_msg("%s: works by %s", s->name, mode);
		print_message("SKIP: %s: works by %s here\n", s->name, mode);
		zd_device_unregister(s->dev);
		s->dev = NULL;
		skip();
	}
	return s->dev;
}

/* ---- helpers ---- */

static unsigned int alloc(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	int got = dev->ops->alloc_pages(dev, nr, pfns);

	assert_in_range(got, 0, nr);
	return got;
}

static void make_live(unsigned int nr, const zd_pfn_t *pfns)
{
	while (nr--)
		assert_int_equal(zd_page_init(zd_pfn_to_page(*pfns++)), 0);
}

static void put(unsigned int nr, const zd_pfn_t *pfns)
{
	while (nr--)
		zd_put_page(zd_pfn_to_page(*pfns++));
}

static void shuffle(struct zd_io_page *pages, unsigned int nr, uint64_t *seed)
{
	unsigned int i, j;

	for (i = nr; i > 1; i--) {
		struct zd_io_page tmp = pages[i - 1];

		j = prng(seed) % i;
		pages[i - 1] = pages[j];
		pages[j] = tmp;
	}
}

/* ---- the tests ---- */

/* All pages in one direction, in batches of random size, all in flight. */
static void in_batches(struct zd_device *dev, enum zd_io_dir dir, struct zd_io_page *pages,
		       unsigned int nr, uint64_t *seed)
{
	struct zd_device_io *io = calloc(nr + 1, sizeof(*io));
	unsigned int i, n, batches = 0;

	for (i = 0; i < nr; i += n) {
		n = 1 + prng(seed) % 150;
		if (n > nr - i)
			n = nr - i;
		start_io(dev, &io[batches++], dir, pages + i, n);
	}
	if (dev->event_fd >= 0)
		serve_until(dev, all_done, io);
	for (i = 0; i < batches; i++)
		wait_io(dev, &io[i]);
	for (i = 0; i < nr; i++)
		assert_int_equal(pages[i].error, 0);
	free(io);
}

/* Broken looks like: a page reads back as another, or as an older self. */
static void reads_what_was_written(void **state)
{
	struct zd_device *dev = device(state);
	const unsigned int nr = 1500;
	struct zd_io_page *pages = calloc(nr, sizeof(*pages));
	zd_pfn_t *pfns = calloc(nr, sizeof(*pfns));
	char *mem = map_pages(nr);
	uint64_t seed = 42;
	unsigned int i, round;

	assert_int_equal(alloc(dev, nr, pfns), nr);
	for (round = 0; round < 4; round++) {
		/* Round 0: runs of pages with runs of buffers; then neither. */
		set_pages(pages, pfns, nr, mem);
		if (round & 1)
			shuffle(pages, nr, &seed);
		for (i = 0; i < nr; i++)
			fill(pages[i].buf, pages[i].pfn * 16 + round);
		in_batches(dev, ZD_TO_DEVICE, pages, nr, &seed);
		for (i = 0; i < nr; i++)	/* the buffers are the test's again */
			assert_true(filled(pages[i].buf, pages[i].pfn * 16 + round));

		memset(mem, 0xee, nr * ZD_PAGE_SIZE);
		if (round & 2) {
			/* Runs of pages, but buffers all over the place. */
			set_pages(pages, pfns, nr, mem);
			for (i = 0; i < nr; i++)
				pages[i].buf = mem + (i * 7UL % nr) * ZD_PAGE_SIZE;
		}
		in_batches(dev, ZD_FROM_DEVICE, pages, nr, &seed);
		for (i = 0; i < nr; i++)
			assert_true(filled(pages[i].buf, pages[i].pfn * 16 + round));
	}
	dev->ops->unalloc_pages(dev, nr, pfns);
	munmap(mem, nr * ZD_PAGE_SIZE);
	free(pages);
	free(pfns);
}

static void an_empty_batch_is_done(void **state)
{
	struct zd_device *dev = device(state);

	do_io(dev, ZD_TO_DEVICE, NULL, 0);
}

static void full_is_full(void **state)
{
	struct zd_device *dev = device(state);
	zd_pfn_t *pfns = calloc(NR_PAGES + 100, sizeof(*pfns));
	bool *seen = calloc(NR_PAGES, 1);
	unsigned int nr, got, round, i;

	for (round = 0; round < 2; round++) {
		memset(seen, 0, NR_PAGES);
		for (nr = 0; (got = alloc(dev, 100, pfns + nr)); nr += got)
			;
		assert_int_equal(nr, NR_PAGES);
		for (i = 0; i < nr; i++) {
			uint64_t index = zd_device_page_index(dev, pfns[i]);

			assert_true(index < NR_PAGES);
			assert_false(seen[index]);
			seen[index] = true;
			assert_int_equal(zd_page_count(zd_pfn_to_page(pfns[i])), 0);
		}
		dev->ops->unalloc_pages(dev, nr, pfns);
	}
	free(pfns);
	free(seen);
}

static void the_last_put_frees(void **state)
{
	struct zd_device *dev = device(state);
	zd_pfn_t *pfns = calloc(NR_PAGES, sizeof(*pfns)), again;
	unsigned int i;

	assert_int_equal(alloc(dev, NR_PAGES, pfns), NR_PAGES);
	make_live(NR_PAGES, pfns);
	assert_int_equal(zd_device_live_pages(dev), NR_PAGES);
	assert_int_equal(alloc(dev, 1, &again), 0);
	zd_get_page(zd_pfn_to_page(pfns[1234]));
	put(1, pfns + 1234);
	assert_int_equal(alloc(dev, 1, &again), 0);	/* still held */
	put(1, pfns + 1234);
	assert_int_equal(alloc(dev, 1, &again), 1);
	assert_int_equal(again, pfns[1234]);
	make_live(1, &again);
	for (i = 0; i < NR_PAGES; i++)
		put(1, pfns + i);
	assert_int_equal(zd_device_live_pages(dev), 0);
	assert_int_equal(alloc(dev, NR_PAGES, pfns), NR_PAGES);
	dev->ops->unalloc_pages(dev, NR_PAGES, pfns);
	free(pfns);
}

/* A device that shrinks gives out low pages only, waits for high ones that are held, and is as large
 * as it was where it may wait no longer; it grows back to what it was. */
static void shrinks_and_grows(void **state)
{
	struct zd_device *dev = device(state);
	const struct subject *s = *state;
	zd_pfn_t *pfns = calloc(NR_PAGES + 1, sizeof(*pfns));
	const uint64_t small = NR_PAGES / 2 + 13;	/* not a whole word of any bitmap */
	struct zd_pagemap_holders h;
	uint64_t high = 0;

	assert_int_equal(zd_device_usable_pages(dev), NR_PAGES);
	if (s->rigid) {
		assert_int_equal(zd_device_resize(dev, small), -EOPNOTSUPP);
		free(pfns);
		return;
	}
	assert_int_equal(zd_device_resize(dev, 0), -EINVAL);
	assert_int_equal(zd_device_resize(dev, NR_PAGES + 1), -EINVAL);
	assert_int_equal(alloc(dev, NR_PAGES, pfns), NR_PAGES);
	make_live(NR_PAGES, pfns);
	assert_int_equal(zd_device_resize_timeout(dev, small, 1, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_pages, NR_PAGES - small);
	assert_int_equal(h.pfns[0], dev->pgmap.pfn + small);
	assert_int_equal(zd_device_usable_pages(dev), NR_PAGES);
	for (unsigned int i = 0; i < NR_PAGES; i++) {	/* all but a low one and a high one */
		if (pfns[i] == dev->pgmap.pfn + 5)
			continue;
		if (pfns[i] == dev->pgmap.pfn + NR_PAGES - 1)
			high = pfns[i];
		else
			put(1, pfns + i);
	}
	assert_int_equal(zd_device_resize_timeout(dev, small, 1, &h), -ETIMEDOUT);
	assert_int_equal(h.nr_pages, 1);
	assert_int_equal(h.pfns[0], high);
	assert_int_equal(alloc(dev, NR_PAGES, pfns), NR_PAGES - 2);
	dev->ops->unalloc_pages(dev, NR_PAGES - 2, pfns);
	put(1, &high);
	assert_int_equal(zd_device_resize_timeout(dev, small, 60000, &h), 0);
	assert_int_equal(h.nr_pages, 0);
	assert_int_equal(zd_device_usable_pages(dev), small);
	assert_int_equal(alloc(dev, NR_PAGES, pfns), small - 1);
	for (unsigned int i = 0; i < small - 1; i++)
		assert_true(zd_device_page_index(dev, pfns[i]) < small);
	dev->ops->unalloc_pages(dev, small - 1, pfns);
	assert_int_equal(zd_device_resize(dev, NR_PAGES), 0);
	assert_int_equal(alloc(dev, NR_PAGES, pfns), NR_PAGES - 1);
	dev->ops->unalloc_pages(dev, NR_PAGES - 1, pfns);
	pfns[0] = dev->pgmap.pfn + 5;
	put(1, pfns);
	free(pfns);
}

/* With nothing to do event_fd must not be readable, or the server never sleeps. */
static void event_fd_falls_silent(void **state)
{
	struct zd_device *dev = device(state);
	struct pollfd pfd = { .fd = dev->event_fd, .events = POLLIN };
	struct zd_io_page pages[64];
	zd_pfn_t pfns[64];
	char *mem = map_pages(64);
	unsigned int i;

	assert_int_equal(alloc(dev, 64, pfns), 64);
	set_pages(pages, pfns, 64, mem);
	for (i = 0; i < 64; i++)
		do_io_ok(dev, i & 1 ? ZD_FROM_DEVICE : ZD_TO_DEVICE, pages + i, 1);
	if (dev->event_fd >= 0) {
		assert_int_equal(dev->ops->reap(dev, false), 0);
		assert_int_equal(poll(&pfd, 1, 0), 0);
	}
	dev->ops->unalloc_pages(dev, 64, pfns);
	munmap(mem, 64 * ZD_PAGE_SIZE);
}

/* ->done submits the next batch, a thousand times.  Broken looks like: the
 * stack grows with each batch. */
static struct {
	struct zd_device *dev;
	unsigned int left;
	uintptr_t low, high;
} chain;

static void next_in_chain(struct zd_device_io *io)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	if (here < chain.low)
		chain.low = here;
	if (here > chain.high)
		chain.high = here;
	assert_int_equal(io->pages[0].error, 0);
	if (!--chain.left) {
		io->owner = io;
		return;
	}
	io->dir = io->dir == ZD_TO_DEVICE ? ZD_FROM_DEVICE : ZD_TO_DEVICE;
	chain.dev->ops->submit(chain.dev, io);
}

static void done_may_submit(void **state)
{
	struct zd_device *dev = device(state);
	struct subject *s = *state;
	struct zd_io_page page = { .buf = map_pages(1) };
	struct zd_device_io io = {
		.dir = ZD_TO_DEVICE, .nr = 1, .pages = &page, .done = next_in_chain,
	};

	fill(page.buf, 77);
	assert_int_equal(alloc(dev, 1, &page.pfn), 1);
	chain.dev = dev;
	chain.left = 1000;
	chain.low = UINTPTR_MAX;
	chain.high = 0;
	dev->ops->submit(dev, &io);
	wait_io(dev, &io);
	assert_int_equal(chain.left, 0);
	assert_true(filled(page.buf, 77));
	if (!s->recurses)
		assert_true(chain.high - chain.low < 8192);
	dev->ops->unalloc_pages(dev, 1, &page.pfn);
	munmap(page.buf, ZD_PAGE_SIZE);
}

/* A batch whose direction was forgotten fails, and copies nothing either way. */
static void a_direction_is_needed(void **state)
{
	struct zd_device *dev = device(state);
	struct zd_io_page page = { .buf = map_pages(1) };
	struct zd_device_io io = { 0 };

	assert_int_equal(alloc(dev, 1, &page.pfn), 1);
	fill(page.buf, 1);
	start_io(dev, &io, ZD_TO_DEVICE, &page, 1);
	wait_io(dev, &io);
	for (int dir = 0; dir < 4; dir += 3) {
		fill(page.buf, 2);
		start_io(dev, &io, (enum zd_io_dir)dir, &page, 1);
		wait_io(dev, &io);
		assert_int_equal(page.error, -EINVAL);
		assert_true(filled(page.buf, 2));
	}
	start_io(dev, &io, ZD_FROM_DEVICE, &page, 1);
	wait_io(dev, &io);
	assert_int_equal(page.error, 0);
	assert_true(filled(page.buf, 1));
	dev->ops->unalloc_pages(dev, 1, &page.pfn);
	munmap(page.buf, ZD_PAGE_SIZE);
}

/* ---- giving back ---- */

static uint64_t space_used(struct subject *s)
{
	struct zd_device *dev = s->dev;
	unsigned char *vec;
	struct stat st;
	uint64_t nr = 0, i;
	void *mem;

	if (s->blocking) {
		assert_int_equal(stat(blocking_path, &st), 0);
		return st.st_blocks * 512UL;
	}
	if (zd_file_device_mode(dev)) {
		struct zd_file *file = dev->private_data;

		assert_int_equal(fstat(file->target.block ? loop_back : file->target.fd, &st), 0);
		return st.st_blocks * 512UL;
	}
	if (dev->ops == &zd_pmem_device_ops) {
		struct zd_pmem_device *pmem = dev->private_data;

		assert_int_equal(fstat(pmem->medium->media.fd, &st), 0);
		return st.st_blocks * 512UL;
	}
	mem = dev->ops->direct_access(dev, dev->pgmap.pfn);
	vec = calloc(NR_PAGES, 1);
	assert_int_equal(mincore(mem, SIZE, vec), 0);
	for (i = 0; i < NR_PAGES; i++)
		nr += vec[i] & 1;
	free(vec);
	return nr * ZD_PAGE_SIZE;
}

static struct {
	struct subject *subject;
	uint64_t bytes;
} enough;

static bool is_punching(struct zd_device *dev)
{
	struct blocking *b = dev->private_data;
	struct zd_file *file = dev->private_data;
	bool punching;

	if (zd_file_device_mode(dev))
		return file->punching;
	if (!enough.subject->blocking)
		return false;
	zd_mutex_lock(&b->lock);
	punching = b->trim_nr;
	zd_mutex_unlock(&b->lock);
	return punching;
}

/* Less space is used, and no hole is being punched any more. */
static bool space_is_less(void *arg)
{
	(void)arg;
	return space_used(enough.subject) <= enough.bytes && !is_punching(enough.subject->dev);
}

static void write_all(struct zd_device *dev, struct zd_io_page *pages, unsigned int nr,
		      unsigned int generation)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		fill(pages[i].buf, pages[i].pfn * 16 + generation);
	if (dev->ops->direct_access && dev->ops->direct_access(dev, pages[0].pfn)) {
		for (i = 0; i < nr; i++)
			memcpy(dev->ops->direct_access(dev, pages[i].pfn), pages[i].buf,
			       ZD_PAGE_SIZE);
	} else {
		do_io_ok(dev, ZD_TO_DEVICE, pages, nr);
	}
}

/*
 * Free all pages but one in every seventh word, by their last put, and nothing
 * else but serving event_fd must give the space back.  Broken looks like: the
 * space stays, or a page that is in use reads as zeros.
 */
static void freed_pages_give_back_their_space(void **state)
{
	struct zd_device *dev = device(state);
	struct subject *s = *state;
	struct zd_io_page *pages = calloc(NR_PAGES, sizeof(*pages)), *kept;
	zd_pfn_t *pfns = calloc(NR_PAGES, sizeof(*pfns));
	char *mem = map_pages(NR_PAGES);
	unsigned int i, nr_kept = 0;

	kept = calloc(NR_PAGES, sizeof(*kept));
	assert_int_equal(alloc(dev, NR_PAGES, pfns), NR_PAGES);
	make_live(NR_PAGES, pfns);
	set_pages(pages, pfns, NR_PAGES, mem);
	write_all(dev, pages, NR_PAGES, 1);
	assert_in_range(space_used(s), SIZE, SIZE * 2);
	for (i = 0; i < NR_PAGES; i++) {
		if (zd_device_page_index(dev, pfns[i]) % (7 * 64) == 13)
			kept[nr_kept++] = pages[i];
		else
			put(1, pfns + i);
	}
	/* 10 words of 64 are kept.  What is below the threshold of the drivers
	 * (an eighth) may stay. */
	enough.subject = s;
	enough.bytes = SIZE / 64 * 10 + SIZE / 8;
	serve_until(dev, space_is_less, NULL);

	memset(mem, 0, NR_PAGES * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, kept, nr_kept);
	for (i = 0; i < nr_kept; i++)
		assert_true(filled(kept[i].buf, kept[i].pfn * 16 + 1));

	/* Pages that were given back are as good as new. */
	assert_int_equal(alloc(dev, NR_PAGES, pfns), NR_PAGES - nr_kept);
	set_pages(pages, pfns, NR_PAGES - nr_kept, mem);
	write_all(dev, pages, NR_PAGES - nr_kept, 2);
	memset(mem, 0, NR_PAGES * ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, NR_PAGES - nr_kept);
	for (i = 0; i < NR_PAGES - nr_kept; i++)
		assert_true(filled(pages[i].buf, pages[i].pfn * 16 + 2));
	dev->ops->unalloc_pages(dev, NR_PAGES - nr_kept, pfns);
	for (i = 0; i < nr_kept; i++)
		put(1, &kept[i].pfn);
	munmap(mem, NR_PAGES * ZD_PAGE_SIZE);
	free(kept);
	free(pages);
	free(pfns);
}

/* Threads take and free whole words all the time, so that holes are punched
 * next to, before and after the pages that the server writes and reads. */
static bool stop;

static void *free_from_anywhere(void *arg)
{
	struct zd_device *dev = arg;
	zd_pfn_t pfns[200];
	int got, i;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		got = dev->ops->alloc_pages(dev, 200, pfns);
		for (i = 0; i < got; i++)
			if (zd_page_init(zd_pfn_to_page(pfns[i])))
				abort();
		for (i = 0; i < got; i++)
			zd_put_page(zd_pfn_to_page(pfns[i]));
	}
	return NULL;
}

static void pages_are_freed_by_any_thread(void **state)
{
	struct zd_device *dev = device(state);
	struct zd_io_page pages[256];
	zd_pfn_t pfns[256];
	char *mem = map_pages(256);
	pthread_t thread[2];
	unsigned int round, i, got;

	stop = false;
	for (i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, free_from_anywhere, dev), 0);
	for (round = 0; round < 60; round++) {
		got = alloc(dev, 256, pfns);
		make_live(got, pfns);
		set_pages(pages, pfns, got, mem);
		for (i = 0; i < got; i++)
			fill(pages[i].buf, pages[i].pfn * 64 + round);
		do_io_ok(dev, ZD_TO_DEVICE, pages, got);
		if (dev->ops->reap)
			for (i = 0; i < 5; i++)
				dev->ops->reap(dev, false);
		memset(mem, 0, 256 * ZD_PAGE_SIZE);
		do_io_ok(dev, ZD_FROM_DEVICE, pages, got);
		for (i = 0; i < got; i++)
			assert_true(filled(pages[i].buf, pages[i].pfn * 64 + round));
		put(got, pfns);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	munmap(mem, 256 * ZD_PAGE_SIZE);
}

/* The server's loads and stores, and the device's copies: the same memory. */
static void direct_access_is_the_page(void **state)
{
	struct zd_device *dev = device(state);
	struct zd_io_page page = { .buf = map_pages(1) };
	void *p;

	assert_int_equal(alloc(dev, 1, &page.pfn), 1);
	p = dev->ops->direct_access(dev, page.pfn);
	assert_non_null(p);
	fill(p, 5);
	do_io_ok(dev, ZD_FROM_DEVICE, &page, 1);
	assert_true(filled(page.buf, 5));
	fill(page.buf, 6);
	do_io_ok(dev, ZD_TO_DEVICE, &page, 1);
	assert_true(filled(p, 6));
	dev->ops->unalloc_pages(dev, 1, &page.pfn);
	munmap(page.buf, ZD_PAGE_SIZE);
}

static struct subject subjects[] = {
	{ .name = "ram", .create = create_ram, .gives_back = true, .direct = true },
	{ .name = "ram+latency", .create = create_slow_ram },
	{ .name = "lz4", .create = create_lz4 },
	{ .name = "lz4hc", .create = create_lz4hc },
	{ .name = "file", .create = create_disk, .mode = "io_uring, O_DIRECT", .gives_back = true },
	{ .name = "file(tmpfs)",
	  .create = create_tmpfs,
	  .mode = "io_uring, buffered",
	  .strict = true,
	  .gives_back = true },
	{ .name = "file(block)",
	  .create = create_block,
	  .mode = "io_uring, O_DIRECT",
	  .strict = true,
	  .gives_back = true },
	{ .name = "pmem(memfd)", .create = create_pmem_memfd, .gives_back = true, .direct = true },
	{ .name = "pmem(new file)", .create = create_pmem_new, .gives_back = true, .direct = true },
	{ .name = "pmem(file)", .create = create_pmem_old, .gives_back = true },
	{ .name = "pmem(block)", .create = create_pmem_block },
	{ .name = "dax(file)", .create = create_dax, .gives_back = true },
	{ .name = "example", .create = create_example, .recurses = true, .rigid = true },
	{ .name = "example_async", .create = create_async, .rigid = true },
	{ .name = "example_blocking",
	  .create = create_blocking,
	  .gives_back = true,
	  .blocking = true },
	{ .name = "blocking with a deadline",
	  .create = create_deadline,
	  .gives_back = true,
	  .blocking = true },
	{ .name = "file(no io_uring)",
	  .create = create_no_uring,
	  .mode = "pread/pwrite",
	  .gives_back = true },
};

#define T(fn) { #fn, fn }
static const struct {
	const char *name;
	void (*fn)(void **state);
} common[] = {
	T(reads_what_was_written), T(an_empty_batch_is_done), T(full_is_full),
	T(the_last_put_frees),	   T(event_fd_falls_silent),  T(done_may_submit),
	T(shrinks_and_grows),	   T(a_direction_is_needed),  T(pages_are_freed_by_any_thread),
};

#define NR(a) (sizeof(a) / sizeof(*(a)))
static struct CMUnitTest tests[NR(subjects) * (NR(common) + 2)];
static char names[NR(tests)][96];
static unsigned int nr_tests;

static void add(struct subject *s, const char *name, void (*fn)(void **state))
{
	snprintf(names[nr_tests], sizeof(names[0]), "%s: %s", s->name, name);
	tests[nr_tests] = (struct CMUnitTest){ names[nr_tests], fn, setup, teardown, s };
	nr_tests++;
}

int main(void)
{
	unsigned int s, t;
	int ret;

	for (s = 0; s < NR(subjects); s++) {
		for (t = 0; t < NR(common); t++)
			add(&subjects[s], common[t].name, common[t].fn);
		if (subjects[s].gives_back)
			add(&subjects[s], "freed_pages_give_back_their_space",
			    freed_pages_give_back_their_space);
		if (subjects[s].direct)
			add(&subjects[s], "direct_access_is_the_page", direct_access_is_the_page);
	}
	ret = _cmocka_run_group_tests("drivers", tests, nr_tests, NULL, NULL);
	detach_loop();
	return ret;
}
