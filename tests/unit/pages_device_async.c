/* SPDX-License-Identifier: MIT */
/*
 * Batches that a driver completes from any thread.  The driver here does nothing but hand its
 * batches to the test, which completes them as each test wants.
 */
#include "unit_test.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <zonedev/device.h>
#include <zonedev/log.h>

#include "base/alloc.h"

#define NR 64
#define THREADS 4
#define ROUNDS (SANITIZED ? 2000 : 20000)

static struct zd_device dev;
static unsigned int destroyed, nr_done;
static void (*on_submit)(struct zd_device_io *io);
static struct zd_device_io *order[NR];

static int alloc_pages(struct zd_device *d, unsigned int nr, zd_pfn_t *pfns)
{
	(void)d, (void)nr, (void)pfns;
	return 0;
}

static void unalloc_pages(struct zd_device *d, unsigned int nr, const zd_pfn_t *pfns)
{
	(void)d, (void)nr, (void)pfns;
}

static void page_free(struct zd_device *d, struct zd_page *page)
{
	(void)d, (void)page;
}

static void submit(struct zd_device *d, struct zd_device_io *io)
{
	assert_ptr_equal(d, &dev);
	if (on_submit)
		on_submit(io);
}

static void destroy(struct zd_device *d)
{
	(void)d;
	destroyed++;
}

static const struct zd_device_ops async_ops = {
	.size = sizeof(async_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_ASYNC,
	.alloc_pages = alloc_pages,
	.unalloc_pages = unalloc_pages,
	.page_free = page_free,
	.submit = submit,
	.destroy = destroy,
};

static void quiet(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)level, (void)msg, (void)ctx;
}

static int setup(void **state)
{
	(void)state;
	zd_set_log(quiet, NULL);
	destroyed = nr_done = 0;
	on_submit = NULL;
	dev = (struct zd_device){ .ops = &async_ops, .name = "test", .nr_pages = 100 };
	return zd_device_register(&dev);
}

static int teardown(void **state)
{
	(void)state;
	return zd_device_unregister(&dev) || destroyed != 1 || dev.ops != &async_ops || dev.async;
}

static void done(struct zd_device_io *io)
{
	order[nr_done++ % NR] = io;
}

static void submit_all(struct zd_device_io *io, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		io[i] = (struct zd_device_io){ .dir = ZD_TO_DEVICE, .done = done };
		dev.ops->submit(&dev, &io[i]);
	}
}

static bool readable(void)
{
	struct pollfd event = { .fd = dev.event_fd, .events = POLLIN };

	return poll(&event, 1, 0) == 1;
}

