/* SPDX-License-Identifier: MIT */
/*
 * One fault on a page that is on the ram device, at random, against the least
 * that a userfaultfd handler can do: a thread that waits, reads the message, and
 * COPYs the page from a buffer.  Two such handlers, waiting in poll() and in
 * read(); each has its own memory, of the size of the device's.
 *
 * The three take turns, a block of faults each.  Threads run where the scheduler puts
 * them; with the argument "pin", all of them on the CPU that the program starts on.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "zonedev/migrate.h"

#define BYTES	(64UL << 20)
#define PAGES	(BYTES / ZD_PAGE_SIZE)
#define BLOCK	1024			/* faults in a row; METHOD.md says why so many */
#define PASSES	4
#define BLOCKS	(PASSES * PAGES / BLOCK)

/* --- the bare handler --- */

struct bare {
	int uffd;
	int blocking;
	char *mem, *source;
	pthread_t thread;
};

static void *handler(void *arg)
{
	struct bare *b = arg;
	struct pollfd pfd = { .fd = b->uffd, .events = POLLIN };
	struct uffd_msg msg;

	for (;;) {
		struct uffdio_copy copy = { .len = ZD_PAGE_SIZE };
		ssize_t n;

		if (!b->blocking && poll(&pfd, 1, -1) < 0)
			continue;
		n = read(b->uffd, &msg, sizeof(msg));
		if (n != sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		copy.dst = msg.arg.pagefault.address & ~(ZD_PAGE_SIZE - 1);
		copy.src = (uintptr_t)b->source + (copy.dst - (uintptr_t)b->mem);
		ioctl(b->uffd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

static void bare_init(struct bare *b, int blocking)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	b->blocking = blocking;
	b->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | (blocking ? 0 : O_NONBLOCK));
	if (b->uffd < 0)
		bench_skip("userfaultfd: %s", strerror(errno));
	b->mem = bench_map(BYTES, 0);
	b->source = bench_map(BYTES, 0);
	bench_fill(b->source, BYTES);
	reg.range.start = (uintptr_t)b->mem;
	reg.range.len = BYTES;
	if (ioctl(b->uffd, UFFDIO_API, &api) || ioctl(b->uffd, UFFDIO_REGISTER, &reg))
		bench_die("userfaultfd: %s", strerror(errno));
	if (pthread_create(&b->thread, NULL, handler, b))
		bench_die("pthread_create");
}

/* --- ours --- */

static struct zd_mm *mm;
static struct zd_device *dev;
static char *mem;

static void out(void)
{
	struct zd_migrate_result result;
	int rc = zd_migrate_to_device(mm, mem, BYTES, dev, &result);

	if (rc || result.moved != PAGES)
		bench_die("zd_migrate_to_device: %d, %llu pages", rc,
			  (unsigned long long)result.moved);
}

static void ours_init(void)
{
	int rc;

	mm = bench_open_mm(1);
	rc = zd_ram_device_create(2 * BYTES, &dev);
	if (rc)
		bench_die("zd_ram_device_create: %s", strerror(-rc));
	mem = bench_map(BYTES, 0);
	bench_fill(mem, BYTES);
	rc = zd_mm_register(mm, mem, BYTES);
	if (rc)
		bench_die("zd_mm_register: %s", strerror(-rc));
}

/* --- */

static uint32_t order[PAGES];

/* Takes BLOCK faults, each timed; us[0..BLOCK). */
static void touch(volatile const char *at, size_t first, double *us)
{
	for (size_t i = 0; i < BLOCK; i++) {
		uint64_t t = bench_now_ns();

		(void)at[order[first + i] * ZD_PAGE_SIZE];
		us[i] = (bench_now_ns() - t) / 1e3;
	}
}

/* Before any thread is made, since threads inherit the CPU. */
static void pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		bench_die("can't pin: %s", strerror(errno));
}

#define SIDES	3

int main(int argc, char **argv)
{
	static double p50[SIDES][BLOCKS], mean[SIDES][BLOCKS], copy[BLOCKS];
	static struct bare polls, reads;
	size_t block = 0;
	bool pinned = argc > 1 && !strcmp(argv[1], "pin");

	if (pinned)
		pin();
	ours_init();
	bare_init(&polls, 0);
	bare_init(&reads, 1);
	bench_shuffle(order, PAGES, 2017);
	for (int pass = 0; pass < PASSES; pass++) {
		const char *const at[SIDES] = { mem, polls.mem, reads.mem };

		out();
		madvise(polls.mem, BYTES, MADV_DONTNEED);
		madvise(reads.mem, BYTES, MADV_DONTNEED);
		for (size_t first = 0; first < PAGES; first += BLOCK, block++) {
			for (unsigned int k = 0; k < SIDES; k++) {
				unsigned int side = (k + block) % SIDES;
				double us[BLOCK];

				touch(at[side], first, us);
				mean[side][block] = bench_mean(us, BLOCK);
				p50[side][block] = bench_median(us, BLOCK);
			}
		}
		bench_check(mem, BYTES);
		bench_check(polls.mem, BYTES);
	}
	memcpy(copy, p50[0], sizeof(copy));
	bench_report(pinned ? "one random fault, all on one CPU; a handler in poll(): p50" :
			      "one random fault, beside a handler in poll(): p50",
		     "us", copy, p50[1], BLOCKS, BENCH_AT_MOST, 1);
	bench_report("  beside one in read(): p50", "us", p50[0], p50[2], BLOCKS, BENCH_NO_GOAL, 0);
	memcpy(copy, mean[0], sizeof(copy));
	bench_report("  mean, poll()", "us", copy, mean[1], BLOCKS, BENCH_AT_MOST, 1);
	bench_report("  mean, read()", "us", mean[0], mean[2], BLOCKS, BENCH_NO_GOAL, 0);
	if (zd_mm_close(mm) || zd_device_unregister(dev))
		bench_die("can't close");
	return 0;
}
