/* SPDX-License-Identifier: MIT */
/*
 * Greeting the supervisor: the hello tells of the program, the reply says what becomes of it.
 *
 * Context: the agent; agent_say_none() also the middleman or the program's thread.  All may
 * wait for the supervisor.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include "base/uapi.h"
#include "guard/keeper.h"
#include "run/agent/agent.h"

static int agent_connect(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	long fd = raw_syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0, 0, 0);
	size_t len = 0;
	long rc;

	if (fd < 0)
		return fd;
	while (agent.name[len]) {
		sa.sun_path[1 + len] = agent.name[len];
		len++;
	}
	rc = raw_syscall(SYS_connect, fd, (long)&sa,
			 offsetof(struct sockaddr_un, sun_path) + 1 + len, 0, 0, 0);
	if (rc >= 0)
		return fd;
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);	/* the table may be the program's */
	return rc;
}

#define HELLO_FDS	3

/* The program's pidfd goes along: by that the supervisor knows whose agent this is. */
static long send_hello(int sock, int *fds, unsigned int nr)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(HELLO_FDS * sizeof(int))];
	} c;
	struct iovec iov = { &agent.hello, sizeof(agent.hello) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (!agent.thread)
		fds[nr++] = agent.pidfd;
	if (nr) {
		msg.msg_control = c.buf;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		c.align.cmsg_level = SOL_SOCKET;
		c.align.cmsg_type = SCM_RIGHTS;
		c.align.cmsg_len = CMSG_LEN(nr * sizeof(int));
		for (unsigned int i = 0; i < nr; i++)
			((int *)CMSG_DATA(&c.align))[i] = fds[i];
	}
	return raw_syscall(SYS_sendmsg, sock, (long)&msg, MSG_NOSIGNAL, 0, 0, 0);
}

/* Forked children inherit the mapping.  Where the agent may not look into the supervisor
 * (which has another user id, say) the guards alone protect the program. */
