/* SPDX-License-Identifier: MIT */
/*
 * The lz4 device beside zram with lz4: pages out (compressed and stored) and home (loaded), as CPU
 * time of all threads that have a part in it, and what the same pages take of RAM.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "../tests/lib/page_contents.h"
#include "bench.h"
#include "zonedev/device.h"
#include "zonedev/lz4.h"

#define NR_PAGES	8192u
#define BYTES		(NR_PAGES * ZD_PAGE_SIZE)
#define BATCH		256u	/* pages of an eviction */
#define AROUND		16u	/* pages of a fault */
#define ROUNDS		9

static char *source, *buffer;
static uint32_t order[NR_PAGES];

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* --- ours --- */

static struct zd_device *dev;
static zd_pfn_t pfns[NR_PAGES];

static void done(struct zd_device_io *io)
{
	*(bool *)io->owner = true;
}

static void run_batch(enum zd_io_dir dir, unsigned int first, unsigned int nr, char *mem)
{
	static struct zd_io_page pages[BATCH];
	bool finished = false;
	struct zd_device_io io = {
		.dir = dir, .nr = nr, .pages = pages, .done = done, .owner = &finished
	};

	for (unsigned int i = 0; i < nr; i++)
		pages[i] = (struct zd_io_page){ pfns[first + i], mem + i * ZD_PAGE_SIZE, 0 };
	dev->ops->submit(dev, &io);
	while (!finished)
		dev->ops->reap(dev, true);
	for (unsigned int i = 0; i < nr; i++)
		if (pages[i].error)
			bench_die("lz4: page %u: %s", first + i, strerror(-pages[i].error));
}

static void ours_out(unsigned int first, unsigned int nr)
{
	run_batch(ZD_TO_DEVICE, first, nr, source + first * ZD_PAGE_SIZE);
}

static void ours_home(unsigned int first, unsigned int nr)
{
	run_batch(ZD_FROM_DEVICE, first, nr, buffer + first * ZD_PAGE_SIZE);
}

static void ours_free(void)
{
	dev->ops->unalloc_pages(dev, NR_PAGES, pfns);
	if (dev->ops->alloc_pages(dev, NR_PAGES, pfns) != NR_PAGES)
		bench_die("lz4: no pages");
}

/* --- zram --- */

