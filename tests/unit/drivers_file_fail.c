/* SPDX-License-Identifier: MIT */
/* The file driver: what may happen to a device file while it is used. */
#include "drivers_file_common.h"

#include <sched.h>
#include <sys/mount.h>

#include "zonedev/log.h"

static unsigned int log_lines;

static void count_log(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)msg;
	(void)ctx;
	if (level == ZD_LOG_ERR)
		log_lines++;
}

/*
 * The file is truncated while the device has it: whatever happens next, no page reads as zeros.
 * Broken looks like: error 0 and a page that isn't the one written.
 */
static void cut_file(struct zd_device *dev, const char *path, bool regrown_by_us)
{
	struct zd_io_page pages[64];
	zd_pfn_t pfns[64];
	char *mem = map_pages(64);
	unsigned int i;

	assert_int_equal(dev->ops->alloc_pages(dev, 64, pfns), 64);
	set_pages(pages, pfns, 64, mem);
	for (i = 0; i < 64; i++)
		fill(pages[i].buf, i);
	do_io_ok(dev, ZD_TO_DEVICE, pages, 64);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, 64);

	/* In the middle of page 10, and at no sector's edge. */
	assert_int_equal(truncate(path, 10 * ZD_PAGE_SIZE + 1234), 0);
	if (regrown_by_us) {
		/* A write behind the end makes a hole of the part that was cut off. */
		do_io(dev, ZD_TO_DEVICE, pages + 50, 14);
		for (i = 50; i < 64; i++)
			assert_int_equal(pages[i].error, -EIO);
		assert_int_equal(file_stat(path).st_size, 64 * ZD_PAGE_SIZE);
	}
	do_io(dev, ZD_FROM_DEVICE, pages, 64);
	for (i = 0; i < 64; i++)
		assert_int_equal(pages[i].error, -EIO);
	/* Nor after the file has become as long as it was. */
	assert_int_equal(truncate(path, SIZE), 0);
	do_io(dev, ZD_FROM_DEVICE, pages, 64);
	for (i = 0; i < 64; i++)
		assert_int_equal(pages[i].error, -EIO);
	dev->ops->unalloc_pages(dev, 64, pfns);
	munmap(mem, 64 * ZD_PAGE_SIZE);
}

static void a_cut_file_never_reads_as_zeros(void **state)
{
	struct zd_device *dev;
	char shm[64];
	const char *path;
	unsigned int i;

	(void)state;
	snprintf(shm, sizeof(shm), "/dev/shm/zd-cut-%d", getpid());
	zd_set_log(count_log, NULL);
	for (i = 0; i < 4; i++) {
		path = i / 2 ? shm : in_dir("cut");
		log_lines = 0;
		assert_int_equal(zd_file_device_create(path, SIZE, ZD_FILE_KEEP, &dev), 0);
		cut_file(dev, path, i & 1);
		assert_int_equal(log_lines, 1);		/* told, and told once */
		assert_int_equal(zd_device_unregister(dev), 0);
		assert_int_equal(unlink(path), 0);
	}
	zd_set_log(NULL, NULL);
}

static bool space_is_back(void *arg)
{
	struct zd_file *file = arg;
	struct stat st;

	assert_int_equal(fstat(file->target.fd, &st), 0);
	return st.st_blocks == 0 && !file->punching;
}

/* A full file system fails exactly the pages that it has no room for. */
static void a_full_file_system(void **state)
{
	struct zd_io_page pages[NR_PAGES];
	zd_pfn_t pfns[NR_PAGES];
	struct zd_device *dev;
	unsigned int i, good = 0;
	char path[128], *mem = map_pages(NR_PAGES);

	(void)state;
	snprintf(path, sizeof(path), "%s", in_dir("small"));
	assert_int_equal(mkdir(path, 0700), 0);
	/* Room for 254 pages: less than four requests of 64. */
	/* In a mount namespace of its own: it goes away with the test. */
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", path, "tmpfs", 0, "size=1040384")) {
		rmdir(path);
		print_message("SKIP: can't mount a tmpfs\n");
		skip();
	}
	strcat(path, "/file");
	assert_int_equal(zd_file_device_create(path, SIZE, 0, &dev), 0);
	assert_int_equal(dev->ops->alloc_pages(dev, NR_PAGES, pfns), NR_PAGES);
	set_pages(pages, pfns, NR_PAGES, mem);
	for (i = 0; i < NR_PAGES; i++)
		fill(pages[i].buf, i);
	do_io(dev, ZD_TO_DEVICE, pages, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++) {
		if (pages[i].error)
			assert_int_equal(pages[i].error, -ENOSPC);
		else
			pages[good++] = pages[i];
	}
	assert_int_equal(good, 1040384 / ZD_PAGE_SIZE);
	memset(mem, 0, SIZE);
	do_io_ok(dev, ZD_FROM_DEVICE, pages, good);
	for (i = 0; i < good; i++)
		assert_true(filled(pages[i].buf, ((char *)pages[i].buf - mem) / ZD_PAGE_SIZE));

	/* Freed pages make room again. */
	dev->ops->unalloc_pages(dev, NR_PAGES, pfns);
	serve_until(dev, space_is_back, dev->private_data);
	assert_int_equal(dev->ops->alloc_pages(dev, 200, pfns), 200);
	set_pages(pages, pfns, 200, mem);
	do_io_ok(dev, ZD_TO_DEVICE, pages, 200);
	dev->ops->unalloc_pages(dev, 200, pfns);
	assert_int_equal(zd_device_unregister(dev), 0);
	*strrchr(path, '/') = '\0';
	assert_int_equal(umount(path), 0);
	assert_int_equal(rmdir(path), 0);
	munmap(mem, SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_file_never_reads_as_zeros),
		cmocka_unit_test(a_full_file_system),
	};

	return run_in_dir("file", tests, sizeof(tests) / sizeof(*tests));
}
