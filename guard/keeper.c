/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/io_uring.h>

#include "guard/keeper.h"

#define FILES_MAX	65536u

static int reg(int ring, unsigned int what, void *arg, unsigned int nr)
{
	return syscall(SYS_io_uring_register, ring, what, arg, nr) < 0 ? -errno : 0;
}

int zd_keeper_open(struct zd_keeper *keeper)
{
	struct io_uring_params params = { .cq_entries = 0 };
	struct io_uring_rsrc_register files = { .flags = IORING_RSRC_REGISTER_SPARSE };
	struct rlimit limit = { FILES_MAX, FILES_MAX };
	int rc;

	keeper->fd = syscall(SYS_io_uring_setup, 1, &params);	/* close-on-exec */
	if (keeper->fd < 0)
		return -errno;
	getrlimit(RLIMIT_NOFILE, &limit);	/* no more can be registered */
	keeper->nr = limit.rlim_cur < FILES_MAX ? limit.rlim_cur : FILES_MAX;
	files.nr = keeper->nr;
	rc = reg(keeper->fd, IORING_REGISTER_FILES2, &files, sizeof(files));
	if (rc)
		zd_keeper_close(keeper);
	return rc;
}

void zd_keeper_close(struct zd_keeper *keeper)
{
	if (keeper->fd >= 0)
		close(keeper->fd);
	keeper->fd = -1;
}

static int set(const struct zd_keeper *keeper, unsigned int slot, int fd)
{
	struct io_uring_files_update update = { .offset = slot, .fds = (uintptr_t)&fd };
	int rc = syscall(SYS_io_uring_register, keeper->fd, IORING_REGISTER_FILES_UPDATE, &update,
			 1);

	return rc < 0 ? -errno : 0;
}

/* A descriptor's slot is its number. */
int zd_keeper_add(struct zd_keeper *keeper, int fd)
{
	if (!keeper || keeper->fd < 0)
		return -ENOENT;
	return (unsigned int)fd < keeper->nr ? set(keeper, fd, fd) : -EMFILE;
}

void zd_keeper_drop(struct zd_keeper *keeper, int fd)
{
	if (keeper && keeper->fd >= 0 && (unsigned int)fd < keeper->nr)
		set(keeper, fd, -1);
}
