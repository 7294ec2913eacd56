/* SPDX-License-Identifier: MIT */
/*
 * A driver that calls malloc(), as most libraries do, in a program whose heap is managed.  The
 * driver waits for a lock of malloc's whose holder may wait for the server, or for the very
 * page that the driver is to bring: for ever.  So a driver that mallocs in its callbacks is
 * refused; one that does in threads of its own is not, and malloc's own memory stays in RAM.
 * All memory goes where the driver promises not to call malloc (ZD_DEVICE_NO_MALLOC), and where
 * the program promises to give none of malloc's (ZD_MM_OWN_MAPPINGS).
 *
 * Broken looks like: SIGALRM.
 */
#include <malloc.h>
#include <spawn.h>
#include <zonedev/blocking.h>

#include "lib_test.h"

extern char **environ;

#ifndef OTHER_MALLOC	/* see lib_malloc_other.c */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHER_MALLOC 1
#else
#define OTHER_MALLOC 0
#endif
#endif

#define BLOCKS	20000
#define LARGE	(1u << 20)
#define DEVICE	4096	/* pages */

/* --- the device, whose threads call malloc --- */

static char *device_memory;
static unsigned long calls;

static int copy(void *to, const void *from, unsigned int nr)
{
	void *p = malloc(100), *q = malloc(5000), *r = malloc(LARGE);

	__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
	free(p);
	memcpy(to, from, nr * PAGE);
	free(r);
	free(q);
	return 0;
}

static int read_pages(void *priv, uint64_t first, unsigned int nr, void *buf)
{
	(void)priv;
	return copy(buf, device_memory + first * PAGE, nr);
}

static int write_pages(void *priv, uint64_t first, unsigned int nr, const void *buf)
{
	(void)priv;
	return copy(device_memory + first * PAGE, buf, nr);
}

static struct zd_device *mallocing_device(uint64_t flags)
{
	static const struct zd_blocking_ops ops = {
		.size = sizeof(ops), .version = ZD_BLOCKING_OPS_VERSION,
		.read = read_pages,
		.write = write_pages,
	};
	const struct zd_blocking_attr attr = {
		.size = sizeof(attr), .name = "mallocs", .nr_pages = DEVICE, .flags = flags,
		.ops = &ops,
	};
	struct zd_device *dev;