static void map_keeper(int supervisor, int keeper)
{
	long fd = raw_syscall(SYS_pidfd_getfd, supervisor, keeper, 0, 0, 0, 0);

	raw_syscall(SYS_close, supervisor, 0, 0, 0, 0, 0);
	if (fd < 0)
		return;
	/* without an address: of a ring the kernel chooses that itself */
	raw_syscall(SYS_mmap, 0, ZD_KEEPER_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

/* The answer, and in *@fd the descriptor that came with it (or -1).  A pidfd of the
 * supervisor, behind that one, is for the keeper. */
static int recv_reply(int sock, int *fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} c;
	struct zd_agent_reply reply = { 0 };
	struct iovec iov = { &reply, sizeof(reply) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = c.buf, .msg_controllen = sizeof(c.buf),
	};
	long n = raw_syscall(SYS_recvmsg, sock, (long)&msg, MSG_CMSG_CLOEXEC, 0, 0, 0);
	int *fds = (int *)CMSG_DATA(&c.align);
	unsigned int nr = 0;

	*fd = -1;
	if (n == sizeof(reply) && msg.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    c.align.cmsg_type == SCM_RIGHTS)
		nr = (c.align.cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (nr && reply.keeper >= 0)
		map_keeper(fds[--nr], reply.keeper);
	if (nr)
		*fd = fds[0];
	return n == sizeof(reply) ? (int)reply.answer : -EPIPE;
}

/* A new ring, mapped where the last one was (a forked child still has its parent's there).
 * Returns the ring's descriptor or -errno. */
static long new_ring(void)
{
	/* the memfd's name marks the process for the guard (guard/family.h) */
	long fd = raw_syscall(SYS_memfd_create, (long)agent.name, MFD_CLOEXEC | MFD_ALLOW_SEALING,
			      0, 0, 0, 0);
	long rc;

	if (fd < 0)
		return fd;
	rc = raw_syscall(SYS_ftruncate, fd, RING_BYTES, 0, 0, 0, 0);
	if (rc < 0)
		return rc;
	rc = raw_syscall(SYS_mmap, (long)agent.ring, RING_BYTES, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0);
	return rc < 0 && rc > -4096 ? rc : fd;
}

/* Drop the page with the id that was read: the next fork's child must read an id of its own. */
static void drop_identity(void)
{
	raw_syscall(SYS_madvise, agent.hello.identity, PAGE, MADV_DONTNEED, 0, 0, 0);
}

static int greet_fork(int sock, int ring, int *uffd)
{
	int fds[HELLO_FDS] = { ring }, answer;

	for (;;) {
		agent.hello.id = *(volatile uint64_t *)agent.hello.identity;
		if (send_hello(sock, fds, 1) < 0)
			return -EPIPE;
		answer = recv_reply(sock, uffd);
		drop_identity();
		/* again: the parent had read its id and not yet dropped the page when it
		 * forked, so that the child had that page */
		if (answer != ZD_AGENT_ASK_AGAIN)
			return answer;
	}
}

#define REAP_TRIES	200	/* of half a millisecond */

/* What this program was before its exec may still be in memory, held by the agent that it had
 * then (@pidfd).  That agent ends now, and the program shall not begin before.  @reaped: nor
 * before that agent no longer counts as one of the user's processes, that is until init has
 * reaped it. */
static void wait_for_predecessor(int pidfd, bool reaped)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	struct timespec bound = { 1, 0 }, pause = { 0, 500000 };

	raw_syscall(SYS_ppoll, (long)&pfd, 1, (long)&bound, 0, 0, 0);
	for (int i = 0;
	     reaped && i < REAP_TRIES && !raw_syscall(SYS_pidfd_send_signal, pidfd, 0, 0, 0, 0, 0);
	     i++)
		raw_syscall(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
	raw_syscall(SYS_close, pidfd, 0, 0, 0, 0, 0);
}

static int greet_fresh(int sock, int ring, int *uffd)
{
	long u = raw_syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0, 0);
	int answer, dev = -1;

	for (;;) {
		int fds[HELLO_FDS] = { u, ring };

		agent.hello.error = u < 0 ? u : 0;
		if (send_hello(sock, fds, u < 0 ? 0 : 2) < 0)
			return -EPIPE;
		*uffd = u;
		answer = recv_reply(sock, &dev);
		if (answer != ZD_AGENT_USE_DEV && dev >= 0)
			wait_for_predecessor(dev, false);
		if (answer != ZD_AGENT_USE_DEV)
			return answer;
		u = raw_syscall(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK, 0, 0,
				0);
		raw_syscall(SYS_close, dev, 0, 0, 0, 0, 0);
	}
}

int agent_handshake(int *uffd)
{
	int sock = agent_connect(), answer;
	long ring;

	if (sock < 0)
		return sock;
	ring = new_ring();
	if (ring < 0)
		return ring;
	if (agent.kind == ZD_AGENT_FORK)
		answer = greet_fork(sock, ring, uffd);
	else
		answer = greet_fresh(sock, ring, uffd);
	raw_syscall(SYS_close, ring, 0, 0, 0, 0, 0);
	/* a forked child whose pages stay is served as well, and dies with the supervisor as
	 * any other; its agent stays for that, and gets no requests */
	if (agent.kind == ZD_AGENT_FORK && answer == ZD_AGENT_GO_AWAY && *uffd >= 0)
		return sock;
	if (answer == -EPIPE)
		return answer;
	return answer == ZD_AGENT_WELCOME && *uffd >= 0 ? sock : -EPERM;
}

/* The program can't have an agent: the supervisor shall know, and the agent that the program
 * had before its exec must end all the same.  Context: the middleman, or the program's thread
 * where there can't even be a middleman. */
void agent_say_none(int error)
{
	int sock = agent_connect(), fds[HELLO_FDS], pidfd = -1;

	if (sock < 0)
		return;
	agent.hello.kind = ZD_AGENT_NONE;
	agent.hello.error = error;
	if (send_hello(sock, fds, 0) > 0)
		recv_reply(sock, &pidfd);
	if (pidfd >= 0)
		wait_for_predecessor(pidfd, true);
	raw_syscall(SYS_close, sock, 0, 0, 0, 0, 0);
}
