/* SPDX-License-Identifier: MIT */
/* The file driver: who may have a device file, and what is left of it. */
#include "drivers_file_common.h"

#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

static void touch(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* ---- who has the file ---- */

static void a_new_file_is_private_and_goes_away(void **state)
{
	const char *path = in_dir("new");
	struct zd_device *dev;
	struct zd_file *file;
	struct stat st;
	mode_t mask = umask(0);
	char link[64], target[256] = "";

	(void)state;
	assert_int_equal(zd_file_device_create(path, SIZE + 100, 0, &dev), 0);
	umask(mask);
	assert_int_equal(dev->nr_pages, NR_PAGES);
	file = dev->private_data;
	assert_int_equal(access(path, F_OK), -1);	/* unlinked at once */
	assert_int_equal(fstat(file->target.fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(fcntl(file->target.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(file->event, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(dev->event_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(zd_device_unregister(dev), 0);

	setenv("TMPDIR", dir, 1);
	assert_int_equal(zd_file_device_create(NULL, SIZE, 0, &dev), 0);
	file = dev->private_data;
	assert_int_equal(fstat(file->target.fd, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", file->target.fd);
	assert_true(readlink(link, target, sizeof(target) - 1) > 0);
	assert_memory_equal(target, dir, strlen(dir));
	assert_int_equal(zd_device_unregister(dev), 0);
}

static void write_something(struct zd_device *dev)
{
	struct zd_io_page page = { .buf = map_pages(1) };

	assert_int_equal(dev->ops->alloc_pages(dev, 1, &page.pfn), 1);
	fill(page.buf, 1);
	do_io_ok(dev, ZD_TO_DEVICE, &page, 1);
	dev->ops->unalloc_pages(dev, 1, &page.pfn);
	munmap(page.buf, ZD_PAGE_SIZE);
}

static void a_kept_file_stays_and_is_empty(void **state)
{
	const char *path = in_dir("kept");
	struct zd_device *dev, *other;
	struct stat st;

	(void)state;
	assert_int_equal(zd_file_device_create(path, SIZE, ZD_FILE_KEEP, &dev), 0);
	st = file_stat(path);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, SIZE);
	write_something(dev);
	/* No second device may have it, force or not. */
	assert_int_equal(zd_file_device_create(path, SIZE, 0, &other), -EBUSY);
	assert_int_equal(zd_file_device_create(path, SIZE, ZD_FILE_FORCE, &other), -EBUSY);
	assert_int_equal(file_stat(path).st_size, SIZE);
	assert_int_equal(zd_device_unregister(dev), 0);
	st = file_stat(path);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(unlink(path), 0);
	/* A file that could not be made as long as the device is not left behind. */
	assert_int_equal(zd_file_device_create(path, 15UL << 60, ZD_FILE_KEEP, &dev), -EFBIG);
	assert_int_equal(access(path, F_OK), -1);
}

static void an_empty_file_is_used_and_given_back(void **state)
{
	const char *path = in_dir("empty");
	struct zd_device *dev;
	struct stat st;

	(void)state;
	touch(path, "", 0644);
	assert_int_equal(zd_file_device_create(path, SIZE, 0, &dev), 0);
	st = file_stat(path);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_mode & 0777, 0600);	/* it holds the program's memory now */
	write_something(dev);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(file_stat(path).st_size, 0);
	assert_int_equal(unlink(path), 0);
}

static void a_file_with_data_is_refused(void **state)
{
	const char *path = in_dir("data");
	struct zd_device *dev;

	(void)state;
	touch(path, "precious", 0644);
	assert_int_equal(zd_file_device_create(path, SIZE, 0, &dev), -EEXIST);
	assert_int_equal(file_stat(path).st_size, 8);
	assert_int_equal(file_stat(path).st_mode & 0777, 0644);
	assert_int_equal(zd_file_device_create(path, SIZE, ZD_FILE_FORCE, &dev), 0);
	assert_int_equal(file_stat(path).st_mode & 0777, 0600);
	assert_int_equal(zd_device_unregister(dev), 0);
	/* With force and no size: the device is as large as the file was. */
	assert_int_equal(truncate(path, 10 * ZD_PAGE_SIZE + 5), 0);
	assert_int_equal(zd_file_device_create(path, 0, ZD_FILE_FORCE, &dev), 0);
	assert_int_equal(dev->nr_pages, 10);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(unlink(path), 0);
}

static void what_is_no_file_is_refused(void **state)
{
	struct zd_device *dev;
	struct statvfs fs;
	uint64_t room;

	(void)state;
	assert_int_equal(zd_file_device_create(dir, SIZE, 0, &dev), -EISDIR);
	assert_int_equal(zd_file_device_create("/dev/zero", SIZE, ZD_FILE_FORCE, &dev), -ENOTBLK);
	assert_int_equal(zd_file_device_create(in_dir("no/x"), SIZE, 0, &dev), -ENOENT);
	assert_int_equal(zd_file_device_create("", SIZE, 0, &dev), -ENOENT);
	assert_int_equal(zd_file_device_create(in_dir("x"), 4095, 0, &dev), -EINVAL);
	assert_int_equal(zd_file_device_create(in_dir("x"), SIZE, 1u << 9, &dev), -EINVAL);
	assert_int_equal(access(in_dir("x"), F_OK), -1);
	assert_int_equal(symlink("nowhere", in_dir("dangling")), 0);
	assert_int_equal(zd_file_device_create(in_dir("dangling"), SIZE, 0, &dev), -ENOENT);
	assert_int_equal(unlink(in_dir("dangling")), 0);

	/* No size and no file: what is free, give or take what others do
	 * meanwhile. */
	assert_int_equal(zd_file_device_create(in_dir("x"), 0, 0, &dev), 0);
	assert_int_equal(statvfs(dir, &fs), 0);
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	assert_in_range(dev->nr_pages * ZD_PAGE_SIZE, room / 2, room * 2);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_null(zd_file_device_mode(&(struct zd_device){ 0 }));
}

/* One sector of the block device, on the medium. */
static void block_fill(uint64_t pos, unsigned char byte)
{
	unsigned char buf[512];

	memset(buf, byte, sizeof(buf));
	assert_int_equal(pwrite(loop_fd, buf, sizeof(buf), pos), sizeof(buf));
	assert_int_equal(fsync(loop_fd), 0);
}

static void a_block_device(void **state)
{
	struct zd_device *dev, *other;
	struct zd_io_page pages[NR_PAGES];
	zd_pfn_t pfns[NR_PAGES];
	char buf[512], zero[512] = { 0 }, *mem = map_pages(1);
	unsigned int i;
	struct stat st;

	(void)state;
	if (attach_loop(SIZE)) {
		print_message("SKIP: no loop devices\n");
		skip();
	}
	/* Data in the first MiB, even at its end: refused, and left alone. */
	block_fill((1 << 20) - 512, 0x5a);
	assert_int_equal(zd_file_device_create(loop_path, 0, 0, &dev), -EEXIST);
	block_fill((1 << 20) - 512, 0);
	block_fill(3 << 20, 0x5a);
	assert_int_equal(zd_file_device_create(loop_path, SIZE + ZD_PAGE_SIZE, 0, &dev), -ENOSPC);
	assert_int_equal(pread(loop_fd, buf, sizeof(buf), 3 << 20), sizeof(buf));
	assert_int_equal(buf[0], 0x5a);

	assert_int_equal(zd_file_device_create(loop_path, 2 << 20, 0, &dev), 0);
	assert_int_equal(dev->nr_pages, 512);
	assert_non_null(strstr(zd_file_device_mode(dev), "O_DIRECT"));
	assert_int_equal(zd_file_device_create(loop_path, 0, ZD_FILE_FORCE, &other), -EBUSY);
	write_something(dev);
	assert_int_equal(zd_device_unregister(dev), 0);
	/* Data behind the size that was given: not the device's. */
	assert_int_equal(pread(loop_fd, buf, sizeof(buf), 3 << 20), sizeof(buf));
	assert_int_equal(buf[0], 0x5a);

	/* After a forced device the first MiB is empty: the next run may have it. */
	block_fill(4096, 0x5a);
	assert_int_equal(zd_file_device_create(loop_path, 0, ZD_FILE_FORCE, &dev), 0);
	assert_int_equal(dev->nr_pages, NR_PAGES);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(pread(loop_back, buf, sizeof(buf), 4096), sizeof(buf));
	assert_memory_equal(buf, zero, sizeof(buf));
	/* And storage that was written elsewhere is given back. */
	assert_int_equal(zd_file_device_create(loop_path, 0, 0, &dev), 0);
	assert_int_equal(dev->ops->alloc_pages(dev, NR_PAGES, pfns), NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		pages[i] = (struct zd_io_page){ pfns[i], mem, 0 };
	memset(mem, 0x5a, ZD_PAGE_SIZE);
	do_io_ok(dev, ZD_TO_DEVICE, pages, NR_PAGES);
	assert_int_equal(fstat(loop_back, &st), 0);
	assert_true(st.st_blocks >= (blkcnt_t)SIZE / 512);
	dev->ops->unalloc_pages(dev, NR_PAGES, pfns);
	munmap(mem, ZD_PAGE_SIZE);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(fstat(loop_back, &st), 0);
	assert_true(st.st_blocks <= (blkcnt_t)SIZE / 512 / 2);
	detach_loop();
}

/* ---- the server goes to the background ---- */

#define CHECK(cond) do { if (!(cond)) _exit(__LINE__ % 200 + 1); } while (0)

/* The child goes on with the device that the parent created, after the parent is gone. */
static void child_of_server(struct zd_device *dev, struct zd_io_page *pages, unsigned int nr,
			    int parent_gone)
{
	struct zd_device_io io = {
		.dir = ZD_FROM_DEVICE, .nr = nr, .pages = pages, .done = set_done
	};
	char byte;
	unsigned int i, round;

	CHECK(read(parent_gone, &byte, 1) == 0);	/* its end is closed */
	for (round = 0; round < 3; round++) {
		for (i = 0; i < nr; i++)
			memset(pages[i].buf, 0, ZD_PAGE_SIZE);
		io.dir = ZD_FROM_DEVICE;
		io.owner = NULL;
		dev->ops->submit(dev, &io);
		while (!io.owner)
			dev->ops->reap(dev, true);
		for (i = 0; i < nr; i++)
			CHECK(!pages[i].error && filled(pages[i].buf, i + round));
		for (i = 0; i < nr; i++)
			fill(pages[i].buf, i + round + 1);
		io.dir = ZD_TO_DEVICE;
		io.owner = NULL;
		dev->ops->submit(dev, &io);
		while (!io.owner) {
			struct pollfd pfd = { .fd = dev->event_fd, .events = POLLIN };

			CHECK(poll(&pfd, 1, PATIENCE_MS) == 1);
			dev->ops->reap(dev, false);
		}
		for (i = 0; i < nr; i++)
			CHECK(!pages[i].error);
	}
	for (i = 0; i < nr; i++)
		dev->ops->unalloc_pages(dev, 1, &pages[i].pfn);
	dev->ops->reap(dev, false);		/* holes in flight */
	CHECK(!zd_device_unregister(dev));
	_exit(0);
}

static void the_child_goes_on(void **state)
{
	struct zd_io_page pages[512];
	zd_pfn_t pfns[512];
	int gone[2], verdict[2];
	struct zd_device *dev;
	unsigned int i;
	int status, code;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(gone), 0);
	assert_int_equal(pipe(verdict), 0);
	pid = fork();
	if (!pid) {	/* the server, that goes to the background */
		char *mem = mmap(NULL, 512 * ZD_PAGE_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct zd_device_io io = {
			.dir = ZD_TO_DEVICE, .nr = 512, .pages = pages, .done = set_done
		};

		CHECK(!zd_file_device_create(NULL, SIZE, 0, &dev));
		CHECK(dev->ops->alloc_pages(dev, 512, pfns) == 512);
		set_pages(pages, pfns, 512, mem);
		for (i = 0; i < 512; i++)
			fill(pages[i].buf, i);
		dev->ops->submit(dev, &io);
		while (!io.owner)
			dev->ops->reap(dev, true);
		pid = fork();
		if (!pid) {
			/* A child of the server's, so that its exit code can be had. */
			close(gone[1]);
			pid = fork();
			if (!pid)
				child_of_server(dev, pages, 512, gone[0]);
			CHECK(waitpid(pid, &status, 0) == pid);
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
			CHECK(write(verdict[1], &code, sizeof(code)) == sizeof(code));
			_exit(0);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(gone[0]);
	close(gone[1]);
	close(verdict[1]);
	assert_int_equal(read(verdict[0], &code, sizeof(code)), sizeof(code));
	close(verdict[0]);
	assert_int_equal(code, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_file_is_private_and_goes_away),
		cmocka_unit_test(a_kept_file_stays_and_is_empty),
		cmocka_unit_test(an_empty_file_is_used_and_given_back),
		cmocka_unit_test(a_file_with_data_is_refused),
		cmocka_unit_test(what_is_no_file_is_refused),
		cmocka_unit_test(a_block_device),
		cmocka_unit_test(the_child_goes_on),
	};

	return run_in_dir("file", tests, sizeof(tests) / sizeof(*tests));
}
