/* SPDX-License-Identifier: MIT */
/*
 * The guard's process shares its parent's memory, TLS included, so while the
 * parent lives it makes system calls by instruction only.  When the parent is
 * dead nobody else uses that TLS; but a lock of libc's may have died locked, so
 * there is still no malloc and no stdio.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/rawsys.h"
#include "mm/guard.h"

#define STACK_BYTES	(64 * 1024)
#define ROUNDS		16	/* of looking for children forked meanwhile */

/* libc's clone(), by the name that TSan doesn't intercept: it takes the new
 * process for a fork, and writes so in the memory that both share. */
int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

struct dirent64 {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

/* Does /proc/PID/maps name the mark?  Read in overlapping pieces. */
static bool has_mark(int proc, const char *pid, const char *mark)
{
	char path[32], buf[8192];
	size_t keep = strlen(mark), have = 0;
	bool found = false;
	ssize_t n;
	int fd;

	strcpy(path, pid);
	strcat(path, "/maps");
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	while (!found && (n = read(fd, buf + have, sizeof(buf) - have)) > 0) {
		have += n;
		found = memmem(buf, have, mark, strlen(mark));
		if (have > keep) {
			memmove(buf, buf + have - keep, keep);
			have = keep;
		}
	}
	close(fd);
	return found;
}

/* Returns how many of the family were found alive. */
static unsigned int kill_family(const struct zd_guard *guard)
{
	char buf[8192];
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned int nr = 0;
	ssize_t n;

	if (proc < 0)
		return 0;
	while ((n = syscall(SYS_getdents64, proc, buf, sizeof(buf))) > 0) {
		for (char *at = buf; at < buf + n; at += ((struct dirent64 *)at)->reclen) {
			const char *name = ((struct dirent64 *)at)->name;
			pid_t pid = strtol(name, NULL, 10);

			if (pid <= 0 || pid == getpid() || pid == guard->parent ||
			    !has_mark(proc, name, guard->mark))
				continue;
			kill(pid, SIGKILL);
			nr++;
		}
	}
	close(proc);
	return nr;
}

/* Nor may a sanitizer keep its books of this function in the parent's TLS. */
__attribute__((no_sanitize_thread, no_sanitize_address))
static int guard_main(void *arg)
{
	struct zd_guard *guard = arg;
	struct pollfd parent = { .fd = guard->pidfd, .events = POLLIN };
	struct timespec pause = { 0, 5000000 }, none = { 0, 0 };
	const uint64_t death = UINT64_C(1) << (SIGTERM - 1);
	siginfo_t si;

	raw_syscall(SYS_prctl, PR_SET_NAME, (long)"zonedev-guard", 0, 0, 0, 0);
	/* a signal to the server's group is not for the guard */
	raw_syscall(SYS_setsid, 0, 0, 0, 0, 0, 0);
	/* the death of the thread, not of the process: an exec ends a server,
	 * too, and the children of what was there before are still out there */
	raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0, 0);
	raw_syscall(SYS_ppoll, (long)&parent, 1, (long)&none, 0, 0, 0);	/* already? */
	si.si_pid = 0;
	while (!(parent.revents & POLLIN) && si.si_pid != guard->parent)
		raw_syscall(SYS_rt_sigtimedwait, (long)&death, (long)&si, 0, 8, 0, 0);
	for (int i = 0; i < ROUNDS && kill_family(guard); i++)
		nanosleep(&pause, NULL);
	_exit(0);
}

int zd_guard_start(struct zd_guard *guard, const char *mark)
{
	sigset_t all, old;
	int rc;

	guard->pid = 0;
	guard->parent = getpid();
	snprintf(guard->mark, sizeof(guard->mark), "/memfd:%s", mark);
	guard->pidfd = syscall(SYS_pidfd_open, guard->parent, 0);
	if (guard->pidfd < 0)
		return -errno;
	guard->stack = zd_reserve(STACK_BYTES);
	if (!guard->stack) {
		rc = -ENOMEM;
		goto err_close;
	}
	sigfillset(&all);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0, 0);
	/* no exit signal: the program's wait() must not find a child that it
	 * did not make.  No copy of the address space either: that would be a
	 * fork, whose event the caller might have to read. */
	rc = __clone(guard_main, (char *)guard->stack + STACK_BYTES, CLONE_VM | CLONE_FILES, guard);
	if (rc < 0)
		rc = -errno;
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8, 0, 0);
	if (rc < 0)
		goto err_stack;
	guard->pid = rc;
	return 0;

err_stack:
	zd_unreserve(guard->stack, STACK_BYTES);
err_close:
	close(guard->pidfd);
	return rc;
}

void zd_guard_stop(struct zd_guard *guard)
{
	if (!guard->pid)
		return;
	kill(guard->pid, SIGKILL);
	while (waitpid(guard->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	zd_unreserve(guard->stack, STACK_BYTES);
	close(guard->pidfd);
	guard->pid = 0;
}
