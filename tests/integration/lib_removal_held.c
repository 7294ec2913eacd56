/* SPDX-License-Identifier: MIT */
/*
 * A device is removed while others have its pages: an I/O in flight, a forked child, an
 * mm that is being closed, another removal.
 */
#include <liburing.h>

#include "tests/integration/lib_gate.h"

#define N	64
#define HELD	17

static struct io_uring ring;

static void wait_io(int result)
{
	struct io_uring_cqe *cqe;

	CHECK_EQ(io_uring_wait_cqe(&ring, &cqe), 0);
	CHECK_EQ(cqe->res, result);
	io_uring_cqe_seen(&ring, cqe);
}

static void read_into(int fd, void *buf)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	CHECK(sqe);
	io_uring_prep_read(sqe, fd, buf, PAGE, 0);
	CHECK_EQ(io_uring_submit(&ring), 1);
}

/* --- memory that is the device: pages of a pagemap that the CPU can address --- */

struct module {
	struct zd_pagemap pgmap;
	char *mem;
};

static void module_page_free(struct zd_page *page)
{
	(void)page;
}

static struct module module_plug(void)
{
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops),
						   .page_free = module_page_free };
	struct module m = { .pgmap = { .type = ZD_MEMORY_GENERIC, .ops = &ops, .nr_pages = N } };

	m.mem = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(m.mem != MAP_FAILED);
	return m;
}

/* A live page of the device, pinned. */
static struct zd_page *module_pin(const struct module *m, unsigned int i)
{
	struct zd_page *page = zd_pfn_to_page(m->pgmap.pfn + i);

	CHECK_EQ(zd_page_init(page), 0);
	CHECK(zd_try_get_page_refs(page, ZD_PIN_BIAS));
	zd_put_page(page);
	return page;
}

/*
 * A read in flight into a page of the device: removal waits for the pin that covers the
 * read, and names the page; so the memory is there when the data comes.
 *
 * Linux 6.1: the I/O's pin doesn't hold the pagemap (unit test pages_removal says why).
 * Unbinding a pmem namespace removes struct pages and mapping under an O_DIRECT or vmsplice
 * that is in flight; when it lets go of the page, the kernel oopses in the put.
 */
static void io_in_flight(void)
{
	struct module m = module_plug();
	struct zd_pagemap_holders h;
	struct zd_page *page;
	int fds[2];
	char data[PAGE];

	CHECK_EQ(zd_memremap_pages(&m.pgmap), 0);
	CHECK(!pipe(fds));
	fill(data, 1, 9);
	page = module_pin(&m, HELD);
	read_into(fds[0], m.mem + HELD * PAGE);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(zd_memunmap_pages_timeout(&m.pgmap, 5, &h), -ETIMEDOUT);
		CHECK_EQ(h.nr_pages, 1);
		CHECK_EQ(h.pfns[0], m.pgmap.pfn + HELD);
	}
	CHECK_EQ(write(fds[1], data, PAGE), PAGE);
	wait_io(PAGE);
	CHECK(zd_page_maybe_dma_pinned(page));
	CHECK_FILLED(m.mem + HELD * PAGE, 1, 9);
	zd_unpin_user_page(page);
	CHECK_EQ(zd_memunmap_pages(&m.pgmap), 0);
	munmap(m.mem, N * PAGE);
	close(fds[0]);
	close(fds[1]);
}

static int direct_file(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[4096], *buf;
	int fd, direct;

	snprintf(path, sizeof(path), "%s/removal.XXXXXX", tmp ? tmp : "/var/tmp");
	fd = mkstemp(path);
	CHECK(fd >= 0);
	buf = map(1);
	fill(buf, 1, 10);
	CHECK_EQ(pwrite(fd, buf, PAGE, 0), PAGE);
	CHECK(!fsync(fd));
	munmap(buf, PAGE);
	direct = open(path, O_RDONLY | O_DIRECT);
	unlink(path);
	close(fd);
	return direct;
}

