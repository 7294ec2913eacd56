/* SPDX-License-Identifier: MIT */
/*
 * The agent from its first instruction to its end.
 *
 * The agent ends with the program, whose pidfd it polls, or when the supervisor sends the
 * agent away: because the program has exec'ed, and nothing but the agent holds the old
 * address space, or because the program is about to end (agent_proto.h).
 *
 * If the supervisor dies the program must not live on: pages that are away would read as
 * zeros.  The agent holds the userfaultfd as well, so that they don't; it sees its socket end,
 * and kills the program.
 *
 * Context: everything here runs in the agent, with all signals blocked.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <linux/futex.h>

#include "run/agent/agent.h"

#define IDLE_MS		20	/* staging is emptied when nothing more comes */

static int die(void)
{
	if (agent.thread)
		raw_syscall(SYS_kill, raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0,
			    0);
	else
		raw_syscall(SYS_pidfd_send_signal, agent.pidfd, SIGKILL, 0, 0, 0, 0);
	return 0;
}

/* The agent's limits are its own, not the program's.  RLIMIT_FSIZE must allow for the ring.
 * RLIMIT_CPU must not end the agent, whose work the program causes: without CAP_SYS_RESOURCE
 * the agent has as much CPU time as the program may use. */
static void raise_limits(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	if (raw_syscall(SYS_setrlimit, RLIMIT_CPU, (long)&limit, 0, 0, 0, 0) &&
	    !raw_syscall(SYS_getrlimit, RLIMIT_CPU, (long)&limit, 0, 0, 0, 0)) {
		limit.rlim_cur = limit.rlim_max;
		raw_syscall(SYS_setrlimit, RLIMIT_CPU, (long)&limit, 0, 0, 0, 0);
	}
	if (raw_syscall(SYS_getrlimit, RLIMIT_FSIZE, (long)&limit, 0, 0, 0, 0))
		return;
	limit.rlim_cur = limit.rlim_max;
	raw_syscall(SYS_setrlimit, RLIMIT_FSIZE, (long)&limit, 0, 0, 0, 0);
}

/* Leave what the program and the agent still share but memory: directory, descriptors (a
 * thread's), session.  0, or -errno: there can be no agent. */
static long leave_program(void)
{
	raw_syscall(SYS_prctl, PR_SET_NAME, (long)"zonedev", 0, 0, 0, 0);
	if (agent.thread)	/* a process has it from the middleman */
		agent_be_prompt();
	/* hold no directory of the program */
	raw_syscall(SYS_chdir, (long)"/", 0, 0, 0, 0, 0);
	if (agent.thread)
		return raw_syscall(SYS_close_range, 0, ~0U, 2 /* CLOSE_RANGE_UNSHARE */, 0, 0, 0);
	/* signals to the program's process group are not for the agent */
	raw_syscall(SYS_setsid, 0, 0, 0, 0, 0, 0);
	raise_limits();
	return 0;
}

/* A forked child's identity page tells whether its parent was managed. */
static void resolve_kind(void)
{
	agent.hello.kind = agent.kind;
	if (agent.kind == ZD_AGENT_FRESH)
		return;
	/* the page may be the parent's, if the parent forked before it dropped the page */
	raw_syscall(SYS_madvise, agent.hello.identity, PAGE, MADV_DONTNEED, 0, 0, 0);
	if (!*(volatile uint64_t *)agent.hello.identity)
		agent.hello.kind = agent.kind = ZD_AGENT_FRESH;	/* the parent was not managed yet */
}

static void greeted(void)
{
	__atomic_store_n(&agent.greeted, 1, __ATOMIC_RELEASE);
	raw_syscall(SYS_futex, (long)&agent.greeted, FUTEX_WAKE, 1, 0, 0, 0);
}

/* Do what the supervisor's next byte says.  False: the agent ends. */
static bool obey(int sock, int uffd, bool dirty)
{
	char byte;
	long n = raw_syscall(SYS_read, sock, (long)&byte, 1, 0, 0, 0);

	if (n <= 0)
		return die();
	if (byte == ZD_AGENT_BYE)
		return false;
	agent_serve(uffd, agent.ring, dirty);
	n = raw_syscall(SYS_sendto, sock, (long)&byte, 1, MSG_NOSIGNAL, 0, 0);
	if (n == -EPIPE || n == -ECONNRESET)
		return die();
	return n >= 0;	/* else a filter forbids sending: the supervisor sees what was done */
}

int agent_main(void)
{
	struct pollfd pfd[2] = { { .events = POLLIN }, { .events = POLLIN } };
	bool dirty = false;
	int uffd = -1, sock;

	if (leave_program())
		return 0;
	resolve_kind();
	sock = agent_handshake(&uffd);
	greeted();
	if (sock < 0) {
		/* A child that can't reach the supervisor (from a network namespace of its
		 * own, say) is served all the same, only without an agent; a child that has
		 * lost the supervisor in the middle must not live on.  (A supervisor that was
		 * gone before can't be told from one out of reach: then the guard finds the
		 * child, guard/guard.h.) */
		if (agent.kind == ZD_AGENT_FORK && sock == -EPIPE)
			die();
		return 0;
	}
	if (agent_confine(sock, uffd))
		return 0;
	if (agent.kind == ZD_AGENT_FORK)	/* staging has the parent's pages */
		dirty = agent_empty_staging(uffd);

	pfd[0].fd = sock;
	pfd[1].fd = agent.pidfd;
	for (;;) {
		struct timespec idle = { 0, IDLE_MS * 1000000L };
		long n = raw_syscall(SYS_ppoll, (long)pfd, 2, dirty ? (long)&idle : 0, 0, 0, 0);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return 0;	/* a filter forbids ppoll(): then there is no agent */
		if (pfd[1].revents)
			return 0;	/* the program has ended */
		if (!n) {
			if (__atomic_load_n(&agent.ring->fetched, __ATOMIC_ACQUIRE))
				dirty = agent_empty_staging(uffd);
			continue;
		}
		if (!obey(sock, uffd, dirty))
			return 0;
		dirty = true;
	}
}
