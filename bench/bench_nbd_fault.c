/* SPDX-License-Identifier: MIT */
/*
 * One fault on a page that another machine has, at random, against the least that a client can
 * do: nbd_pread() of 4 KiB by libnbd, in the thread that wants it.  Both from one nbdkit with its
 * memory plugin, on one unix socket.  In between, for information: a batch of one page by the
 * driver alone, without a fault, from another such nbdkit.
 *
 * The three take turns, a block of reads each.  With the argument "pin" all threads run on the
 * CPU that the program starts on (the server doesn't).
 */
#include <libnbd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "zonedev/device.h"
#include "zonedev/migrate.h"
#include "zonedev/spec.h"

#define BYTES	(32UL << 20)
#define PAGES	(BYTES / ZD_PAGE_SIZE)
#define BLOCK	512
#define PASSES	2
#define BLOCKS	(PASSES * PAGES / BLOCK)

enum { FAULT, DRIVER, RAW, SIDES };

static char dir[] = "/dev/shm/zd-bench.XXXXXX";
static char uri[2][128];
static pid_t server[2];
static struct zd_mm *mm;
static struct zd_device *dev, *bare;	/* of the faults, and without a server */
static struct nbd_handle *nbd;
static char *mem;
static uint32_t order[PAGES];
static zd_pfn_t pfns[BLOCK];

static void start_server(int n)
{
	char sock[64], ready[64];

	snprintf(sock, sizeof(sock), "%s/%d", dir, n);
	snprintf(ready, sizeof(ready), "%s/ready%d", dir, n);
	snprintf(uri[n], sizeof(uri[n]), "nbd+unix:///?socket=%s", sock);
	server[n] = fork();
	if (!server[n]) {
		execlp("nbdkit", "nbdkit", "-f", "--exit-with-parent", "-U", sock, "-P", ready,
		       "memory", "256M", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; access(ready, F_OK); i++) {
		if (i == 2000 || waitpid(server[n], NULL, WNOHANG))
			bench_skip("nbdkit doesn't start");
		usleep(5000);
	}
}

static struct zd_device *open_device(int n)
{
	struct zd_device *made;
	char spec[192], err[256];

	snprintf(spec, sizeof(spec), "nbd:%s,size=64M", uri[n]);
	if (zd_device_open_spec(spec, &made, err, sizeof(err)))
		bench_skip("%s", err);
	return made;
}

static void done(struct zd_device_io *io)
{
	*(bool *)io->owner = true;
}

/* A batch of one page by the driver alone, as an engine would wait for it. */
static void by_driver(enum zd_io_dir way, zd_pfn_t pfn, char *buf)
{
	struct zd_io_page page = { .pfn = pfn, .buf = buf };
	bool finished = false;
	struct zd_device_io io = {
		.dir = way, .nr = 1, .pages = &page, .done = done, .owner = &finished
	};

	bare->ops->submit(bare, &io);
	while (!finished)
		bare->ops->reap(bare, true);
	if (page.error)
		bench_die("the driver: %s", strerror(-page.error));
}

static void init(void)
{
	int rc;

	dev = open_device(0);
	bare = open_device(1);
	nbd = nbd_create();
	if (!nbd || nbd_connect_uri(nbd, uri[0]))
		bench_die("%s", nbd_get_error());
	mm = bench_open_mm(1);
	mem = bench_map(BYTES, 0);
	bench_fill(mem, BYTES);
	rc = zd_mm_register(mm, mem, BYTES);
	if (rc)
		bench_die("zd_mm_register: %s", strerror(-rc));
	if (bare->ops->alloc_pages(bare, BLOCK, pfns) != BLOCK)
		bench_die("no pages");
	for (unsigned int i = 0; i < BLOCK; i++)
		by_driver(ZD_TO_DEVICE, pfns[i], mem);
	bench_shuffle(order, PAGES, 2017);
}

static void out(void)
{
	struct zd_migrate_result result;
	int rc = zd_migrate_to_device(mm, mem, BYTES, dev, &result);

	if (rc || result.moved != PAGES)
		bench_die("zd_migrate_to_device: %d, %llu pages", rc,
			  (unsigned long long)result.moved);
}

/* BLOCK reads, each timed. */
static void run(unsigned int side, size_t first, double *us)
{
	static char buf[ZD_PAGE_SIZE] __attribute__((aligned(ZD_PAGE_SIZE)));

	for (size_t i = 0; i < BLOCK; i++) {
		uint64_t offset = order[first + i] * (uint64_t)ZD_PAGE_SIZE, t = bench_now_ns();

		if (side == FAULT)
			(void)*(volatile char *)(mem + offset);
		else if (side == DRIVER)
			by_driver(ZD_FROM_DEVICE, pfns[order[first + i] % BLOCK], buf);
		else if (nbd_pread(nbd, buf, ZD_PAGE_SIZE, offset, 0))
			bench_die("%s", nbd_get_error());
		us[i] = (bench_now_ns() - t) / 1e3;
	}
}

static void finish(void)
{
	char command[64];

	nbd_close(nbd);
	bare->ops->unalloc_pages(bare, BLOCK, pfns);
	if (zd_mm_close(mm) || zd_device_unregister(dev) || zd_device_unregister(bare))
		bench_die("can't close");
	for (int n = 0; n < 2; n++) {
		kill(server[n], SIGTERM);
		waitpid(server[n], NULL, 0);
	}
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command))
		bench_die("%s", command);
}

static void pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		bench_die("can't pin");
}

int main(int argc, char **argv)
{
	static double p50[SIDES][BLOCKS], mean[SIDES][BLOCKS], raw[BLOCKS];
	bool pinned = argc > 1 && !strcmp(argv[1], "pin");
	size_t block = 0;

	if (!mkdtemp(dir))
		bench_die("mkdtemp");
	start_server(0);
	start_server(1);
	if (pinned)	/* before any thread is made, since threads inherit the CPU */
		pin();
	init();
	for (int pass = 0; pass < PASSES; pass++) {
		out();
		for (size_t first = 0; first < PAGES; first += BLOCK, block++) {
			for (unsigned int k = 0; k < SIDES; k++) {
				unsigned int side = (k + block) % SIDES;
				double us[BLOCK];

				run(side, first, us);
				mean[side][block] = bench_mean(us, BLOCK);
				p50[side][block] = bench_median(us, BLOCK);
			}
		}
		bench_check(mem, BYTES);
	}
	memcpy(raw, p50[RAW], sizeof(raw));
	bench_report("one random fault over nbd, beside nbd_pread(): p50", "us", p50[FAULT], raw,
		     BLOCKS, BENCH_AT_MOST, 1.3);
	bench_report("  mean", "us", mean[FAULT], mean[RAW], BLOCKS, BENCH_AT_MOST, 1.3);
	memcpy(raw, p50[RAW], sizeof(raw));
	bench_report("  the driver alone: p50", "us", p50[DRIVER], raw, BLOCKS, BENCH_NO_GOAL, 0);
	finish();
	return 0;
}
