/* SPDX-License-Identifier: MIT */
/*
 * The guard: if the supervisor is killed, the whole tree must be.
 *
 * An agent kills its own process when the supervisor's socket ends.  But a
 * forked child has no agent for a moment, and one made by a bare clone() never
 * gets one; the supervisor's death would close their userfaultfd, and what is
 * away would read as zeros.  So a small process shares the supervisor's
 * descriptor table: as long as it lives no descriptor is closed.  When its
 * parent dies it kills every process whose pidfd is on the list, and only then
 * goes itself.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/alloc.h"
#include "tools/run/run.h"

#define MAX_PIDFDS	65536
#define STACK_BYTES	(64 * 1024)

/* Shared memory: one writer, the supervisor.  The guard reads it when that is
 * dead. */
struct guard_list {
	int nr;
	int pidfd[MAX_PIDFDS];
};

struct guard {
	pid_t pid;
	pid_t parent;
	void *stack;
	struct guard_list *list;
};

static int guard_main(void *arg)
{
	struct guard *g = arg;
	sigset_t set;
	int sig;

	prctl(PR_SET_NAME, "zonedev-guard");
	/* of its own session: a signal to the supervisor's group is not for it */
	setsid();
	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	while (getppid() == g->parent && sigwait(&set, &sig))
		;
	for (int i = 0; i < g->list->nr; i++)
		syscall(SYS_pidfd_send_signal, g->list->pidfd[i], SIGKILL, NULL, 0);
	_exit(0);
}

int guard_start(struct run *run)
{
	struct guard *g = zd_alloc(sizeof(*g));
	int rc = -ENOMEM;

	if (!g)
		return rc;
	g->parent = getpid();
	g->list = mmap(NULL, sizeof(*g->list), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (g->list == MAP_FAILED)
		goto err_free;
	g->stack = zd_alloc(STACK_BYTES);
	if (!g->stack)
		goto err_unmap;
	g->pid = clone(guard_main, (char *)g->stack + STACK_BYTES, CLONE_FILES | SIGCHLD, g);
	if (g->pid < 0) {
		rc = -errno;
		goto err_stack;
	}
	run->guard = g;
	return 0;

err_stack:
	zd_free(g->stack);
err_unmap:
	munmap(g->list, sizeof(*g->list));
err_free:
	zd_free(g);
	return rc;
}

void guard_add(struct run *run, int pidfd)
{
	struct guard_list *list = run->guard ? run->guard->list : NULL;

	if (list && list->nr < MAX_PIDFDS)
		list->pidfd[list->nr++] = pidfd;
}

void guard_remove(struct run *run, int pidfd)
{
	struct guard_list *list = run->guard ? run->guard->list : NULL;

	for (int i = 0; list && i < list->nr; i++) {
		if (list->pidfd[i] == pidfd) {
			list->pidfd[i] = list->pidfd[list->nr - 1];
			list->nr--;
			return;
		}
	}
}

void guard_stop(struct run *run)
{
	struct guard *g = run->guard;

	if (!g)
		return;
	kill(g->pid, SIGKILL);
	waitpid(g->pid, NULL, 0);
	munmap(g->list, sizeof(*g->list));
	zd_free(g->stack);
	zd_free(g);
	run->guard = NULL;
}
