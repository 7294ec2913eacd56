/* SPDX-License-Identifier: MIT */
/* The file driver: what may happen to a device file, and who may have it. */
#include "drivers_common.h"

#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "drivers/file/file.h"
#include "zonedev/log.h"

#define NR_PAGES 1024
#define SIZE (NR_PAGES * ZD_PAGE_SIZE)

static char dir[64];

static const char *in_dir(const char *name)
{
	static char path[2][128];
	static unsigned int turn;
	char *p = path[turn++ & 1];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void touch(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static struct stat file_stat(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

static void set_pages(struct zd_io_page *pages, const zd_pfn_t *pfns, unsigned int nr, char *mem)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		pages[i] = (struct zd_io_page){ pfns[i], mem + i * ZD_PAGE_SIZE, 0 };
}

static unsigned int log_lines;

static void count_log(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)msg;
	(void)ctx;
	if (level == ZD_LOG_ERR)
		log_lines++;
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

/* ---- what may happen to the file ---- */

/*
 * Somebody truncates the file: whatever happens next, no page reads as zeros.
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

/* ---- the server goes to the background ---- */

#define CHECK(cond) do { if (!(cond)) _exit(__LINE__ % 200 + 1); } while (0)

/* The child goes on with the device that the parent created, after the parent is gone. */
static void child_of_server(struct zd_device *dev, struct zd_io_page *pages, unsigned int nr,
			    int parent_gone)
{
	struct zd_device_io io = { .dir = ZD_FROM_DEVICE, .nr = nr, .pages = pages,
				   .done = set_done };
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
		struct zd_device_io io = { .dir = ZD_TO_DEVICE, .nr = 512, .pages = pages,
					   .done = set_done };

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

/* ---- results that a disk hardly ever gives ---- */

struct step {
	int res;
	bool finished;
	uint64_t done;		/* bytes after it, if not finished */
	unsigned int nr_iov;	/* of the transfer that follows */
};

static void run_steps(struct zd_file *file, enum zd_io_dir dir, const struct step *steps,
		      const int *errors)
{
	struct zd_file_req *req = file->free_reqs;
	struct zd_io_page pages[4];
	struct zd_device_io io = { .dir = dir, .nr = 4, .pages = pages, .pending = 1,
				   .driver = (void *)4, .done = set_done };
	char *mem = map_pages(8);
	uint64_t bytes;
	unsigned int i;

	file->free_reqs = req->next;
	file->reqs_busy++;
	file->batches++;
	for (i = 0; i < 4; i++)		/* two runs of buffers */
		pages[i] = (struct zd_io_page){ i, mem + (i + i / 2) * ZD_PAGE_SIZE, -ENODATA };
	*req = (struct zd_file_req){ .io = &io, .nr = 4, .index = 100 };
	assert_int_equal(zd_file_req_prepare(req), 100 * ZD_PAGE_SIZE);
	assert_int_equal(req->nr_iov, 2);
	for (;; steps++) {
		assert_int_equal(zd_file_req_result(file, req, steps->res), steps->finished);
		if (steps->finished)
			break;
		assert_int_equal(req->done, steps->done);
		assert_int_equal(zd_file_req_prepare(req), 100 * ZD_PAGE_SIZE + steps->done);
		assert_int_equal(req->nr_iov, steps->nr_iov);
		for (i = 0, bytes = 0; i < req->nr_iov; i++)
			bytes += req->iov[i].iov_len;
		assert_int_equal(bytes, req->single ? ZD_PAGE_SIZE :
						      4 * ZD_PAGE_SIZE - steps->done);
		assert_ptr_equal((char *)req->iov[0].iov_base, (char *)
				 pages[steps->done / ZD_PAGE_SIZE].buf + steps->done % ZD_PAGE_SIZE);
	}
	zd_io_finish(&file->finisher);
	assert_non_null(io.owner);
	for (i = 0; i < 4; i++)
		assert_int_equal(pages[i].error, errors[i]);
	munmap(mem, 8 * ZD_PAGE_SIZE);
}

#define P ((int)ZD_PAGE_SIZE)

static void transfers_are_continued(void **state)
{
	struct zd_device *dev;
	struct zd_file *file;

	(void)state;
	assert_int_equal(zd_file_device_create(NULL, SIZE, 0, &dev), 0);
	file = dev->private_data;

	file->target.align = 512;
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { -EINTR, false, 0, 2 }, { -EAGAIN, false, 0, 2 },
				   { -ECANCELED, false, 0, 2 }, { 1024, false, 1024, 2 },
				   { 100, false, 1024, 2 },	/* less than a sector */
				   { P, false, P + 1024, 2 }, { P, false, 2 * P + 1024, 1 },
				   { 2 * P - 1024, true, 0, 0 } },
		  (int[]){ 0, 0, 0, 0 });
	/* One sector is bad: the pages on the others are fine. */
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { -EIO, false, 0, 1 }, { P, false, P, 1 },
				   { -EIO, false, 2 * P, 1 }, { P, false, 3 * P, 1 },
				   { P, true, 0, 0 } },
		  (int[]){ 0, -EIO, 0, 0 });
	/* The file system gets full in the middle. */
	run_steps(file, ZD_TO_DEVICE,
		  (struct step[]){ { 2 * P, false, 2 * P, 1 }, { -ENOSPC, false, 2 * P, 1 },
				   { P, false, 3 * P, 1 }, { -ENOSPC, true, 0, 0 } },
		  (int[]){ 0, 0, 0, -ENOSPC });
	/* The end of the file. */
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { P + 100, false, P, 2 }, { 100, false, P, 2 },
				   { 0, false, 2 * P, 1 }, { 0, false, 3 * P, 1 },
				   { 0, true, 0, 0 } },
		  (int[]){ 0, -EIO, -EIO, -EIO });
	/* The transfer never gets on: the page fails after some tries. */
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { 1, false, 0, 2 }, { 1, false, 0, 2 }, { 1, false, 0, 2 },
				   { 1, false, 0, 2 }, { 1, false, 0, 2 }, { 1, false, 0, 2 },
				   { 1, false, 0, 2 }, { 1, false, P, 2 }, { 3 * P, true, 0, 0 } },
		  (int[]){ -EIO, 0, 0, 0 });
	file->target.align = 1;		/* buffered: from any byte */
	run_steps(file, ZD_TO_DEVICE,
		  (struct step[]){ { 100, false, 100, 2 }, { 1, false, 101, 2 },
				   { 4 * P - 101, true, 0, 0 } },
		  (int[]){ 0, 0, 0, 0 });
	assert_int_equal(zd_device_unregister(dev), 0);
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
		cmocka_unit_test(a_cut_file_never_reads_as_zeros),
		cmocka_unit_test(a_full_file_system),
		cmocka_unit_test(the_child_goes_on),
		cmocka_unit_test(transfers_are_continued),
	};
	unsigned int fds;
	int ret;

	snprintf(dir, sizeof(dir), "%.32s/zd-file.XXXXXX", test_dir());
	if (!mkdtemp(dir)) {
		puts("SKIP: no directory to write to");
		return 77;
	}
	fds = count_fds();
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	if (!ret && count_fds() != fds) {
		fprintf(stderr, "descriptors leak\n");
		ret = 1;
	}
	rmdir(dir);
	return ret;
}
