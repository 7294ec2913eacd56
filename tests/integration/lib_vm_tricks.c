/* SPDX-License-Identifier: MIT */
/* What a program may do to its memory while some of it is on a device, and that
 * must harm nothing: KSM, NUMA moves, reclaim hints, locks, protections, and
 * mappings split by any of them. */
#include <sys/syscall.h>

#include "tests/integration/lib_test.h"

#define N 128

static struct zd_mm *mm;
static struct zd_device *dev;

/* Every second page out, the others in RAM. */
static char *chequered(uint64_t tag)
{
	char *p = evicted(mm, N, tag, dev);

	for (int i = 1; i < N; i += 2)
		CHECK_EQ(*(volatile uint64_t *)(p + i * PAGE), word(tag, i, 0));
	return p;
}

static void done(char *p, uint64_t tag)
{
	struct zd_migrate_result r;

	CHECK_FILLED(p, N, tag);
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_FILLED(p, N, tag);
	fill(p, N, tag + 1);
	CHECK_FILLED(p, N, tag + 1);
	munmap(p, N * PAGE);
	WAIT_FOR(!zd_device_live_pages(dev));
}

static long number_in(const char *path)
{
	FILE *f = fopen(path, "r");
	long v = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &v) != 1)
		v = -1;
	fclose(f);
	return v;
}

static bool write_number(const char *path, long v)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return false;
	fprintf(f, "%ld\n", v);
	return !fclose(f);
}

#define KSM "/sys/kernel/mm/ksm/"

static void ksm(void)
{
	long was = number_in(KSM "run"), scan = number_in(KSM "pages_to_scan");
	struct zd_migrate_result r;
	char *p = map(N);
	double until;

	if (was < 0 || !write_number(KSM "run", 1)) {
		printf("no KSM here\n");
		return;
	}
	write_number(KSM "pages_to_scan", 5000);
	for (int i = 0; i < N; i++)
		fill(p + i * PAGE, 1, 3);	/* all the same */
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	evict(mm, p, N / 2, dev);
	CHECK(!madvise(p, N * PAGE, MADV_MERGEABLE));
	for (until = now() + PATIENCE; number_in("/proc/self/ksm_merging_pages") < N / 2 - 1;) {
		if (now() > until) {
			printf("KSM merges nothing here\n");
			break;
		}
		usleep(5000);
	}
	settle(mm);
	CHECK_EQ(zd_device_live_pages(dev), N / 2);	/* never merged, never faulted in */
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved + r.shared + r.pinned + r.busy, N / 2);
	for (int i = 0; i < N; i++)
		CHECK_FILLED(p + i * PAGE, 1, 3);
	CHECK(!madvise(p, N * PAGE, MADV_UNMERGEABLE));
	write_number(KSM "run", was);
	write_number(KSM "pages_to_scan", scan);
	for (int i = 0; i < N; i++)
		CHECK_FILLED(p + i * PAGE, 1, 3);
	munmap(p, N * PAGE);
}

static void numa(void)
{
	char *p = chequered(10);
	void *pages[N];
	int nodes[N], status[N];
	unsigned long mask = 1;

	for (int i = 0; i < N; i++) {
		pages[i] = p + i * PAGE;
		nodes[i] = 0;
	}
	if (syscall(SYS_move_pages, 0, N, pages, nodes, status, 2 /* MPOL_MF_MOVE */) < 0)
		CHECK(errno == ENOSYS || errno == ENOENT);
	else
		for (int i = 0; i < N; i += 2)
			CHECK_EQ(status[i], -ENOENT);	/* not in the process's page table */
	if (syscall(SYS_mbind, p, N / 2 * PAGE, 2 /* MPOL_BIND */, &mask, 64UL, 2))
		CHECK(errno == ENOSYS || errno == EINVAL);
	settle(mm);
	CHECK_EQ(zd_device_live_pages(dev), N / 2);
	done(p, 10);
}

static void reclaim(void)
{
	char *p = chequered(20);

	if (madvise(p, N * PAGE, 20 /* MADV_COLD */))
		CHECK_EQ(errno, EINVAL);
	if (madvise(p, N * PAGE, 21 /* MADV_PAGEOUT */))
		CHECK_EQ(errno, EINVAL);
	settle(mm);
	CHECK_EQ(zd_device_live_pages(dev), N / 2);
	done(p, 20);
}

static void locked(void)
{
	char *p = chequered(30);
	struct zd_migrate_result r;
	uint64_t refused;

	/* brings all of the range home; the sanitizers' mlock() does nothing */
	CHECK(!syscall(SYS_mlock, p, N * PAGE));
	settle(mm);
	CHECK_EQ(zd_device_live_pages(dev), 0);
	CHECK_EQ(resident(p, N), N);
	refused = stats(mm).refused_protection;
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.protection, N);
	CHECK_EQ(stats(mm).refused_protection, refused + N);
	CHECK_EQ(resident(p, N), N);
	CHECK(!syscall(SYS_munlock, p, N * PAGE));
	evict(mm, p, N, dev);
	done(p, 30);
}

static void protections(void)
{
	struct zd_migrate_result r;
	char *p = chequered(40);

	CHECK(!mprotect(p, N * PAGE, PROT_READ));
	CHECK_FILLED(p, N / 2, 40);
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(r.protection, N / 2 + N / 4);
	CHECK(!mprotect(p, N * PAGE, PROT_NONE));
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(zd_migrate_to_ram(mm, p, N * PAGE, &r), 0);
	CHECK_EQ(zd_device_live_pages(dev), 0);
	CHECK(!mprotect(p, N * PAGE, PROT_READ | PROT_WRITE));
	done(p, 40);
}

/* A batch that spans several mappings: each page is tried on its own. */
static void split(void)
{
	struct zd_migrate_result r;
	char *p = map(N);

	fill(p, N, 50);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	CHECK(!madvise(p, 50 * PAGE, MADV_DONTDUMP));	/* still all movable */
	evict(mm, p, N, dev);
	CHECK_FILLED(p, N, 50);
	CHECK(!mprotect(p + 30 * PAGE, 40 * PAGE, PROT_READ));
	migrate_out(mm, p, N * PAGE, N - 40, dev, &r);
	CHECK_EQ(r.moved, N - 40);
	CHECK_EQ(r.protection, 40);
	CHECK(!mprotect(p, N * PAGE, PROT_READ | PROT_WRITE));
	done(p, 50);
}

int main(void)
{
	mm = open_mm();
	dev = ram_device(2 * N);
	ksm();
	numa();
	reclaim();
	locked();
	protections();
	split();
	close_mm(mm, dev);
	return 0;
}
