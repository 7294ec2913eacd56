/* SPDX-License-Identifier: MIT */
#include "unit_test.h"

#include <zonedev/device.h>
#include <zonedev/log.h>

#include "base/alloc.h"

static int freed, destroyed, fd_calls;
static struct zd_page *freed_page;
static struct zd_device dev;

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
	assert_ptr_equal(d, &dev);
	freed_page = page;
	freed++;
}

static void submit(struct zd_device *d, struct zd_device_io *io)
{
	(void)d;
	zd_io_complete(io);
}

static int event_fd(struct zd_device *d)
{
	assert_true(d->pgmap.pfn > 0);	/* registered before it is asked */
	fd_calls++;
	return 7;
}

static void destroy(struct zd_device *d)
{
	assert_ptr_equal(d, &dev);
	assert_int_equal(zd_device_live_pages(d), 0);
	destroyed++;
}

static const struct zd_device_ops full_ops = {
	.size = sizeof(full_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.alloc_pages = alloc_pages,
	.unalloc_pages = unalloc_pages,
	.page_free = page_free,
	.submit = submit,
	.event_fd = event_fd,
	.destroy = destroy,
};

static void quiet(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)level, (void)msg, (void)ctx;
}

static int setup(void **state)
{
	(void)state;
	freed = destroyed = fd_calls = 0;
	memset(&dev, 0, sizeof(dev));
	dev.ops = &full_ops;
	dev.name = "test";
	dev.nr_pages = 100;
	zd_set_log(quiet, NULL);
	return 0;
}

static void test_life(void **state)
{
	struct zd_page *page;

	(void)state;
	assert_int_equal(zd_device_register(&dev), 0);
	assert_int_equal(zd_device_register(&dev), -EINVAL);
	assert_ptr_equal(dev.ops, &full_ops);
	assert_int_equal(dev.event_fd, 7);
	assert_int_equal(dev.pgmap.type, ZD_MEMORY_DEVICE_PRIVATE);
	assert_ptr_equal(dev.pgmap.owner, &dev);
	page = zd_pfn_to_page(dev.pgmap.pfn + 99);
	assert_int_equal(zd_device_page_index(&dev, zd_page_to_pfn(page)), 99);
	assert_int_equal(zd_page_init(page), 0);
	assert_int_equal(zd_page_init(page + 1), -ENODEV);
	assert_int_equal(zd_device_live_pages(&dev), 1);
	zd_put_page(page);
	assert_ptr_equal(freed_page, page);
	assert_int_equal(freed, 1);
	assert_int_equal(zd_device_unregister(&dev), 0);
	assert_int_equal(destroyed, 1);
	assert_int_equal(zd_device_unregister(&dev), -EINVAL);
	assert_int_equal(destroyed, 1);
}

/* A driver from before event_fd: what lies behind its size isn't looked at. */
static void test_short_ops(void **state)
{
	struct zd_device_ops old = full_ops;

	(void)state;
	old.size = offsetof(struct zd_device_ops, event_fd);
	dev.ops = &old;
	zd_alloc_fail_nth(1);
	assert_int_equal(zd_device_register(&dev), -ENOMEM);
	assert_ptr_equal(dev.ops, &old);
	zd_alloc_fail_nth(2);	/* in the pagemap: the copy is given back */
	assert_int_equal(zd_device_register(&dev), -ENOMEM);
	assert_ptr_equal(dev.ops, &old);
	assert_int_equal(zd_device_register(&dev), 0);
	assert_ptr_not_equal(dev.ops, &old);
	assert_null(dev.ops->event_fd);
	assert_null(dev.ops->destroy);
	assert_true(dev.ops->submit == submit);
	assert_int_equal(dev.event_fd, -1);
	assert_int_equal(zd_device_unregister(&dev), 0);
	assert_ptr_equal(dev.ops, &old);
	assert_int_equal(fd_calls + destroyed, 0);
}

/* A newer driver may have more, if it leaves it NULL. */
static void test_long_ops(void **state)
{
	struct {
		struct zd_device_ops ops;
		void *more;
	} new = { .ops = full_ops };

	(void)state;
	new.ops.size = sizeof(new);
	dev.ops = &new.ops;
	assert_int_equal(zd_device_register(&dev), 0);
	assert_int_equal(zd_device_unregister(&dev), 0);
	new.more = &dev;
	assert_int_equal(zd_device_register(&dev), -EINVAL);
}

static void test_bad(void **state)
{
	struct zd_device_ops o;

	(void)state;
	dev.ops = NULL;
	assert_int_equal(zd_device_register(&dev), -EINVAL);
	dev.ops = &o;
	o = full_ops;
	o.version++;
	assert_int_equal(zd_device_register(&dev), -EINVAL);
	o = full_ops;
	o.size = offsetof(struct zd_device_ops, submit);
	assert_int_equal(zd_device_register(&dev), -EINVAL);
	o = full_ops;
	o.submit = NULL;
	assert_int_equal(zd_device_register(&dev), -EINVAL);
	o = full_ops;
	o.page_free = NULL;
	assert_int_equal(zd_device_register(&dev), -EINVAL);
	o = full_ops;
	dev.nr_pages = 0;
	assert_int_equal(zd_device_register(&dev), -EINVAL);
	dev.nr_pages = 1ULL << 36;
	assert_int_equal(zd_device_register(&dev), -ENOSPC);
	assert_int_equal(zd_device_unregister(&dev), -EINVAL);
	assert_int_equal(destroyed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_life, setup),
		cmocka_unit_test_setup(test_short_ops, setup),
		cmocka_unit_test_setup(test_long_ops, setup),
		cmocka_unit_test_setup(test_bad, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
