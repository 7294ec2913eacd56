/* SPDX-License-Identifier: MIT */
/* A page that the device can't read back raises SIGBUS when it is touched, in a child as
 * well: that page alone, and never zeros.  The other pages live on. */
#include "tests/integration/lib_test.h"

#define N	64
#define FIRST	20
#define BAD	3

static struct zd_mm *mm;
static struct zd_device *dev;
static char *p;

/* The device pages of p[FIRST..] can't be read from now on. */
static void break_device(void)
{
	struct zd_ram_faults f = { .read_error = -EIO, .nr = BAD };
	zd_pfn_t pfns[BAD];

	CHECK_EQ(zd_migrate_device_pfns(mm, p + FIRST * PAGE, BAD * PAGE, pfns, BAD), 0);
	for (int i = 1; i < BAD; i++)
		CHECK_EQ(pfns[i], pfns[0] + i);
	f.first = zd_device_page_index(dev, pfns[0]);
	CHECK_EQ(zd_ram_device_inject(dev, &f), 0);
}

static void good_ones(void)
{
	CHECK_EQ(bad_page(p, 0, FIRST, 1), FIRST);
	CHECK_EQ(bad_page(p, FIRST + BAD, N, 1), N);
}

static void all(void *arg)
{
	(void)arg;
	for (int again = 0; again < 2; again++)
		for (int i = FIRST; i < FIRST + BAD; i++)
			CHECK(raises_sigbus(p + i * PAGE + 100));
	good_ones();
}

static void by_fault(void)
{
	char c[8];
	int fds[2];

	p = evicted(mm, N, 1, dev);
	break_device();
	all(NULL);
	CHECK_EQ(stats(mm).pages_poisoned, BAD);
	child_ok(child_start(all, NULL));	/* forked after */
	/* a system call gets EFAULT, not zeros */
	CHECK(!pipe(fds));
	CHECK(write(fds[1], p + FIRST * PAGE, sizeof(c)) < 0 && errno == EFAULT);
	CHECK_EQ(write(fds[1], p, sizeof(c)), sizeof(c));
	close(fds[0]);
	close(fds[1]);
	/* the program may give up the content: then the page is ordinary memory */
	CHECK(!madvise(p + FIRST * PAGE, PAGE, MADV_DONTNEED));
	CHECK(is_zero(p + FIRST * PAGE, PAGE));
	CHECK(raises_sigbus(p + (FIRST + 1) * PAGE));
	munmap(p, N * PAGE);
}

static void before_fork(void)
{
	uint64_t poisoned = stats(mm).pages_poisoned;

	p = evicted(mm, N, 1, dev);
	break_device();
	child_ok(child_start(all, NULL));
	all(NULL);
	CHECK_EQ(stats(mm).pages_poisoned, poisoned + 2 * BAD);
	munmap(p, N * PAGE);
}

/* Pages that can't be read when a call or zd_mm_unregister() asks for them stay where they
 * are; after zd_mm_close() they raise SIGBUS. */
static void by_call(void)
{
	const struct zd_ram_faults none = { 0 };
	struct zd_migrate_result r;
	uint64_t poisoned;

	p = evicted(mm, N, 1, dev);
	break_device();
	poisoned = stats(mm).pages_poisoned;
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), -EIO);
	CHECK_EQ(r.moved, N - BAD);
	CHECK_EQ(r.device, BAD);
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), -EIO);
	CHECK_EQ(r.device, BAD);
	CHECK_EQ(stats(mm).pages_poisoned, poisoned);
	/* the error was a passing one */
	CHECK_EQ(zd_ram_device_inject(dev, &none), 0);
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), 0);
	CHECK_EQ(bad_page(p, 0, N, 1), N);
	munmap(p, N * PAGE);

	p = evicted(mm, N, 1, dev);
	break_device();
	CHECK_EQ(zd_mm_unregister(mm, p, N * PAGE), -EIO);
	CHECK_EQ(stats(mm).pages_poisoned, poisoned);
	all(NULL);	/* a thread that needs one gets SIGBUS */
	CHECK_EQ(zd_mm_unregister(mm, p, N * PAGE), 0);
	munmap(p, N * PAGE);

	p = evicted(mm, N, 1, dev);
	break_device();
	close_mm(mm, dev);
	all(NULL);
}

int main(void)
{
	static unsigned int logged;

	catch_sigbus();
	mm = open_mm();
	dev = ram_device(2 * N);
	zd_set_log(quiet, &logged);
	by_fault();
	CHECK(__atomic_load_n(&logged, __ATOMIC_RELAXED));	/* the log says so */
	before_fork();
	by_call();
	return 0;
}
