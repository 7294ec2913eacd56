/* SPDX-License-Identifier: MIT */
/* See family.h: system calls by instruction, no libc, nothing in TLS. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/rawsys.h"
#include "guard/family.h"

#define ROUNDS		16	/* of looking for children forked meanwhile */
#define OOM_MIN		(-1000)
#define OOM_MAX		1000

struct dirent64 {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

/* How many characters of the mark the text ends with, now that @c has been added.  A mark
 * has one '/', its first character, so after a mismatch only @c itself may begin it anew. */
ZD_RAW_CODE
static unsigned int follow(const char *mark, unsigned int have, char c)
{
	if (c == mark[have])
		return have + 1;
	return c == mark[0];
}

/* Does DIR/maps name the mark?  1, 0, or -1: the file is empty. */
ZD_RAW_CODE
static int look_for_mark(int dir, const char *mark)
{
	char buf[4096];
	long fd = raw_syscall(SYS_openat, dir, (long)"maps", O_RDONLY | O_CLOEXEC, 0, 0, 0);
	unsigned int have = 0;
	int found = -1;
	long n;

	if (fd < 0)
		return 0;
	while (found <= 0 && (n = raw_syscall(SYS_read, fd, (long)buf, sizeof(buf), 0, 0, 0)) > 0)
		for (long i = 0; i < n && found <= 0; i++) {
			have = follow(mark, have, buf[i]);
			found = !mark[have];
		}
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	return found;
}

/* The maps of a process whose first thread has ended are empty, but not those of its other
 * threads. */
ZD_RAW_CODE
static bool look_at_threads(int dir, const char *mark)
{
	char buf[2048];
	bool found = false;
	long tasks, n;

	tasks = raw_syscall(SYS_openat, dir, (long)"task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0,
			    0);
	if (tasks < 0)
		return false;
	while (!found &&
	       (n = raw_syscall(SYS_getdents64, tasks, (long)buf, sizeof(buf), 0, 0, 0)) > 0)
		for (char *at = buf; at < buf + n && !found;
		     at += ((struct dirent64 *)at)->reclen) {
			const char *name = ((struct dirent64 *)at)->name;
			long task;

			if (name[0] < '1' || name[0] > '9')
				continue;
			task = raw_syscall(SYS_openat, tasks, (long)name,
					   O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
			if (task < 0)
				continue;
			found = look_for_mark(task, mark) > 0;
			raw_syscall(SYS_close, task, 0, 0, 0, 0, 0);
		}
	raw_syscall(SYS_close, tasks, 0, 0, 0, 0, 0);
	return found;
}

ZD_RAW_CODE
static bool has_mark(int dir, const char *mark)
{
	int found = look_for_mark(dir, mark);

	return found > 0 || (found < 0 && look_at_threads(dir, mark));
}

ZD_RAW_CODE
static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* A directory of /proc is as good as a pidfd: neither the id of a process that has
 * ended meanwhile, nor one of another pid namespace, hits the wrong one. */
ZD_RAW_CODE
static bool kill_if_marked(int proc, const char *pid, const char *mark)
{
	long dir = raw_syscall(SYS_openat, proc, (long)pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0,
			       0, 0);
	bool found;

	if (dir < 0)
		return false;
	found = has_mark(dir, mark) &&
		!raw_syscall(SYS_pidfd_send_signal, dir, SIGKILL, 0, 0, 0, 0);
	raw_syscall(SYS_close, dir, 0, 0, 0, 0, 0);
	return found;
}

ZD_RAW_CODE
unsigned int zd_family_kill_once(const char *mark)
{
	char buf[4096], self[16];
	unsigned int nr = 0;
	long proc, n;

	proc = raw_syscall(SYS_openat, AT_FDCWD, (long)"/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC,
			   0, 0, 0);
	if (proc < 0)
		return 0;
	n = raw_syscall(SYS_readlinkat, proc, (long)"self", (long)self, sizeof(self) - 1, 0, 0);
	self[n > 0 ? n : 0] = 0;
	while ((n = raw_syscall(SYS_getdents64, proc, (long)buf, sizeof(buf), 0, 0, 0)) > 0)
		for (char *at = buf; at < buf + n; at += ((struct dirent64 *)at)->reclen) {
			const char *name = ((struct dirent64 *)at)->name;

			if (name[0] >= '1' && name[0] <= '9' && !same(name, self))
				nr += kill_if_marked(proc, name, mark);
		}
	raw_syscall(SYS_close, proc, 0, 0, 0, 0, 0);
	return nr;
}

ZD_RAW_CODE
void zd_family_kill(const char *mark)
{
	struct timespec pause = { 0, 5000000 };

	for (int i = 0; i < ROUNDS && zd_family_kill_once(mark); i++)
		raw_syscall(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
}

ZD_RAW_CODE
void zd_family_watch(const char *mark, int parent, int pidfd)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	const uint64_t death = UINT64_C(1) << (SIGTERM - 1);
	struct timespec none = { 0, 0 };
	siginfo_t si;

	raw_syscall(SYS_prctl, PR_SET_NAME, (long)"zonedev-guard", 0, 0, 0, 0);
	/* a signal to the server's group is not for the guard */
	raw_syscall(SYS_setsid, 0, 0, 0, 0, 0, 0);
	/* the death of the thread, not of the process: an exec ends a server, too, and
	 * leaves the children of the program that was there before */
	raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0, 0);
	raw_syscall(SYS_ppoll, (long)&end, 1, (long)&none, 0, 0, 0);	/* has it ended already? */
	si.si_pid = 0;
	while (!(end.revents & POLLIN) && si.si_pid != parent)
		raw_syscall(SYS_rt_sigtimedwait, (long)&death, (long)&si, 0, 8, 0, 0);
	zd_family_kill(mark);
}

ZD_RAW_CODE
void zd_family_outlive(const char *mark, int pidfd)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };
	long rc;

	raw_syscall(SYS_prctl, PR_SET_NAME, (long)"zonedev-guard", 0, 0, 0, 0);
	/* a signal to the server's group is not for the guard */
	raw_syscall(SYS_setsid, 0, 0, 0, 0, 0, 0);
	do
		rc = raw_syscall(SYS_ppoll, (long)&end, 1, 0, 0, 0, 0);
	while (rc == -EINTR || rc == -EAGAIN);
	zd_family_kill(mark);
}

ZD_RAW_CODE
static bool write_score(int fd, int score)
{
	char text[8];
	unsigned int len = 0, div = 1000, rest = score < 0 ? -score : score;

	if (score < 0)
		text[len++] = '-';
	while (div > 1 && rest < div)	/* a leading zero would make it octal */
		div /= 10;
	for (; div; div /= 10)
		text[len++] = '0' + rest / div % 10;
	return raw_syscall(SYS_pwrite64, fd, (long)text, len, 0, 0, 0) > 0;
}

ZD_RAW_CODE
void zd_family_oom_protect(void)
{
	int refused = OOM_MIN - 1, allowed = OOM_MAX + 1;
	long fd = raw_syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/oom_score_adj",
			      O_WRONLY | O_CLOEXEC, 0, 0, 0);

	if (fd < 0)
		return;
	/* Without CAP_SYS_RESOURCE there is a lowest score, which no file tells: bisect.  Each
	 * write that is allowed sets the score; the last allowed one is the lowest. */
	if (!write_score(fd, OOM_MIN))
		for (refused = OOM_MIN; allowed - refused > 1;) {
			int middle = refused + (allowed - refused) / 2;

			if (write_score(fd, middle))
				allowed = middle;
			else
				refused = middle;
		}
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}
