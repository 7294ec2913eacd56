/* SPDX-License-Identifier: MIT */
/*
 * A medium as device memory: which media are refused, what becomes of those that are taken,
 * and pages that fail.  (drivers_conformance has what every device does.)
 */
#include "drivers_common.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "drivers/pmem/device.h"
#include "zonedev/pmem.h"
#include "zonedev/pmem_device.h"

#define MIB		(1024ul * 1024)
#define SIZE		(4 * MIB)
#define NR_PAGES	(SIZE / ZD_PAGE_SIZE)

static char dir[] = "/dev/shm/zd-pmem-device.XXXXXX";
static char err[512];

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static const char *make_file(const char *name, uint64_t bytes, const char *text)
{
	const char *path = in_dir(name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 2 * MIB), strlen(text));
	close(fd);
	return path;
}

static struct zd_device *create(const char *path, uint64_t bytes, unsigned int flags)
{
	struct zd_device *dev;
	int rc = zd_pmem_device_create(path, bytes, flags, &dev, err, sizeof(err));

	if (rc)
		fail_msg("%s: %s", path, err);
	return dev;
}

/* @why: the message, in which %s is the path. */
static void refused(const char *path, uint64_t bytes, unsigned int flags, int rc, const char *why)
{
	unsigned int fds = count_fds();
	struct zd_device *dev = NULL;
	char want[512];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(want, sizeof(want), why, path);
#pragma GCC diagnostic pop
	assert_int_equal(zd_pmem_device_create(path, bytes, flags, &dev, err, sizeof(err)), rc);
	assert_string_equal(err, want);
	assert_null(dev);
	assert_int_equal(count_fds(), fds);
}

static struct stat file_stat(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

/* One page: its content written, or read and compared. */
static int page_io(struct zd_device *dev, enum zd_io_dir dir, zd_pfn_t pfn, uint64_t tag)
{
	struct zd_io_page page = { .pfn = pfn, .buf = map_pages(1) };

	if (dir == ZD_TO_DEVICE)
		fill(page.buf, tag);
	do_io(dev, dir, &page, 1);
	if (dir == ZD_FROM_DEVICE && !page.error)
		assert_true(filled(page.buf, tag));
	munmap(page.buf, ZD_PAGE_SIZE);
	return page.error;
}

static double stat_of(struct zd_device *dev, const char *name)
{
	struct zd_device_stat stats[32];
	int nr = dev->ops->stats(dev, stats, 32);

	assert_in_range(nr, 1, 32);
	assert_int_equal(dev->ops->stats(dev, NULL, 0), nr);
	for (int i = 0; i < nr; i++)
		if (!strcmp(stats[i].name, name))
			return stats[i].value;
	fail_msg("no %s", name);
	return 0;
}

static zd_pfn_t all[NR_PAGES];

/* Take all pages that there are, in order. */
static unsigned int take_all(struct zd_device *dev)
{
	unsigned int nr = 0;
	int got;

	while ((got = dev->ops->alloc_pages(dev, NR_PAGES - nr, all + nr)) > 0)
		nr += got;
	assert_int_equal(got, 0);
	return nr;
}

static void give_all(struct zd_device *dev, unsigned int nr)
{
	dev->ops->unalloc_pages(dev, nr, all);
}

/* --- the medium --- */

static void a_file_that_is_made_has_no_name(void **state)
{
	const char *path = in_dir("new");
	struct zd_device *dev;

	(void)state;
	refused(path, 0, 0, -EINVAL, "%s is empty: say how large it is to be, as in size=1G");
	assert_int_equal(access(path, F_OK), -1);
	dev = create(path, SIZE, 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(dev->nr_pages, NR_PAGES);
	assert_int_equal(stat_of(dev, "by_address"), 1);
	assert_int_equal(zd_device_unregister(dev), 0);
}

static void a_file_that_was_there_is_left_without_data(void **state)
{
	const char *path = make_file("old", SIZE, "my thesis");
	struct zd_device *dev;
	struct stat st;

	(void)state;
	st = file_stat(path);
	assert_true(st.st_blocks > 0);
	refused(path, 0, 0, -EEXIST,
		"%s holds data: name a new or empty file, or overwrite it with force=on");
	assert_int_equal(file_stat(path).st_blocks, st.st_blocks);
	assert_int_equal(file_stat(path).st_mode & 0777, 0644);
	refused(path, 2 * SIZE, ZD_PMEM_DEVICE_FORCE, -EINVAL,
		"%s has 4194304 bytes, not 8388608: leave the size out");

	dev = create(path, 0, ZD_PMEM_DEVICE_FORCE);
	st = file_stat(path);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat_of(dev, "by_address"), 0);
	assert_int_equal(take_all(dev), NR_PAGES);
	for (unsigned int i = 0; i < NR_PAGES; i += 100)
		assert_int_equal(page_io(dev, ZD_TO_DEVICE, all[i], i), 0);
	give_all(dev, NR_PAGES);
	assert_int_equal(zd_device_unregister(dev), 0);

	st = file_stat(path);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_blocks, 0);
	/* and so the next one takes it without force */
	assert_int_equal(zd_device_unregister(create(path, 0, 0)), 0);
	unlink(path);
}

