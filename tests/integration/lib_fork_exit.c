/* SPDX-License-Identifier: MIT */
/* The parent is gone: after a normal exit a child reads its evicted pages right, and after an
 * exit that left no time to bring them home, never zeros. */
#include <sys/prctl.h>

#include "tests/integration/lib_test.h"

#define N 300

static char *mem;
static int to_test[2];

/* Wait until the parent is no more, then read, and say what was there. */
static void orphan(void *arg)
{
	pid_t parent = (pid_t)(intptr_t)arg;
	char verdict;

	while (getppid() == parent)
		usleep(1000);
	usleep(50000);	/* let the parent's memory and descriptors go as well */
	verdict = bad_page(mem, 0, N, 1) == N ? 'y' : 'n';
	CHECK_EQ(write(to_test[1], &verdict, 1), 1);
}

static void parent(void *how)
{
	struct zd_mm *mm = open_mm();
	struct zd_device *dev = (uintptr_t)how == 2 ? file_device(N) : ram_device(N);

	mem = evicted(mm, N, 1, dev);
	child_start(orphan, (void *)(intptr_t)getpid());
	if ((uintptr_t)how == 0)
		raise(SIGKILL);
	exit(0);
}

/* 'y', 'n', or 0 when the orphan died without a word. */
static char run(uintptr_t how)
{
	char verdict = 0;
	int status;

	CHECK(!pipe(to_test));
	status = child_status(child_start(parent, (void *)how));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		exit(77);
	CHECK_EQ(status, how ? 0 : SIGKILL);
	close(to_test[1]);
	if (read(to_test[0], &verdict, 1) != 1)
		verdict = 0;
	close(to_test[0]);
	return verdict;
}

int main(void)
{
	CHECK(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	CHECK_EQ(run(1), 'y');
	CHECK_EQ(run(2), 'y');
	CHECK_EQ(run(0), 0);
	return 0;
}
