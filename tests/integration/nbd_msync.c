/* SPDX-License-Identifier: MIT */
/*
 * Loaded before a server: its msync() is told what to do by files in $ZD_MSYNC_DIR.
 *
 *	log	each call adds a line, its length in bytes, before it does anything
 *	hold	calls wait while this file is there, unless they have fewer bytes than the
 *		number in it
 *	fail	calls fail with EIO while this file is there
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *in_dir(const char *name, char *path, size_t len)
{
	snprintf(path, len, "%s/%s", getenv("ZD_MSYNC_DIR"), name);
	return path;
}

/* The number in the file; 0: the file isn't there. */
static unsigned long number_in(const char *name)
{
	char path[512], text[32] = "";
	int fd = open(in_dir(name, path, sizeof(path)), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strtoul(text, NULL, 10);
}

int msync(void *addr, size_t len, int flags)
{
	char path[512];
	int fd = open(in_dir("log", path, sizeof(path)), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
		      0600);
	unsigned long least;

	if (fd >= 0) {
		dprintf(fd, "%zu\n", len);
		close(fd);
	}
	while ((least = number_in("hold")) && len >= least)
		usleep(5000);
	if (!access(in_dir("fail", path, sizeof(path)), F_OK)) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_msync, addr, len, flags);
}
