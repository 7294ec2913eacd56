/* SPDX-License-Identifier: MIT */
/* setup, pages, finalize: the steps for a driver that copies by itself. */
#include "tests/integration/lib_gate.h"

#define N 32

static struct zd_mm *mm;
static struct gate *g;

static uint64_t src[N], dst[N];
static const void *data[N];

static struct zd_migrate_vma setup(char *p)
{
	struct zd_migrate_vma a = {
		.mm = mm, .dev = &g->dev, .start = p, .end = p + N * PAGE,
		.src = src, .dst = dst, .data = data,
	};

	CHECK_EQ(zd_migrate_vma_setup(&a), 0);
	return a;
}

static char *filled(uint64_t tag)
{
	char *p = map(N);

	fill(p, N, tag);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	return p;
}

/* The driver's part: page i into a device page. */
static void copy_out(int i)
{
	zd_pfn_t pfn;

	CHECK_EQ(gate_alloc(&g->dev, 1, &pfn), 1);
	CHECK_EQ(zd_page_init(zd_pfn_to_page(pfn)), 0);
	memcpy(gate_page(&g->dev, pfn), data[i], PAGE);
	dst[i] = zd_migrate_pfn(pfn);
}

static void some(void)
{
	char *p = filled(1);
	struct zd_migrate_vma a;
	zd_pfn_t pfns[N], want[N] = { 0 };

	CHECK(!madvise(p + 30 * PAGE, 2 * PAGE, MADV_DONTNEED));	/* as if never touched */
	a = setup(p);
	CHECK_EQ(a.cpages, 30);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(src[i], i < 30 ? ZD_MIGRATE_PFN_VALID | ZD_MIGRATE_PFN_MIGRATE : 0);
		CHECK_EQ(!data[i], i >= 30);
		if (i < 30)
			for (int k = 0; k < (int)(PAGE / 8); k++)
				CHECK(((const uint64_t *)data[i])[k] == word(1, i, k));
	}
	for (int i = 0; i < 30; i += 3) {	/* every third page goes */
		copy_out(i);
		want[i] = zd_migrate_pfn_to_pfn(dst[i]);
	}
	zd_migrate_vma_pages(&a);
	for (int i = 0; i < N; i++)
		CHECK_EQ(!(src[i] & ZD_MIGRATE_PFN_MIGRATE), i >= 30 || i % 3);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, 10);
	CHECK_EQ(a.result.device, 20);		/* no device page for the others */
	CHECK_EQ(a.result.absent, 2);
	CHECK_EQ(zd_migrate_device_pfns(mm, p, N * PAGE, pfns, N), 0);
	for (int i = 0; i < N; i++)
		CHECK_EQ(pfns[i], want[i]);
	CHECK_EQ(resident(p, N), 20);
	CHECK_EQ(bad_page(p, 0, 30, 1), 30);
	CHECK(is_zero(p + 30 * PAGE, 2 * PAGE));
	settle(mm);
	CHECK_EQ(gate_used(g), 0);
	munmap(p, N * PAGE);
}

/* All go: what the device computes is what the program reads. */
static void computed(void)
{
	char *p = filled(2);
	struct zd_migrate_vma a = setup(p);

	for (int i = 0; i < N; i++) {
		copy_out(i);
		fill(gate_page(&g->dev, zd_migrate_pfn_to_pfn(dst[i])), 1, 100 + i);
	}
	zd_migrate_vma_pages(&a);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, N);
	for (int i = 0; i < N; i++)
		CHECK_FILLED(p + i * PAGE, 1, 100 + i);
	munmap(p, N * PAGE);
}

/* A thread that touches a page between the steps waits, until pages() or finalize() has
 * decided where the page goes. */
static void touched(void)
{
	char *p = filled(3);
	struct zd_migrate_vma a = setup(p);
	struct toucher goes, stays;

	toucher_start(&goes, mm, p + 4 * PAGE);
	toucher_start(&stays, mm, p + 5 * PAGE);
	usleep(20000);
	CHECK(!toucher_done(&goes) && !toucher_done(&stays));
	copy_out(4);
	zd_migrate_vma_pages(&a);
	CHECK_EQ(toucher_join(&goes), word(3, 4, 0));
	CHECK(!toucher_done(&stays));
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(toucher_join(&stays), word(3, 5, 0));
	CHECK_FILLED(p, N, 3);
	munmap(p, N * PAGE);
}

/* Unmapped between the steps: the device pages are given back, and src[] says so. */
static void unmapped(void)
{
	char *p = filled(4);
	struct zd_migrate_vma a = setup(p);

	CHECK(!munmap(p + 8 * PAGE, 8 * PAGE));
	for (int i = 0; i < N; i++)
		copy_out(i);
	zd_migrate_vma_pages(&a);
	for (int i = 0; i < N; i++)
		CHECK_EQ(!(src[i] & ZD_MIGRATE_PFN_MIGRATE), i >= 8 && i < 16);
	CHECK_EQ(gate_used(g), N);		/* until finalize */
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(a.result.moved, N - 8);
	CHECK_EQ(a.result.busy, 8);
	CHECK_EQ(gate_used(g), N - 8);
	CHECK_EQ(bad_page(p, 0, 8, 4), 8);
	CHECK_EQ(bad_page(p, 16, N, 4), N);
	munmap(p, N * PAGE);
}

/* Moved by mremap between the steps: the pages go with it. */
static void remapped(void)
{
	/* where arithmetic with the old address leads nowhere */
	char *p = filled(5), *to = mmap((void *)0x100000000000, N * PAGE, PROT_NONE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct zd_migrate_vma a = setup(p);
	zd_pfn_t pfns[N];

	CHECK(mremap(p, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	for (int i = 0; i < N; i += 2)
		copy_out(i);
	zd_migrate_vma_pages(&a);
	for (int i = 0; i < N; i++)
		CHECK_EQ(!(src[i] & ZD_MIGRATE_PFN_MIGRATE), i % 2);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(zd_migrate_device_pfns(mm, to, N * PAGE, pfns, N), 0);
	for (int i = 0; i < N; i++)
		CHECK_EQ(!pfns[i], i % 2);
	CHECK_FILLED(to, N, 5);
	settle(mm);
	CHECK_EQ(gate_used(g), 0);
	munmap(to, N * PAGE);
}

/* Forked between the steps: the child reads what the parent had. */
static char *forked_mem;
static int go[2];

static void child(void *arg)
{
	char c;

	(void)arg;
	CHECK_EQ(read(go[0], &c, 1), 1);
	CHECK_FILLED(forked_mem, N, 6);
}

static void forked(void)
{
	char *p = forked_mem = filled(6);
	struct zd_migrate_vma a = setup(p);
	pid_t pid;

	CHECK(!pipe(go));
	pid = child_start(child, NULL);
	for (int i = 0; i < N; i += 2)
		copy_out(i);
	zd_migrate_vma_pages(&a);
	zd_migrate_vma_finalize(&a);
	CHECK_EQ(write(go[1], "", 1), 1);
	child_ok(pid);
	CHECK_FILLED(p, N, 6);
	munmap(p, N * PAGE);
	WAIT_FOR(!gate_used(g));
}

int main(void)
{
	mm = open_mm();
	g = gate_device(2 * N);
	some();
	computed();
	touched();
	unmapped();
	remapped();
	forked();
	close_mm(mm, &g->dev);
	return 0;
}