static void a_burst_is_one_event_and_keeps_its_order(void **state)
{
	struct zd_device_io io[NR];
	uint64_t count;

	(void)state;
	submit_all(io, NR);
	assert_int_equal(dev.ops->reap(&dev, false), 0);
	for (unsigned int i = 0; i < NR; i++)
		zd_io_complete_any(&dev, &io[(i + 7) % NR]);
	assert_int_equal(nr_done, 0);	/* not in the thread that completes */
	assert_int_equal(read(dev.event_fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 1);
	assert_int_equal(dev.ops->reap(&dev, false), NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_ptr_equal(order[i], &io[(i + 7) % NR]);
	assert_false(readable());
	assert_int_equal(dev.ops->reap(&dev, true), 0);	/* nothing in flight: doesn't wait */
}

static void complete_now(struct zd_device_io *io)
{
	zd_io_complete_any(&dev, io);
	assert_int_equal(nr_done, 0);	/* the driver may look at what is its own until it returns */
}

static void inside_submit_no_event_is_needed(void **state)
{
	struct zd_device_io io;

	(void)state;
	on_submit = complete_now;
	submit_all(&io, 1);
	assert_int_equal(nr_done, 1);
	assert_false(readable());
}

/* ->done submits the next one, which is complete at once: a chain, not a tower. */
static uintptr_t lowest, highest;
static unsigned int left;

static void next_in_chain(struct zd_device_io *io)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	lowest = here < lowest ? here : lowest;
	highest = here > highest ? here : highest;
	if (left--)
		dev.ops->submit(&dev, io);
}

static void complete_at_once(struct zd_device_io *io)
{
	zd_io_complete_any(&dev, io);
}

static void done_may_submit(void **state)
{
	struct zd_device_io io = { .dir = ZD_TO_DEVICE, .done = next_in_chain };

	(void)state;
	on_submit = complete_at_once;
	left = 1000;
	lowest = UINTPTR_MAX;
	highest = 0;
	dev.ops->submit(&dev, &io);
	assert_int_equal(left, UINT_MAX);
	assert_true(highest - lowest < 8192);
}

/* --- many threads --- */

/* What the driver's threads are to do: a ring that the driving thread fills. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct zd_device_io *v[NR];
	unsigned int head, tail;
	bool stop;
} work = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static void hand_over(struct zd_device_io *io)
{
	pthread_mutex_lock(&work.lock);
	work.v[work.head++ % NR] = io;
	pthread_cond_signal(&work.more);
	pthread_mutex_unlock(&work.lock);
}

static void *driver_thread(void *arg)
{
	struct zd_device_io *io;

	(void)arg;
	for (;;) {
		pthread_mutex_lock(&work.lock);
		while (work.head == work.tail && !work.stop)
			pthread_cond_wait(&work.more, &work.lock);
		if (work.head == work.tail) {
			pthread_mutex_unlock(&work.lock);
			return NULL;
		}
		io = work.v[work.tail++ % NR];
		pthread_mutex_unlock(&work.lock);
		io->pages[0].error = -(int)(uintptr_t)io->driver;
		zd_io_complete_any(&dev, io);
	}
}

static unsigned int submitted, returned;

/* Broken looks like: a result that is not seen, a batch that never returns or returns twice. */
static void count_and_go_on(struct zd_device_io *io)
{
	assert_int_equal(io->pages[0].error, -(int)(uintptr_t)io->driver);
	returned++;
	if (submitted == ROUNDS)
		return;
	io->driver = (void *)(uintptr_t)++submitted;
	dev.ops->submit(&dev, io);
}

static void start_threads(pthread_t *thread)
{
	work.stop = false;
	work.head = work.tail = 0;
	on_submit = hand_over;
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, driver_thread, NULL), 0);
}

static void join_threads(pthread_t *thread)
{
	pthread_mutex_lock(&work.lock);
	work.stop = true;
	pthread_cond_broadcast(&work.more);
	pthread_mutex_unlock(&work.lock);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
}

static void from_many_threads(void **state)
{
	struct zd_device_io io[NR / 2];
	struct zd_io_page page[NR / 2];
	pthread_t thread[THREADS];
	bool wait = false;

	(void)state;
	start_threads(thread);
	submitted = returned = 0;
	for (unsigned int i = 0; i < NR / 2; i++) {
		io[i] = (struct zd_device_io){
			.dir = ZD_TO_DEVICE, .nr = 1, .pages = &page[i], .done = count_and_go_on
		};
		io[i].driver = (void *)(uintptr_t)++submitted;
		dev.ops->submit(&dev, &io[i]);
	}
	/* by turns as a server does, by the eventfd, and as a thread without one */
	for (; returned < ROUNDS; wait = !wait) {
		struct pollfd event = { .fd = dev.event_fd, .events = POLLIN };

		if (!wait)
			assert_int_equal(poll(&event, 1, 20000), 1);
		dev.ops->reap(&dev, wait);
	}
	assert_int_equal(submitted, ROUNDS);
	assert_int_equal(returned, ROUNDS);
	join_threads(thread);
}

/* Broken looks like: the thread that completes writes to an eventfd, or to memory, that is
 * gone (ASan, TSan; or the descriptor below is found readable). */
