/* SPDX-License-Identifier: MIT */
/* Who may call: any thread; not a forked child, not a driver's callback. */
#include "tests/integration/lib_gate.h"

#define N 64

static struct zd_mm *mm;
static struct gate *g;
static char *mem;
static struct zd_migrate_vma vma;
static unsigned int warnings;

static void count_warnings(enum zd_log_level level, const char *text, void *ctx)
{
	(void)text;
	(void)ctx;
	if (level == ZD_LOG_WARN)
		__atomic_add_fetch(&warnings, 1, __ATOMIC_RELAXED);
}

static void child(void *arg)
{
	struct zd_mm_stats s;
	zd_pfn_t pfns[N];

	(void)arg;
	for (int again = 0; again < 2; again++) {
		CHECK_EQ(zd_migrate_to_device(mm, mem, N * PAGE, &g->dev, NULL), -EINVAL);
		CHECK_EQ(zd_migrate_to_ram(mm, mem, N * PAGE, NULL), -EINVAL);
		CHECK_EQ(zd_migrate_device_pfns(mm, mem, N * PAGE, pfns, N), -EINVAL);
		CHECK_EQ(zd_mm_register(mm, mem, N * PAGE), -EINVAL);
		CHECK_EQ(zd_mm_unregister(mm, mem, N * PAGE), -EINVAL);
		CHECK_EQ(zd_migrate_vma_setup(&vma), -EINVAL);
		CHECK_EQ(zd_mm_close(mm), -EINVAL);
	}
	zd_mm_get_stats(mm, &s);		/* whatever the call says, it returns */
	CHECK_EQ(warnings, 1);			/* once */
	CHECK_FILLED(mem, N, 1);
}

/* A child may have a zd_mm of its own. */
__attribute__((unused)) static void own(void *arg)
{
	struct zd_mm *mine = open_mm();
	struct zd_device *dev = ram_device(N);
	char *p = evicted(mine, N, 3, dev);

	(void)arg;
	CHECK_FILLED(p, N, 3);
	CHECK_FILLED(mem, N, 1);
	close_mm(mine, dev);
	exit(0);	/* with the destructor that brings pages home */
}

/* --- from the server's thread --- */

static int from_callback;	/* 1: the callback is to call; then what the call returned */

static void calling_page_free(struct zd_device *dev, struct zd_page *page)
{
	gate_page_free(dev, page);
	if (__atomic_load_n(&from_callback, __ATOMIC_ACQUIRE) == 1)
		__atomic_store_n(&from_callback, zd_migrate_to_ram(mm, mem, PAGE, NULL),
				 __ATOMIC_RELAXED);
}

/* --- from many threads at once --- */

static void *worker(void *arg)
{
	char *p = evicted(mm, N, (uintptr_t)arg, &g->dev);

	for (int i = 0; i < 20; i++) {
		CHECK_FILLED(p, N, (uintptr_t)arg);
		evict(mm, p, N, &g->dev);
		CHECK_EQ(zd_migrate_to_ram(mm, p, N / 2 * PAGE, NULL), 0);
	}
	CHECK_EQ(zd_mm_unregister(mm, p, N * PAGE), 0);
	CHECK_FILLED(p, N, (uintptr_t)arg);
	munmap(p, N * PAGE);
	return NULL;
}

int main(void)
{
	static struct zd_device_ops ops;
	uint64_t src[N], dst[N];
	const void *data[N];
	pthread_t t[4];

	zd_set_log(count_warnings, NULL);
	mm = open_mm();
	g = gate_device(8 * N);
	ops = *g->dev.ops;
	ops.page_free = calling_page_free;
	g->dev.ops = &ops;
	mem = evicted(mm, N, 1, &g->dev);
	__atomic_store_n(&from_callback, 1, __ATOMIC_RELEASE);
	vma = (struct zd_migrate_vma){
		.mm = mm, .dev = &g->dev, .start = mem,
		.end = mem + N * PAGE, .src = src, .dst = dst, .data = data,
	};
	child_ok(child_start(child, NULL));
#ifndef __SANITIZE_THREAD__	/* the sanitizer doesn't support threads after such a fork */
	child_ok(child_start(own, NULL));
#endif
	CHECK_FILLED(mem, N, 1);
	CHECK_EQ(__atomic_load_n(&from_callback, __ATOMIC_RELAXED), -EINVAL);

	for (uintptr_t i = 0; i < 4; i++)
		CHECK(!pthread_create(&t[i], NULL, worker, (void *)(i + 10)));
	for (int i = 0; i < 4; i++)
		CHECK(!pthread_join(t[i], NULL));
	close_mm(mm, &g->dev);
	return 0;
}
