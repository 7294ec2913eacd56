/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "run/user_fds.h"

void user_fds_occupy(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static void replace(int first, int last)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = first; null >= 0 && fd <= last; fd++)
		dup2(null, fd);
	close(null);
}

/* What the user gave beside the first three.  (The supervisor's own descriptors are those that
 * are closed by exec.) */
static void close_inherited(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		int fd = strtol(d->d_name, NULL, 10), flags = fcntl(fd, F_GETFD);

		if (fd > STDERR_FILENO && flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
	if (dir)
		closedir(dir);
}

void user_fds_release(void)
{
	replace(STDIN_FILENO, STDOUT_FILENO);
	close_inherited();
}

void user_fds_release_stderr(void)
{
	replace(STDIN_FILENO, STDERR_FILENO);
}