	if (!device_memory)
		device_memory = mmap(NULL, DEVICE * PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(device_memory != MAP_FAILED);
	CHECK(!zd_blocking_device_create(&attr, &dev));
	return dev;
}

/* --- the heap --- */

static void *block[BLOCKS];

static void *fill_blocks(void *arg)
{
	for (int i = 0; i < BLOCKS; i++) {
		block[i] = malloc(100);
		memset(block[i], i, 100);
	}
	return arg;
}

static void churn(void)
{
	for (int i = 0; i < BLOCKS; i += 2) {
		for (int k = 0; k < 100; k++)
			CHECK(((char *)block[i])[k] == (char)i);
		free(block[i]);
	}
	for (int i = 0; i < BLOCKS; i += 2) {
		block[i] = malloc(90);
		memset(block[i], i, 90);
	}
	for (int i = 0; i < BLOCKS; i++)
		free(block[i]);
	malloc_trim(0);
}

/* Of the blocks: from where to where.  A few, which the thread had cached, are another arena's. */
static char *extent(size_t *len)
{
	char *some = block[BLOCKS / 2], *lo = some, *hi = some;

	for (int i = 0; i < BLOCKS; i++) {
		if (llabs((char *)block[i] - some) > 1 << 23)
			continue;
		lo = (char *)block[i] < lo ? block[i] : lo;
		hi = (char *)block[i] > hi ? block[i] : hi;
	}
	*len = hi - lo;
	return lo;
}

static struct zd_migrate_result out(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	size_t len;
	char *lo = extent(&len);

	CHECK(!zd_mm_register(mm, lo, len));
	CHECK_EQ(zd_migrate_to_device(mm, lo, len, dev, &r), 0);
	return r;
}

/* All of it goes; where memory was given back a moment ago, after a while. */
static void all_out(struct zd_mm *mm, char *p, size_t len, struct zd_device *dev)
{
	struct zd_migrate_result r;
	uint64_t away = 0, whole = len / PAGE - 1;	/* at least, wherever it begins */

	CHECK(!zd_mm_register(mm, p, len + PAGE - 1));
	WAIT_FOR(!zd_migrate_to_device(mm, p, len + PAGE - 1, dev, &r) && r.protection == 0 &&
		 (away += r.moved) >= whole);
}

#define HEAP_PAGES	(BLOCKS * 100 / PAGE)

static void the_heap_stays(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	pthread_t t;

	fill_blocks(NULL);			/* the main arena */
	r = out(mm, dev);
	churn();
	CHECK(r.moved == 0 && r.protection >= HEAP_PAGES);
	CHECK(!pthread_create(&t, NULL, fill_blocks, NULL) && !pthread_join(t, NULL));
	r = out(mm, dev);			/* a thread's arena */
	churn();
	CHECK(r.moved == 0 && r.protection >= HEAP_PAGES);
}

static void a_large_block_goes(struct zd_mm *mm, struct zd_device *dev)
{
	const size_t len = 8 * LARGE;	/* more than an arena has free: a mapping of its own */
	char *large = malloc(len + PAGE);
	unsigned long before = calls;

	memset(large, 7, len + PAGE);
	all_out(mm, large, len, dev);
	CHECK(calls > before);
	for (unsigned int i = 0; i < len; i++)
		CHECK(large[i] == 7);
	free(large);
}

/* What went to a device that doesn't malloc comes home when one is used that does, and no more
 * of it goes. */
static void the_heap_comes_home(struct zd_mm *mm, struct zd_device *ram, struct zd_device *dev)
{
	struct zd_mm_stats stats;
	struct zd_migrate_result r;
	char *own = map(3);

	fill_blocks(NULL);
	r = out(mm, ram);
	CHECK(r.moved >= HEAP_PAGES);
	CHECK(!zd_mm_get_stats(mm, &stats) && stats.pages_device >= HEAP_PAGES / 2);
	own[0] = 1;
	own[PAGE] = 1;
	all_out(mm, own, 2 * PAGE, dev);
	CHECK(!zd_mm_get_stats(mm, &stats));
	CHECK_EQ(stats.pages_device, 2);
	r = out(mm, ram);
	CHECK(r.moved == 0 && r.protection >= HEAP_PAGES);
	churn();
	CHECK(own[0] == 1);
}

/* A thread faults pages home all the time, so that the device's threads malloc; and this one does
 * what takes malloc's locks and waits for the server: it forks, and gives heap back. */
static bool stop;

static void *go_out_and_home(void *arg)
{
	struct zd_migrate_result r;
	struct zd_mm *mm = ((void **)arg)[0];
	struct zd_device *dev = ((void **)arg)[1];
	char *p = map(256);

	CHECK(!zd_mm_register(mm, p, 256 * PAGE));
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 256; i++)
			p[i * PAGE] = i + 1;
		CHECK(!zd_migrate_to_device(mm, p, 256 * PAGE, dev, &r));
		for (int i = 255; i >= 0; i--)
			CHECK(p[i * PAGE] == (char)(i + 1));
	}
	return NULL;
}

