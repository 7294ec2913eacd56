/* SPDX-License-Identifier: MIT */
/* What the drivers' tests share: batches, patterns, counting descriptors. */
#ifndef TESTS_DRIVERS_COMMON_H
#define TESTS_DRIVERS_COMMON_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "zonedev/device.h"

#define PATIENCE_MS 20000	/* how long to wait for what must happen */

static inline uint64_t prng(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline void *map_pages(size_t nr)
{
	void *p = mmap(NULL, nr * ZD_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

/* Word @i of a page: it says which page of which generation it is and, every second one, also
 * which word.  Such a page can be compressed, to two thirds. */
static inline uint64_t fill_word(uint64_t tag, unsigned int i)
{
	return (tag << 10 | (i & 1 ? 0 : i)) * 0x9e3779b97f4a7c15ULL;
}

static inline void fill(void *buf, uint64_t tag)
{
	uint64_t *p = buf;
	unsigned int i;

	for (i = 0; i < ZD_PAGE_SIZE / 8; i++)
		p[i] = fill_word(tag, i);
}

static inline bool filled(const void *buf, uint64_t tag)
{
	const uint64_t *p = buf;
	unsigned int i;

	for (i = 0; i < ZD_PAGE_SIZE / 8; i++)
		if (p[i] != fill_word(tag, i))
			return false;
	return true;
}

static inline unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static inline void set_done(struct zd_device_io *io)
{
	assert_null(io->owner);	/* done() is called once */
	io->owner = io;
}

static inline void start_io(struct zd_device *dev, struct zd_device_io *io, enum zd_io_dir dir,
			    struct zd_io_page *pages, unsigned int nr)
{
	unsigned int i;

	*io = (struct zd_device_io){ .dir = dir, .nr = nr, .pages = pages, .done = set_done };
	for (i = 0; i < nr; i++)
		pages[i].error = -ENODATA;	/* the driver must set it */
	dev->ops->submit(dev, io);
}

static inline void wait_io(struct zd_device *dev, struct zd_device_io *io)
{
	while (!io->owner) {
		assert_non_null(dev->ops->reap);
		assert_true(dev->ops->reap(dev, true) > 0);
	}
}

/* Pages @pfns with buffers of @mem in order. */
static inline void set_pages(struct zd_io_page *pages, const zd_pfn_t *pfns, unsigned int nr,
			     char *mem)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		pages[i] = (struct zd_io_page){ pfns[i], mem + i * ZD_PAGE_SIZE, 0 };
}

/* Are all of the batches done?  The one behind them has no pages. */
static inline bool all_done(void *arg)
{
	struct zd_device_io *io = arg;

	for (; io->nr; io++)
		if (!io->owner)
			return false;
	return true;
}

static inline void do_io(struct zd_device *dev, enum zd_io_dir dir, struct zd_io_page *pages,
			 unsigned int nr)
{
	struct zd_device_io io;

	start_io(dev, &io, dir, pages, nr);
	wait_io(dev, &io);
}

/* Runs a batch in which every page must go well. */
static inline void do_io_ok(struct zd_device *dev, enum zd_io_dir dir, struct zd_io_page *pages,
			    unsigned int nr)
{
	unsigned int i;

	do_io(dev, dir, pages, nr);
	for (i = 0; i < nr; i++)
		assert_int_equal(pages[i].error, 0);
}

/* Serves the device's event_fd, as the server does, until @stop returns true. */
static inline void serve_until(struct zd_device *dev, bool (*stop)(void *arg), void *arg)
{
	struct pollfd pfd = { .fd = dev->event_fd, .events = POLLIN };

	while (!stop(arg)) {
		assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
		dev->ops->reap(dev, false);
	}
}

/* From now on this process has no io_uring, as under many container runtimes. */
static inline int forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(*code), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) ? -errno : 0;
}

static inline bool have_io_uring(void)
{
	struct io_uring ring;

	if (io_uring_queue_init(8, &ring, 0))
		return false;
	io_uring_queue_exit(&ring);
	return true;
}

/* A loop device: loop_path, on the file loop_back. */
static char loop_path[32];
static int loop_fd = -1, loop_back = -1;

static inline int attach_loop(size_t size)
{
	/* The kernel detaches the loop device if the test dies. */
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC), nr;
	char path[] = "/var/tmp/zd-loop.XXXXXX";

	if (ctl < 0)
		return -errno;
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	if (nr < 0)
		return -ENODEV;
	snprintf(loop_path, sizeof(loop_path), "/dev/loop%d", nr);
	loop_fd = open(loop_path, O_RDWR | O_CLOEXEC);
	loop_back = mkostemp(path, O_CLOEXEC);
	unlink(path);
	if (loop_fd >= 0 && loop_back >= 0 && !ftruncate(loop_back, size) &&
	    !ioctl(loop_fd, LOOP_SET_FD, loop_back) && !ioctl(loop_fd, LOOP_SET_STATUS64, &info))
		return 0;
	close(loop_back);
	close(loop_fd);
	loop_fd = -1;
	return -ENODEV;
}

static inline void detach_loop(void)
{
	if (loop_fd < 0)
		return;
	close(loop_back);
	close(loop_fd);
	loop_fd = -1;
}

static inline const char *test_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir ? dir : "/var/tmp";
}

#endif