/* Where it is a region, or a device, it is in use. */
static void one_user(void **state)
{
	static const char why[] =
		"%s is open as a region already, here or in another process, or locked by another program: close it there first";
	const char *path = make_file("one", SIZE, "");
	struct zd_pmem *pmem;
	struct zd_device *dev;

	(void)state;
	assert_int_equal(zd_pmem_open(path, NULL, &pmem, err, sizeof(err)), 0);
	refused(path, 0, 0, -EBUSY, why);
	refused(path, 0, ZD_PMEM_DEVICE_DAX, -EBUSY, why);
	zd_pmem_close(pmem);
	dev = create(path, 0, 0);
	refused(path, 0, ZD_PMEM_DEVICE_FORCE, -EBUSY, why);
	assert_int_equal(zd_pmem_open(path, NULL, &pmem, err, sizeof(err)), -EBUSY);
	assert_int_equal(zd_device_unregister(dev), 0);
	unlink(path);
}

/* A BTT is data. */
static void a_btt_is_not_overwritten(void **state)
{
	struct zd_pmem_attr attr = {
		.size = sizeof(attr), .flags = ZD_PMEM_CREATE | ZD_PMEM_BTT, .bytes = 16 * MIB,
	};
	const char *path = in_dir("btt");
	struct zd_pmem *pmem;

	(void)state;
	assert_int_equal(zd_pmem_open(path, &attr, &pmem, err, sizeof(err)), 0);
	zd_pmem_close(pmem);
	refused(path, 0, 0, -EEXIST,
		"%s holds data: name a new or empty file, or overwrite it with force=on");
	assert_int_equal(zd_device_unregister(create(path, 0, ZD_PMEM_DEVICE_FORCE)), 0);
	attr.flags = 0;
	assert_int_equal(zd_pmem_open(path, &attr, &pmem, err, sizeof(err)), 0);	/* raw */
	zd_pmem_close(pmem);
	unlink(path);
}

static void what_dax_takes(void **state)
{
	const char *path = make_file("dax", SIZE + ZD_PAGE_SIZE, "");
	struct zd_device *dev;

	(void)state;
	refused(path, 0, ZD_PMEM_DEVICE_DAX, -EINVAL,
		"%s has 4198400 bytes, which is not a multiple of 2 MiB: use truncate -s %%2M");
	assert_int_equal(truncate(path, SIZE), 0);
	dev = create(path, 0, ZD_PMEM_DEVICE_DAX);
	assert_int_equal((uintptr_t)((struct zd_pmem_device *)dev->private_data)
					 ->medium->media.base %
				 (2 * MIB),
			 0);
	assert_int_equal(zd_device_unregister(dev), 0);
	unlink(path);
	refused(in_dir("none"), 0, ZD_PMEM_DEVICE_DAX, -ENOENT,
		"%s isn't there: create it first, or name another");
	refused(dir, 0, ZD_PMEM_DEVICE_DAX, -ENOTBLK,
		"%1$s is neither device-dax nor a file in its place: name one, or write pmem:%1$s");
	refused("/dev/null", 0, ZD_PMEM_DEVICE_DAX, -ENOTBLK,
		"%s is neither a file nor a block device nor device-dax: name one");
	refused("memfd:x", 0, 0, -EINVAL, "%s: a memfd needs a size: add size=64M");
	refused(in_dir("x"), SIZE, 4, -EINVAL, "no path, or unknown flags");
}

