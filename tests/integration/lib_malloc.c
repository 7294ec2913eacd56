/* SPDX-License-Identifier: MIT */
/*
 * A driver that calls malloc() in ->submit, as most libraries do, in a program whose heap
 * is managed.  With one arena, a thread in free() that touches a page of the heap which is
 * on the device would wait for the driver, and the driver for the thread's lock, for ever.
 * So malloc's own memory stays in RAM.  Other memory goes; all of it goes where the driver
 * promises not to call malloc() (ZD_DEVICE_NO_MALLOC).
 */
#include <malloc.h>
#include <pthread.h>

#include "lib_test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OTHER_MALLOC 1
#else
#define HAS_OTHER_MALLOC 0
#endif

#define BLOCKS	20000
#define LARGE	(1u << 20)

static void (*inner_submit)(struct zd_device *dev, struct zd_device_io *io);
static int (*inner_reap)(struct zd_device *dev, bool wait);
static struct zd_device_ops ops;
static unsigned long submits;

static void submit(struct zd_device *dev, struct zd_device_io *io)
{
	void *p = malloc(100), *q = malloc(5000);

	submits++;
	free(p);
	inner_submit(dev, io);
	free(q);
}

static int reap(struct zd_device *dev, bool wait)
{
	free(malloc(200));
	return inner_reap ? inner_reap(dev, wait) : 0;
}

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

/* Migrate the blocks out, and use them; returns what the migration said. */
static struct zd_migrate_result out_and_churn(struct zd_mm *mm, struct zd_device *dev)
{
	char *some = block[BLOCKS / 2], *lo = some, *hi = some;
	struct zd_migrate_result r;

	for (int i = 0; i < BLOCKS; i++) {
		/* a few blocks that the thread had cached are another arena's */
		if (llabs((char *)block[i] - some) > 1 << 23)
			continue;
		lo = (char *)block[i] < lo ? block[i] : lo;
		hi = (char *)block[i] > hi ? block[i] : hi;
	}
	CHECK(!zd_mm_register(mm, lo, hi - lo));
	CHECK(!zd_migrate_to_device(mm, lo, hi - lo, dev, &r));
	churn();
	return r;
}

static void promises_nothing(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	pthread_t t;
	char *large;

	fill_blocks(NULL);			/* the main arena */
	r = out_and_churn(mm, dev);
	CHECK(r.moved == 0 && r.protection >= BLOCKS * 100 / 4096);
	CHECK(!pthread_create(&t, NULL, fill_blocks, NULL) && !pthread_join(t, NULL));
	r = out_and_churn(mm, dev);	/* a thread's arena */
	CHECK(r.moved == 0 && r.protection >= BLOCKS * 100 / 4096);

	large = malloc(LARGE);		/* a mapping of its own */
	memset(large, 7, LARGE);
	CHECK(!zd_mm_register(mm, large, LARGE));
	CHECK(!zd_migrate_to_device(mm, large, LARGE, dev, &r));
	CHECK(r.moved >= LARGE / 4096 - 2 && r.protection == 0 && submits);
	for (unsigned int i = 0; i < LARGE; i++)
		CHECK(large[i] == 7);
	free(large);
}

int main(void)
{
	struct zd_migrate_result r;
	struct zd_device *dev;
	struct zd_mm *mm;

	alarm(100);
	mallopt(M_ARENA_MAX, 2);
	mallopt(M_MMAP_THRESHOLD, LARGE / 2);
	CHECK(!zd_device_open_spec("ram:size=16M", &dev, NULL, 0));
	CHECK(!zd_mm_open(NULL, &mm));
	if (!HAS_OTHER_MALLOC) {
		ops = *dev->ops;
		ops.flags = 0;
		inner_submit = ops.submit;
		inner_reap = ops.reap;
		ops.submit = submit;
		ops.reap = reap;
		ops.direct_access = NULL;
		dev->ops = &ops;
		promises_nothing(mm, dev);
		ops.flags = ZD_DEVICE_NO_MALLOC;
		ops.submit = inner_submit;
		ops.reap = inner_reap;
	}
	fill_blocks(NULL);
	r = out_and_churn(mm, dev);
	CHECK(r.moved >= BLOCKS * 100 / 4096);
	CHECK(!zd_mm_close(mm));
	CHECK(!zd_device_unregister(dev));
	return 0;
}