static void the_device_ends_after_the_last_completion(void **state)
{
	struct zd_io_page page;
	pthread_t thread[THREADS];

	start_threads(thread);
	for (unsigned int i = 0; i < ROUNDS / 10; i++) {
		struct zd_device_io io = {
			.dir = ZD_TO_DEVICE, .nr = 1, .pages = &page, .done = done
		};

		dev.ops->submit(&dev, &io);
		while (!dev.ops->reap(&dev, false))
			sched_yield();
		assert_int_equal(zd_device_unregister(&dev), 0);
		assert_int_equal(destroyed, 1);
		assert_int_equal(setup(state), 0);
		assert_false(readable());
		on_submit = hand_over;
	}
	join_threads(thread);
}

/* --- what is refused --- */

static int reap(struct zd_device *d, bool wait)
{
	(void)d, (void)wait;
	return 0;
}

static void what_zonedev_does_the_driver_may_not(void **state)
{
	struct zd_device other = { .name = "other", .nr_pages = 1 };
	struct zd_device_ops ops = async_ops;

	(void)state;
	other.ops = &ops;
	ops.destroy = NULL;
	ops.reap = reap;
	assert_int_equal(zd_device_register(&other), -EINVAL);
	ops.reap = NULL;
	for (unsigned int nth = 1; nth <= 2; nth++) {
		zd_alloc_fail_nth(nth);
		assert_int_equal(zd_device_register(&other), -ENOMEM);
		assert_ptr_equal(other.ops, &ops);
	}
	assert_int_equal(zd_device_register(&other), 0);
	assert_int_equal(zd_device_unregister(&other), 0);
}

static void complete_now_twice(struct zd_device_io *io)
{
	zd_io_complete_any(&dev, io);
	zd_io_complete_any(&dev, io);
}

/* Before ->done, in the driver's ->submit and from elsewhere. */
static void a_second_completion_is_ignored(void **state)
{
	struct zd_device_io io[2];

	(void)state;
	submit_all(io, 2);
	complete_now_twice(&io[0]);
	zd_io_complete_any(&dev, &io[1]);
	zd_io_complete_any(&dev, &io[0]);
	assert_int_equal(dev.ops->reap(&dev, false), 2);
	assert_int_equal(nr_done, 2);
	assert_int_equal(io[0].dir, ZD_TO_DEVICE);
	on_submit = complete_now_twice;
	submit_all(io, 1);
	assert_int_equal(nr_done, 3);
	assert_int_equal(dev.ops->reap(&dev, false), 0);
}

static void complete_twice(void)
{
	struct zd_device_io io = { .done = done };

	dev.ops->submit(&dev, &io);
	zd_io_complete_any(&dev, &io);
	dev.ops->reap(&dev, false);
	zd_io_complete_any(&dev, &io);
	dev.ops->reap(&dev, false);
}

static void complete_without_the_flag(void)
{
	struct zd_device other = { .name = "other" };
	struct zd_device_io io = { .done = done };

	zd_io_complete_any(&other, &io);
}

static void broken_drivers_abort(void **state)
{
	(void)state;
	zd_set_log(NULL, NULL);
	assert_true(aborts_with(complete_twice, "that isn't in flight"));
	assert_true(aborts_with(complete_without_the_flag, "without ZD_DEVICE_ASYNC"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_burst_is_one_event_and_keeps_its_order, setup,
						teardown),
		cmocka_unit_test_setup_teardown(inside_submit_no_event_is_needed, setup, teardown),
		cmocka_unit_test_setup_teardown(done_may_submit, setup, teardown),
		cmocka_unit_test_setup_teardown(from_many_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(the_device_ends_after_the_last_completion, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_zonedev_does_the_driver_may_not, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_second_completion_is_ignored, setup, teardown),
		cmocka_unit_test_setup_teardown(broken_drivers_abort, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
