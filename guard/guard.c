/* SPDX-License-Identifier: MIT */
/*
 * A guard that shares its parent's memory, TLS included, makes system calls by
 * instruction only; one that is a copy may have inherited a lock of libc's
 * locked, so there is no malloc and no stdio.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/rawsys.h"
#include "guard/family.h"
#include "guard/guard.h"
#include "space/maps.h"

#define STACK_BYTES	(64 * 1024)
#define LARGE_BYTES	(1024 * 1024)

#ifndef MFD_EXEC
#define MFD_EXEC	0x0010U		/* Linux 6.3 */
#endif

/* guard_image.c, linked */
static const unsigned char guard_image[] = {
#include "guard_image.inc"
};

/* libc's clone(), by the name that TSan doesn't intercept: it takes the new
 * process for a fork, and writes so in the memory that both share. */
int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static bool unmap_large(const struct zd_vma *vma, void *ctx)
{
	uint64_t tls = (uintptr_t)__builtin_thread_pointer();

	if (zd_vma_movable(vma) && vma->end - vma->start >= LARGE_BYTES && !*vma->name &&
	    (tls < vma->start || tls >= vma->end) &&
	    ((uintptr_t)ctx < vma->start || (uintptr_t)ctx >= vma->end))
		munmap((void *)vma->start, vma->end - vma->start);
	return true;
}

/* Memory that a copy shares with the server would stay in RAM when the server has freed it. */
static void forget_memory(void)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		zd_maps_walk(fd, unmap_large, &fd);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}
#else
static void forget_memory(void)
{
	/* the sanitizer's own memory would be the first to go */
}
#endif

static int copy_main(void *arg)
{
	struct zd_guard guard = *(struct zd_guard *)arg;

	zd_family_oom_protect();
	forget_memory();
	zd_family_watch(guard.mark, guard.parent, guard.pidfd);
	raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	return 0;
}

ZD_RAW_CODE
static int shared_main(void *arg)
{
	struct zd_guard *guard = arg;

	zd_family_watch(guard->mark, guard->parent, guard->pidfd);
	raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	return 0;
}

ZD_RAW_CODE
static int program_main(void *arg)
{
	static const char name[] = "zonedev-guard";
	struct zd_guard *guard = arg;
	const char *argv[] = { name, guard->mark, guard->pidfd_text, NULL };
	const char *envp[] = { NULL };

	/* this process has a descriptor table of its own: no CLONE_FILES */
	raw_syscall(SYS_fcntl, guard->pidfd, F_SETFD, 0, 0, 0, 0);
	raw_syscall(SYS_execveat, guard->image, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH, 0);
	guard->failed = 1;
	raw_syscall(SYS_exit_group, 127, 0, 0, 0, 0, 0);
	return 0;
}

/* exec makes SIGCHLD the exit signal of any process, so that the program's wait() would
 * find a child that it did not make: the guard is the child of this process, which ends at
 * once. */
ZD_RAW_CODE
static int middle_main(void *arg)
{
	struct zd_guard *guard = arg;

	guard->pid = __clone(program_main, (char *)guard->stack + STACK_BYTES / 2,
			     CLONE_VM | CLONE_VFORK, guard);
	raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0, 0);
	return 0;
}

static int clone_guard(struct zd_guard *guard, int (*fn)(void *arg), int flags)
{
	sigset_t all, old;
	int pid;

	sigfillset(&all);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0, 0);
	/* no exit signal: the program's wait() must not find a child that it
	 * did not make */
	pid = __clone(fn, (char *)guard->stack + STACK_BYTES, flags, guard);
	if (pid < 0)
		pid = -errno;
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8, 0, 0);
	return pid;
}

static int make_image(void)
{
	int fd = memfd_create("zonedev-guard", MFD_CLOEXEC | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("zonedev-guard", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, guard_image, sizeof(guard_image)) == (ssize_t)sizeof(guard_image))
		return fd;
	close(fd);
	return -ENOSPC;
}

/* Returns the guard's id when the image runs, or -errno. */
static int start_program(struct zd_guard *guard)
{
	int pid;

	guard->image = make_image();
	if (guard->image < 0)
		return guard->image;
	guard->failed = 0;
	guard->orphan = true;
	pid = clone_guard(guard, middle_main, CLONE_VM | CLONE_VFORK);
	close(guard->image);
	if (pid < 0)
		return pid;
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	pid = guard->pid;
	guard->pid = 0;
	return pid < 0 ? -EAGAIN : guard->failed ? -ENOEXEC : pid;
}

int zd_guard_start(struct zd_guard *guard, const char *mark, enum zd_guard_how how)
{
	int rc;

	guard->pid = 0;
	guard->parent = getpid();
	snprintf(guard->mark, sizeof(guard->mark), "/memfd:%s", mark);
	guard->orphan = false;
	guard->pidfd = syscall(SYS_pidfd_open, guard->parent, 0);
	if (guard->pidfd < 0)
		return -errno;
	snprintf(guard->pidfd_text, sizeof(guard->pidfd_text), "%d", guard->pidfd);
	guard->stack = zd_reserve(STACK_BYTES);
	if (!guard->stack) {
		rc = -ENOMEM;
		goto err_close;
	}
	if (how == ZD_GUARD_PROGRAM)
		rc = start_program(guard);
	else if (how == ZD_GUARD_COPY)
		rc = clone_guard(guard, copy_main, CLONE_FILES);
	else
		rc = clone_guard(guard, shared_main, CLONE_VM | CLONE_FILES);
	if (rc < 0)
		goto err_stack;
	guard->pid = rc;
	guard->own_pidfd = syscall(SYS_pidfd_open, guard->pid, 0);
	if (guard->own_pidfd >= 0 || !guard->orphan)
		return 0;
	rc = -errno;	/* the guard has died already, or descriptors have run out */
	guard->pid = 0;

err_stack:
	zd_unreserve(guard->stack, STACK_BYTES);
err_close:
	close(guard->pidfd);
	return rc;
}

void zd_guard_stop(struct zd_guard *guard)
{
	struct pollfd end = { .fd = guard->own_pidfd, .events = POLLIN };

	if (!guard->pid)
		return;
	/* guard->pid could be another process's by now, if the program's wait() has reaped the guard */
	if (guard->own_pidfd >= 0)
		syscall(SYS_pidfd_send_signal, guard->own_pidfd, SIGKILL, NULL, 0);
	else if (!guard->orphan)
		kill(guard->pid, SIGKILL);
	while (guard->orphan && poll(&end, 1, -1) < 0 && errno == EINTR)
		;
	while (!guard->orphan && waitpid(guard->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	zd_unreserve(guard->stack, STACK_BYTES);
	if (guard->own_pidfd >= 0)
		close(guard->own_pidfd);
	close(guard->pidfd);
	guard->pid = 0;
}
