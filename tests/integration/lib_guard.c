/* SPDX-License-Identifier: MIT */
/*
 * A program that has pages away, and a child, dies by the OOM killer, that is with every
 * process that shares its memory; or dies with its guards.  The child never reads zeros,
 * and does not outlive the program where a guard is left.
 */
#include <dirent.h>
#include <poll.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <sys/prctl.h>

#include "tests/integration/lib_test.h"

#define N	300

static char *mem;
static int to_test[2], from_test[2];

/* Wait to be told that the program is dead, read, and say what was there. */
static void orphan(void *arg)
{
	pid_t pid = getpid();
	char verdict;

	(void)arg;
	/* the program's server knows of this process when a page has come home */
	CHECK_EQ(bad_page(mem, 0, 1, 1), 1);
	CHECK_EQ(write(to_test[1], &pid, sizeof(pid)), sizeof(pid));
	CHECK_EQ(read(from_test[0], &verdict, 1), 1);
	verdict = bad_page(mem, 0, N, 1) == N ? 'y' : 'n';
	CHECK_EQ(write(to_test[1], &verdict, 1), 1);
	pause();
}

static void program(void *arg)
{
	struct zd_mm *mm = open_mm();
	(void)arg;
	mem = evicted(mm, N, 1, ram_device(N));
	/* the program's wait() finds none of the guards */
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	child_start(orphan, NULL);
	pause();
}

/* Does the command line of the process say that it is a guard of @parent? */
static bool is_guard_of(const char *pid, pid_t parent)
{
	char path[300], text[256] = "", mark[32];
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	snprintf(mark, sizeof(mark), "zonedev-%d-", parent);
	f = fopen(path, "r");
	if (f)
		n = fread(text, 1, sizeof(text) - 1, f);
	if (f)
		fclose(f);
	return memmem(text, n, mark, strlen(mark));
}

/* The guards that this process has started; returns how many. */
static unsigned int guards_of(pid_t parent, pid_t *guard)
{
	DIR *dir = opendir("/proc");
	unsigned int nr = 0;
	struct dirent *d;

	while (nr < 2 && (d = readdir(dir))) {
		char path[300], comm[32] = "";
		int ppid = 0;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%s/stat", d->d_name);
		f = strtol(d->d_name, NULL, 10) > 0 ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		if (fscanf(f, "%*d (%31[^)]) %*c %d", comm, &ppid) == 2 &&
		    !strcmp(comm, "zonedev-guard") &&
		    (ppid == parent || is_guard_of(d->d_name, parent)))
			guard[nr++] = strtol(d->d_name, NULL, 10);
		fclose(f);
	}
	closedir(dir);
	return nr;
}

/* Does the process wait, and in no system call? */
static bool is_in_fault(pid_t pid)
{
	char path[64], text[16] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	return !strncmp(text, "-1 ", 3);
}

/* Kill the program, and all its guards (@all), or those that share its memory. */
static void run(bool all)
{
	struct pollfd word = { .events = POLLIN };
	pid_t pid, child, guard[2];
	char verdict = 0;

	CHECK(!pipe(to_test) && !pipe(from_test));
	pid = child_start(program, NULL);
	close(to_test[1]);
	if (read(to_test[0], &child, sizeof(child)) != sizeof(child))
		exit(child_status(pid) == 77 << 8 ? 77 : 1);
	WAIT_FOR(guards_of(pid, guard) == 2);
	for (int i = 0; i < 2; i++)
		if (all || !syscall(SYS_kcmp, pid, guard[i], KCMP_VM, 0, 0))
			kill(guard[i], SIGKILL);
	kill(pid, SIGKILL);
	CHECK_EQ(child_status(pid), SIGKILL);
	CHECK_EQ(write(from_test[1], "r", 1), 1);
	word.fd = to_test[0];
	if (all) {	/* the child waits; no process is left that could serve or end it */
		WAIT_FOR(is_in_fault(child));
		CHECK_EQ(poll(&word, 1, 0), 0);
		kill(child, SIGKILL);
	}
	/* the end of the pipe, and not a word */
	CHECK_EQ(poll(&word, 1, 5000), 1);
	CHECK_EQ(read(to_test[0], &verdict, 1), 0);
	close(to_test[0]);
	close(from_test[0]);
	close(from_test[1]);
}

int main(void)
{
	CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	run(false);
	run(true);
	return 0;
}