/* The same with the disk's own DMA, which can't be held up. */
static void direct_io(void)
{
	int fd = direct_file();

	if (fd < 0) {
		printf("no O_DIRECT here: left out\n");
		return;
	}
	for (int i = 0; i < 20; i++) {
		struct module m = module_plug();
		struct zd_page *page;

		CHECK_EQ(zd_memremap_pages(&m.pgmap), 0);
		page = module_pin(&m, HELD);
		read_into(fd, m.mem + HELD * PAGE);
		CHECK_EQ(zd_memunmap_pages_timeout(&m.pgmap, 0, NULL), -ETIMEDOUT);
		wait_io(PAGE);
		zd_unpin_user_page(page);
		CHECK_EQ(zd_memunmap_pages(&m.pgmap), 0);
		CHECK_FILLED(m.mem + HELD * PAGE, 1, 10);
		munmap(m.mem, N * PAGE);
	}
	close(fd);
}

/* --- device-private memory: a page that is pinned has come home --- */

/*
 * So the removal needn't wait for the pin, nor the I/O for the removal.
 *
 * Linux 6.1: GUP of a device-private page faults, which migrates it home first; as here.
 */
static void io_into_managed(void)
{
	struct zd_mm *mm = open_mm();
	struct zd_device *dev = ram_device(N);
	char *mem = evicted(mm, N, 1, dev);
	struct zd_page *page;
	int fds[2];
	char data[PAGE];

	CHECK(!pipe(fds));
	fill(data, 1, 9);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + HELD * PAGE, 1, ZD_FOLL_WRITE | ZD_FOLL_LONGTERM,
					&page),
		 1);
	CHECK_EQ(zd_device_live_pages(dev), N - 1);
	read_into(fds[0], mem + HELD * PAGE);
	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_EQ(write(fds[1], data, PAGE), PAGE);
	wait_io(PAGE);
	CHECK_FILLED(mem + HELD * PAGE, 1, 9);
	CHECK_EQ(zd_mm_close(mm), -EBUSY);	/* the pin holds the mm's own pages */
	zd_unpin_user_page(page);
	CHECK_EQ(bad_page(mem, 0, HELD, 1), HELD);
	CHECK_EQ(bad_page(mem, HELD + 1, N, 1), N);
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(mem, N * PAGE);
	close(fds[0]);
	close(fds[1]);
}

/* --- forked children --- */

static int go[2];
static char *shared;

static void child_reads(void *arg)
{
	char c;

	(void)arg;
	CHECK_EQ(read(go[0], &c, 1), 1);
	CHECK_FILLED(shared, N, 2);
}

/*
 * A forked child has the pages as well, also when its parent has given them up, or the child
 * is stopped: they come home in the child.  A child that is killed meanwhile has none.
 *
 * Linux 6.1: fork copies the device-private entry and takes a reference
 * (copy_nonpresent_pte()); migrate_device_range() finds the page by number and its rmap
 * replaces both entries.
 */
static void held_by_children(void)
{
	struct zd_mm *mm = open_mm();
	struct zd_device *dev = ram_device(N);
	pid_t reads, stopped, killed;

	CHECK(!pipe(go));
	shared = evicted(mm, N, 2, dev);
	reads = child_start(child_reads, NULL);
	stopped = child_start(child_reads, NULL);
	killed = child_start(child_reads, NULL);
	CHECK(!munmap(shared + N / 2 * PAGE, N / 2 * PAGE));
	CHECK_EQ(zd_device_live_pages(dev), N);
	CHECK(!kill(stopped, SIGSTOP));
	CHECK(!kill(killed, SIGKILL));
	CHECK_EQ(zd_device_unregister(dev), 0);
	CHECK_EQ(resident(shared, N / 2), N / 2);
	CHECK(!kill(stopped, SIGCONT));
	CHECK_EQ(child_status(killed), SIGKILL);
	CHECK_EQ(write(go[1], "go", 2), 2);
	child_ok(reads);
	child_ok(stopped);
	CHECK_EQ(bad_page(shared, 0, N / 2, 2), N / 2);
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(shared, N / 2 * PAGE);
	close(go[0]);
	close(go[1]);
}

