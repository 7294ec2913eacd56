/* SPDX-License-Identifier: MIT */
/* Device memory that the server copies from directly, and that is there no more: a file that
 * has been truncated.  A thread that touches a page which was in the lost part gets SIGBUS;
 * never zeros, and no thread waits for ever.  The other pages live on. */
#include "tests/integration/lib_gate.h"

#define N	96
#define CUT	7	/* the last pages */

static struct zd_mm *mm;
static struct gate *g;
static char *file_mem, *p;
static int fd;

static void *file_page(struct zd_device *dev, zd_pfn_t pfn)
{
	return file_mem + zd_device_page_index(dev, pfn) * PAGE;
}

static void cut(void)
{
	p = evicted(mm, N, 1, &g->dev);
	CHECK(!ftruncate(fd, (N - CUT) * PAGE));
}

static void mend(void)
{
	munmap(p, N * PAGE);
	WAIT_FOR(!gate_used(g));
	CHECK(!ftruncate(fd, N * PAGE));
}

/* The gate gives out pages in order. */
static void check(void *arg)
{
	(void)arg;
	for (int i = N - 1; i >= N - CUT; i -= 3)
		CHECK(raises_sigbus(p + i * PAGE));
	CHECK_EQ(bad_page(p, 0, N - CUT, 1), N - CUT);	/* up to the first lost one */
	for (int i = N - CUT; i < N; i++)
		CHECK(raises_sigbus(p + i * PAGE + 8));
}

static void by_fault(void)
{
	struct zd_mm_stats s;

	cut();
	child_ok(child_start(check, NULL));
	check(NULL);
	s = stats(mm);
	CHECK_EQ(s.pages_poisoned, 2 * CUT);
	CHECK_EQ(s.pages_home, 2 * (N - CUT));
	CHECK_EQ(s.pages_device, 0);
	CHECK_EQ(gate_used(g), 0);
	mend();
}

static void by_call(void)
{
	struct zd_migrate_result r;

	cut();
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), -EIO);
	CHECK_EQ(r.moved, N - CUT);
	CHECK_EQ(r.device, CUT);
	CHECK_EQ(gate_used(g), CUT);
	check(NULL);
	mend();
}

/* A removal is called off where a page can't come home. */
static void by_removal(void)
{
	uint64_t poisoned;

	cut();
	poisoned = stats(mm).pages_poisoned;
	CHECK_EQ(zd_device_unregister(&g->dev), -EIO);
	CHECK_EQ(stats(mm).pages_poisoned, poisoned);
	check(NULL);
	CHECK_EQ(stats(mm).pages_poisoned, poisoned + CUT);
	mend();
}

int main(void)
{
	static struct zd_device_ops ops;

	catch_sigbus();
	zd_set_log(quiet, NULL);
	g = gate_device(N);
	fd = memfd_create("device", MFD_CLOEXEC);
	CHECK(fd >= 0 && !ftruncate(fd, N * PAGE));
	file_mem = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(file_mem != MAP_FAILED);
	ops = gate_ops;
	ops.direct_access = file_page;
	g->dev.ops = &ops;
	mm = open_mm();
	by_fault();
	by_call();
	by_removal();
	close_mm(mm, &g->dev);
	return 0;
}