static int zram_number = -1, zram_fd = -1;

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool read_file(const char *path, char *text, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, len - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static const char *zram_path(const char *attribute)
{
	static char path[128];

	snprintf(path, sizeof(path), "/sys/block/zram%d/%s", zram_number, attribute);
	return path;
}

/* Also in a signal handler: it is the device that this process has added, and no other. */
static void zram_remove(void)
{
	char text[16];
	int number = zram_number;

	if (number < 0)
		return;
	if (zram_fd >= 0)
		close(zram_fd);
	write_file(zram_path("reset"), "1");
	snprintf(text, sizeof(text), "%d", number);
	/* udev may still have it open, for a moment */
	for (int i = 0; i < 100 && !write_file("/sys/class/zram-control/hot_remove", text); i++)
		usleep(10000);
	zram_number = -1;
}

static void on_signal(int sig)
{
	zram_remove();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Where no udev makes the node. */
static int zram_open(void)
{
	char node[64], text[32];
	unsigned int major, minor;
	int fd;

	snprintf(node, sizeof(node), "/dev/zram%d", zram_number);
	fd = open(node, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (!read_file(zram_path("dev"), text, sizeof(text)) ||
	    sscanf(text, "%u:%u", &major, &minor) != 2)
		return -1;
	snprintf(node, sizeof(node), "/dev/shm/bench-zram-%d", getpid());
	if (mknod(node, S_IFBLK | 0600, makedev(major, minor)))
		return -1;
	fd = open(node, O_RDWR | O_DIRECT | O_CLOEXEC);
	unlink(node);
	return fd;
}

/* NULL, or why there is none. */
static const char *zram_add(void)
{
	char text[32];

	if (!read_file("/sys/class/zram-control/hot_add", text, sizeof(text)))
		return "no zram device can be added here";
	zram_number = atoi(text);
	atexit(zram_remove);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	snprintf(text, sizeof(text), "%lu", BYTES);
	if (!write_file(zram_path("comp_algorithm"), "lz4"))
		return "zram has no lz4";
	if (!write_file(zram_path("disksize"), text))
		return "zram can't be set up";
	zram_fd = zram_open();
	return zram_fd < 0 ? "the zram device can't be opened" : NULL;
}

static void zram_out(unsigned int first, unsigned int nr)
{
	size_t bytes = nr * ZD_PAGE_SIZE, at = first * ZD_PAGE_SIZE;

	if (pwrite(zram_fd, source + at, bytes, at) != (ssize_t)bytes)
		bench_die("zram: write: %s", strerror(errno));
}

static void zram_home(unsigned int first, unsigned int nr)
{
	size_t bytes = nr * ZD_PAGE_SIZE, at = first * ZD_PAGE_SIZE;

	if (pread(zram_fd, buffer + at, bytes, at) != (ssize_t)bytes)
		bench_die("zram: read: %s", strerror(errno));
}

/* orig_data_size compr_data_size mem_used_total ... */
static void zram_sizes(double *compressed, double *used)
{
	char text[256];

	if (!read_file(zram_path("mm_stat"), text, sizeof(text)) ||
	    sscanf(text, "%*f %lf %lf", compressed, used) != 2)
		bench_die("zram: no mm_stat");
}

/* --- both --- */

/* Pages a millisecond of CPU time; all pages, @nr in a row at a time. */
static double rate(void (*move)(unsigned int first, unsigned int nr), unsigned int nr)
{
	uint64_t t = cpu_ns();

	for (unsigned int i = 0; i < NR_PAGES / nr; i++)
		move(order[i] % (NR_PAGES / nr) * nr, nr);
	return NR_PAGES * 1e6 / (cpu_ns() - t);
}

/* Each run of @nr pages once. */
static void shuffle(unsigned int nr, uint64_t seed)
{
	for (unsigned int i = 0; i < NR_PAGES / nr; i++)
		order[i] = i;
	bench_shuffle(order, NR_PAGES / nr, seed);
}

static void check(const char *who)
{
	if (memcmp(source, buffer, BYTES))
		bench_die("%s: pages come back wrong", who);
	memset(buffer, 0xee, BYTES);
}

static void make_pages(void)
{
	source = mmap(NULL, 2 * BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (source == MAP_FAILED)
		bench_die("mmap: %s", strerror(errno));
	buffer = source + BYTES;
	for (unsigned int i = 0, tag = 0; i < NR_PAGES; tag++) {
		enum contents kind = contents_of(tag);

		/* the device refuses noise, and zram copies it: nothing to compare */
		if (kind != CONTENTS_RANDOM && kind != CONTENTS_NUMBERS)
			contents_fill(source + i++ * ZD_PAGE_SIZE, kind, tag);
	}
	memset(buffer, 0xee, BYTES);
}

static const struct {
	const char *what;
	bool out;
	unsigned int pages;
} rows[] = {
	{ "lz4 out, 256 pages at a time (zram: writes of 1 MiB)", true, BATCH },
	{ "lz4 out, a page at a time (zram: writes of 4 KiB)", true, 1 },
	{ "lz4 home, 16 pages at a time (zram: reads of 64 KiB)", false, AROUND },
	{ "lz4 home, a page at a time (zram: reads of 4 KiB)", false, 1 },
};
#define NR_ROWS (sizeof(rows) / sizeof(rows[0]))

static double ours[NR_ROWS][ROUNDS], theirs[NR_ROWS][ROUNDS];

static void measure(unsigned int row, unsigned int round)
{
	shuffle(rows[row].pages, round + 1);
	if (rows[row].out) {
		ours_free();
		ours[row][round] = rate(ours_out, rows[row].pages);
		theirs[row][round] = rate(zram_out, rows[row].pages);
		return;
	}
	ours[row][round] = rate(ours_home, rows[row].pages);
	check("lz4");
	theirs[row][round] = rate(zram_home, rows[row].pages);
	check("zram");
}

static void report_sizes(void)
{
	double compressed, used, mine = dev->ops->ram_bytes(dev), waste = 0;
	struct zd_device_stat stats[32];
	int nr = dev->ops->stats(dev, stats, 32);
	double ratio[2];

	zram_sizes(&compressed, &used);
	for (int i = 0; i < nr; i++)
		if (!strcmp(stats[i].name, "waste_percent"))
			waste = stats[i].value;
	ratio[0] = BYTES / mine;
	ratio[1] = BYTES / used;
	bench_report("lz4 ratio: pages' bytes to the RAM that they take", "times", &ratio[0],
		     &ratio[1], 1, BENCH_NO_GOAL, 0);
	ratio[0] = waste;
	ratio[1] = 100 * (used - compressed) / used;
	bench_report("lz4 waste: of the RAM, what is no compressed byte", "%", &ratio[0], &ratio[1],
		     1, BENCH_NO_GOAL, 0);
	bench_report_limit("lz4 waste, by itself", "%", waste, 15);
}

int main(void)
{
	const char *why;
	int rc;

	make_pages();
	rc = zd_lz4_device_create(BYTES, ZD_LZ4_LEVEL_FAST, &dev);
	if (rc)
		bench_die("zd_lz4_device_create: %s", strerror(-rc));
	if (dev->ops->alloc_pages(dev, NR_PAGES, pfns) != NR_PAGES)
		bench_die("lz4: no pages");
	why = zram_add();
	if (why) {
		for (unsigned int i = 0; i < NR_ROWS; i++)
			bench_report_none(rows[i].what, "p/ms", why);
	} else {
		for (unsigned int round = 0; round < ROUNDS; round++)
			for (unsigned int i = 0; i < NR_ROWS; i++)
				measure(i, round);
		for (unsigned int i = 0; i < NR_ROWS; i++)
			bench_report(rows[i].what, "p/ms", ours[i], theirs[i], ROUNDS,
				     BENCH_AT_LEAST, 0.8);
		report_sizes();
	}
	zram_remove();
	dev->ops->unalloc_pages(dev, NR_PAGES, pfns);
	if (zd_device_unregister(dev))
		bench_die("can't unregister");
	return 0;
}