/* --- a second thread removes the device, or closes the mm --- */

struct removal {
	struct zd_device *dev;
	unsigned int wait_us;
	int rc;
	pthread_t thread;
};

static void *removal_thread(void *arg)
{
	struct removal *r = arg;

	usleep(r->wait_us);
	r->rc = zd_device_unregister(r->dev);
	return NULL;
}

/* A second removal while the first brings pages home is told so.  What Linux does is said in
 * the unit test pages_removal. */
static void two_removals(struct gate *g)
{
	struct zd_mm *mm = open_mm();
	char *mem = evicted(mm, N, 3, &g->dev);
	struct removal r = { .dev = &g->dev };

	gate_close(g);
	CHECK_EQ(pthread_create(&r.thread, NULL, removal_thread, &r), 0);
	WAIT_FOR(gate_waiting(g));
	CHECK_EQ(zd_device_unregister(&g->dev), -EBUSY);
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, 1, NULL), -EBUSY);
	gate_open(g);
	CHECK_EQ(pthread_join(r.thread, NULL), 0);
	CHECK_EQ(r.rc, 0);
	CHECK_EQ(zd_device_unregister(&g->dev), -EINVAL);
	CHECK_EQ(gate_used(g), 0);
	CHECK_FILLED(mem, N, 3);
	CHECK_EQ(zd_mm_close(mm), 0);
	munmap(mem, N * PAGE);
}

/* The mm that uses the device is closed at the same time: both bring the pages home, each can
 * be the first.  Broken: a crash, a hang, a call of a server that has ended. */
static void while_the_mm_closes(uint64_t *rng)
{
	for (int i = 0; i < 100; i++) {
		struct zd_mm *mm = open_mm();
		struct removal r = { .dev = ram_device(N), .wait_us = rnd(rng) % 600 };
		char *mem = evicted(mm, N, 4, r.dev);

		if (i & 1)
			set_latency(r.dev, 100);
		CHECK_EQ(pthread_create(&r.thread, NULL, removal_thread, &r), 0);
		usleep(rnd(rng) % 600);
		CHECK_EQ(zd_mm_close(mm), 0);
		CHECK_EQ(pthread_join(r.thread, NULL), 0);
		CHECK_EQ(r.rc, 0);
		CHECK_FILLED(mem, N, 4);
		munmap(mem, N * PAGE);
	}
}

/* A removal with a deadline keeps to it also while an mm is being closed that can't be, since
 * the device doesn't answer. */
static void *close_thread(void *mm)
{
	CHECK_EQ(zd_mm_close(mm), 0);
	return NULL;
}

static void while_closing_hangs(struct gate *g)
{
	struct zd_mm *mm = open_mm();
	struct zd_pagemap_holders h;
	pthread_t t;
	char *mem;

	gate_again(g);
	mem = evicted(mm, N, 5, &g->dev);
	gate_close(g);
	CHECK_EQ(pthread_create(&t, NULL, close_thread, mm), 0);
	WAIT_FOR(gate_waiting(g));
	CHECK_EQ(zd_device_unregister_timeout(&g->dev, 20, &h), -ETIMEDOUT);
	CHECK_EQ(h.nr_pages, N);
	gate_open(g);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	CHECK_FILLED(mem, N, 5);
	munmap(mem, N * PAGE);
}

int main(int argc, char **argv)
{
	uint64_t rng = seed(argc, argv);
	struct gate *g = gate_device(N);
	int rc = io_uring_queue_init(4, &ring, 0);

	if (rc == -EPERM || rc == -ENOSYS)
		skip("needs io_uring");
	CHECK_EQ(rc, 0);
	io_in_flight();
	direct_io();
	io_into_managed();
	io_uring_queue_exit(&ring);
	held_by_children();
	two_removals(g);
	while_the_mm_closes(&rng);
	while_closing_hangs(g);
	return 0;
}