/* --- pages that fail --- */

/* What was found cut isn't good when the file has grown again. */
static void a_file_that_is_cut(void **state)
{
	const char *path = make_file("cut", SIZE, "");
	struct zd_device *dev = create(path, 0, 0);
	unsigned int i;

	(void)state;
	assert_int_equal(take_all(dev), NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		assert_int_equal(page_io(dev, ZD_TO_DEVICE, all[i], i), 0);
	assert_int_equal(truncate(path, 3 * MIB + 100), 0);	/* in the middle of a page */
	for (i = 0; i < NR_PAGES; i++)
		assert_int_equal(page_io(dev, ZD_FROM_DEVICE, all[i], i), i < 768 ? 0 : -EIO);
	assert_int_equal(truncate(path, SIZE), 0);
	for (i = 0; i < NR_PAGES; i++)
		assert_int_equal(page_io(dev, ZD_FROM_DEVICE, all[i], i), i < 768 ? 0 : -EIO);
	assert_int_equal(truncate(path, MIB), 0);
	assert_int_equal(page_io(dev, ZD_TO_DEVICE, all[300], 0), -EIO);
	give_all(dev, NR_PAGES);
	/* the lost pages aren't given out again */
	assert_int_equal(take_all(dev), 256);
	assert_int_equal(stat_of(dev, "bad_pages"), NR_PAGES - 256);
	give_all(dev, 256);
	assert_int_equal(zd_device_unregister(dev), 0);
	unlink(path);
}

static void poison(void **state)
{
	struct zd_device *dev = create("memfd:poison", SIZE, 0);
	zd_pfn_t first = dev->pgmap.pfn;
	unsigned int nr;

	(void)state;
	assert_int_equal(take_all(dev), NR_PAGES);
	for (unsigned int i = 0; i < NR_PAGES; i++)
		assert_int_equal(page_io(dev, ZD_TO_DEVICE, all[i], all[i]), 0);
	assert_int_equal(zd_pmem_device_inject_poison(dev, 100, 2), 0);
	assert_int_equal(zd_pmem_device_inject_poison(dev, NR_PAGES - 1, 2), -EINVAL);

	/* read: by address until it is known, and by no other way than an error then */
	assert_non_null(dev->ops->direct_access(dev, first + 100));
	assert_int_equal(page_io(dev, ZD_FROM_DEVICE, first + 100, first + 100), -EIO);
	assert_null(dev->ops->direct_access(dev, first + 100));
	assert_int_equal(page_io(dev, ZD_FROM_DEVICE, first + 99, first + 99), 0);
	assert_int_equal(page_io(dev, ZD_FROM_DEVICE, first + 102, first + 102), 0);
	/* written: this page finds no room there */
	assert_int_equal(page_io(dev, ZD_TO_DEVICE, first + 101, 1), -ENOSPC);
	assert_int_equal(page_io(dev, ZD_TO_DEVICE, first + 103, first + 103), 0);

	give_all(dev, NR_PAGES);
	nr = take_all(dev);
	assert_int_equal(nr, NR_PAGES - 2);
	for (unsigned int i = 0; i < nr; i++)
		assert_false(all[i] == first + 100 || all[i] == first + 101);
	assert_int_equal(stat_of(dev, "bad_pages"), 2);
	give_all(dev, nr);
	assert_int_equal(zd_device_unregister(dev), 0);
}

/* What a region has lost before isn't used, and stays lost. */
static void bad_blocks_are_known(void **state)
{
	const char *path = make_file("bad", SIZE, "");
	struct zd_device *dev;
	struct zd_pmem *pmem;
	uint64_t bad, nr;

	(void)state;
	assert_int_equal(zd_pmem_open(path, NULL, &pmem, err, sizeof(err)), 0);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 81, 8), 0);	/* two pages */
	zd_pmem_close(pmem);
	dev = create(path, 0, 0);
	assert_int_equal(take_all(dev), NR_PAGES - 2);
	assert_int_equal(zd_device_page_index(dev, all[10]), 12);
	give_all(dev, NR_PAGES - 2);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(zd_pmem_open(path, NULL, &pmem, err, sizeof(err)), 0);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, SIZE / 512, &bad, &nr), 1);
	assert_int_equal(bad, 81);
	assert_int_equal(nr, 8);
	zd_pmem_close(pmem);
	unlink(path);
}