static void locks_of_malloc_are_held(struct zd_mm *mm, struct zd_device *dev)
{
	void *arg[] = { mm, dev };
	pthread_t t;

	CHECK(!pthread_create(&t, NULL, go_out_and_home, arg));
	for (int i = 0; i < 30; i++) {
		int status;
		pid_t pid = MAY_FORK_BESIDE_THREADS ? fork() : 0;

		if (MAY_FORK_BESIDE_THREADS && !pid)
			_exit(0);
		if (pid)
			CHECK(waitpid(pid, &status, 0) == pid && !status);
		fill_blocks(NULL);
		out(mm, dev);
		churn();
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
}

/* --- who is refused --- */

static void callbacks_may_not_malloc(struct zd_mm *mm, struct zd_device *ram)
{
	const struct zd_device_ops *good = ram->ops;
	struct zd_device_ops ops = *good;
	char *own = map(1);
	struct zd_migrate_result r;

	own[0] = 1;
	CHECK(!zd_mm_register(mm, own, PAGE));
	ops.flags = 0;
	ram->ops = &ops;
	CHECK_EQ(zd_migrate_to_device(mm, own, PAGE, ram, &r), -EOPNOTSUPP);
	ram->ops = good;
	CHECK(!zd_migrate_to_device(mm, own, PAGE, ram, &r));
	munmap(own, PAGE);
}

/* The memory of this malloc can't be told: nothing goes, unless it is the program's own. */
static int refused(void)
{
	const struct zd_mm_attr attr = { .size = sizeof(attr), .flags = ZD_MM_OWN_MAPPINGS };
	struct zd_device *dev = mallocing_device(0), *quiet = mallocing_device(ZD_DEVICE_NO_MALLOC);
	struct zd_migrate_result r;
	struct zd_mm *mm;
	char *own = map(16);

	memset(own, 3, 16 * PAGE);
	CHECK(!zd_mm_open(NULL, &mm));
	CHECK(!zd_mm_register(mm, own, 16 * PAGE));
	CHECK_EQ(zd_migrate_to_device(mm, own, 16 * PAGE, dev, &r), -EOPNOTSUPP);
	CHECK(!zd_migrate_to_device(mm, own, 16 * PAGE, quiet, &r) && r.moved == 16);
	CHECK(!zd_mm_close(mm));
	CHECK(!zd_mm_open(&attr, &mm));
	CHECK(!zd_mm_register(mm, own, 16 * PAGE));
	CHECK(!zd_migrate_to_device(mm, own, 16 * PAGE, dev, &r));
	CHECK(r.moved == 16 && r.protection == 0);
	CHECK(own[PAGE] == 3);
	CHECK(!zd_mm_close(mm));
	CHECK(!zd_device_unregister(dev) && !zd_device_unregister(quiet));
	return 0;
}

/* brk(2) has no room: malloc maps memory for its main arena. */
static int without_brk(void)
{
	char *top = (char *)(((uintptr_t)sbrk(0) + LARGE) & ~(PAGE - 1));

	CHECK(mmap(top, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		   0) == top);
	fill_blocks(NULL);
	fill_blocks(NULL);
	CHECK((char *)block[BLOCKS - 1] > top);
	return refused();
}

static void run_again(const char *how, char *setting)
{
	char *argv[] = { "lib_malloc", (char *)how, NULL }, *env[64] = { setting };
	pid_t pid;
	int status;

	for (unsigned int i = 0, n = setting != NULL; environ[i] && n < 62; i++)
		env[n++] = environ[i];
	CHECK(!posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, env));
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

static void with_glibc(void)
{
	struct zd_device *ram, *dev = mallocing_device(0);
	struct zd_mm *mm;

	CHECK(!zd_device_open_spec("ram:size=16M", &ram, NULL, 0));
	CHECK(!zd_mm_open(NULL, &mm));
	callbacks_may_not_malloc(mm, ram);
	the_heap_comes_home(mm, ram, dev);
	the_heap_stays(mm, dev);
	a_large_block_goes(mm, dev);
	locks_of_malloc_are_held(mm, dev);
	CHECK(!zd_mm_close(mm));
	CHECK(!zd_device_unregister(ram) && !zd_device_unregister(dev));
	run_again("refused", "GLIBC_TUNABLES=glibc.malloc.check=0:glibc.malloc.hugetlb=2");
	run_again("ordinary", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1");
	run_again("ordinary", "GLIBC_TUNABLES=glibc.malloc.arena_max=1");
	run_again("brk", NULL);
}

/* What is out is all of it, and comes home as it was. */
static int all_goes_where_no_driver_mallocs(void)
{
	struct zd_migrate_result r;
	struct zd_device *ram;
	struct zd_mm *mm;

	CHECK(!zd_device_open_spec("ram:size=16M", &ram, NULL, 0));
	CHECK(!zd_mm_open(NULL, &mm));
	fill_blocks(NULL);
	r = out(mm, ram);
	churn();
	CHECK(r.moved >= HEAP_PAGES);
	CHECK(!zd_mm_close(mm));
	CHECK(!zd_device_unregister(ram));
	return 0;
}

static int ordinary(void)
{
	struct zd_device *dev = mallocing_device(0);
	struct zd_mm *mm;

	CHECK(!zd_mm_open(NULL, &mm));
	the_heap_stays(mm, dev);
	CHECK(!zd_mm_close(mm));
	CHECK(!zd_device_unregister(dev));
	return 0;
}

int main(int argc, char **argv)
{
	alarm(100);
	zd_set_log(quiet, NULL);
	mallopt(M_MMAP_THRESHOLD, LARGE / 2);
	if (argc > 1 && !strcmp(argv[1], "brk"))
		return without_brk();
	if (argc > 1 && !strcmp(argv[1], "refused"))
		return refused();
	if (OTHER_MALLOC)
		return refused() || all_goes_where_no_driver_mallocs();
	mallopt(M_ARENA_MAX, 2);
	if (argc > 1)
		return ordinary();
	with_glibc();
	return all_goes_where_no_driver_mallocs();
}