/* What is lost may be data: so it is for the user to say. */
static void bad_blocks_in_data(void **state)
{
	const char *path = make_file("bad", SIZE, "my thesis");
	struct zd_device *dev;
	struct zd_pmem *pmem;

	(void)state;
	assert_int_equal(zd_pmem_open(path, NULL, &pmem, err, sizeof(err)), 0);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 2 * MIB / 512, 8), 0);
	zd_pmem_close(pmem);
	refused(path, 0, 0, -EIO,
		"%s can't be read: Input/output error: name another, or overwrite it with force=on");
	dev = create(path, 0, ZD_PMEM_DEVICE_FORCE);
	assert_int_equal(take_all(dev), NR_PAGES - 1);
	give_all(dev, NR_PAGES - 1);
	assert_int_equal(zd_device_unregister(dev), 0);
	unlink(path);
}

/* On a disk threads copy; what fails, and what is left, is the same. */
static void on_a_disk(void **state)
{
	struct zd_device *dev;
	struct zd_pmem *pmem;
	char path[128];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/zd-pmem-disk.%d", test_dir(), getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(zd_pmem_open(path, NULL, &pmem, err, sizeof(err)), 0);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 81, 8), 0);	/* two pages */
	zd_pmem_close(pmem);
	dev = create(path, 0, 0);
	if (dev->ops->direct_access) {
		print_message("SKIP: %s is in memory\n", path);
	} else {
		unsigned int nr = take_all(dev);

		assert_int_equal(nr, NR_PAGES - 2);
		assert_int_equal(stat_of(dev, "bad_pages"), 2);
		for (unsigned int i = 0; i < nr; i++) {
			uint64_t index = zd_device_page_index(dev, all[i]);

			assert_false(index == 10 || index == 11);
			assert_int_equal(page_io(dev, ZD_TO_DEVICE, all[i], index), 0);
		}
		assert_int_equal(ftruncate(fd, 3 * MIB + 100), 0);
		for (unsigned int i = 0; i < nr; i += 5) {
			uint64_t index = zd_device_page_index(dev, all[i]);

			assert_int_equal(page_io(dev, ZD_FROM_DEVICE, all[i], index),
					 index < 768 ? 0 : -EIO);
		}
		give_all(dev, nr);
	}
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_in_range(file_stat(path).st_blocks, 0, 8);	/* of the list of bad blocks */
	close(fd);
	unlink(path);
}

/* The server of a run goes on in a forked child. */
static void the_creator_forks(void **state)
{
	struct zd_device *dev = create(in_dir("fork"), SIZE, 0);
	char *page;
	zd_pfn_t pfn;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(dev->ops->alloc_pages(dev, 1, &pfn), 1);
	page = dev->ops->direct_access(dev, pfn);
	fill(page, 1);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		bool ok = filled(page, 1);

		fill(page, 2);
		dev->ops->unalloc_pages(dev, 1, &pfn);
		_exit(ok && !zd_device_unregister(dev) ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(filled(page, 2));
	dev->ops->unalloc_pages(dev, 1, &pfn);
	assert_int_equal(zd_device_unregister(dev), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_that_is_made_has_no_name),
		cmocka_unit_test(a_file_that_was_there_is_left_without_data),
		cmocka_unit_test(one_user),
		cmocka_unit_test(a_btt_is_not_overwritten),
		cmocka_unit_test(what_dax_takes),
		cmocka_unit_test(a_file_that_is_cut),
		cmocka_unit_test(poison),
		cmocka_unit_test(bad_blocks_are_known),
		cmocka_unit_test(bad_blocks_in_data),
		cmocka_unit_test(on_a_disk),
		cmocka_unit_test(the_creator_forks),
	};
	int rc;

	if (!mkdtemp(dir)) {
		puts("SKIP: /dev/shm is not writable");
		return 77;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return rc;
}
