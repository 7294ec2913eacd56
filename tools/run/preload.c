/* SPDX-License-Identifier: MIT */
/*
 * The agent: the part of `zonedev run` that lives in the program.
 *
 * UFFDIO_MOVE must be called by the process that owns the pages.  So the
 * preloaded library starts one small thread that opens the userfaultfd, hands
 * it to the supervisor, and from then on moves pages to staging when it is told
 * to.  It decides nothing.
 *
 * The thread must not be noticed.  It is not one of libc's: it is cloned by
 * hand, with all signals blocked, on a stack of its own, with a descriptor table
 * of its own, and makes system calls by instruction, because libc's wrappers
 * would write to the errno of the thread whose TLS it shares.  So the program
 * stays single-threaded in libc's eyes, its descriptors are its own, and no
 * lock of the program can ever be waited for.
 *
 * All of the agent's memory lies in one reservation fenced by PROT_NONE pages,
 * which the supervisor leaves alone.
 *
 * If the supervisor dies the program must not live on: pages that are away
 * would read as zeros.  The agent holds the userfaultfd as well, so that they
 * don't, sees its socket end, and kills the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <unistd.h>

#include "core/rawsys.h"
#include "mm/keeper.h"
#include "mm/uapi.h"
#include "tools/run/agent_proto.h"
#include "tools/run/inherit.h"

#define PAGE		4096UL
#define STACK_BYTES	(8 * PAGE)
#define RING_BYTES	((sizeof(struct zd_agent_ring) + PAGE - 1) & ~(PAGE - 1))
#define HEAD_BYTES	(16 * PAGE + STACK_BYTES + RING_BYTES)
#define RESERVE_BYTES	(2 * ZD_STAGING_BYTES + HEAD_BYTES)
#define IDLE_MS		20	/* staging is emptied when nothing more comes */

static struct {
	char name[96];		/* of the abstract socket */
	struct zd_agent_hello hello;
	char *stack;
	struct zd_agent_ring *ring;
	int keeper_fd;		/* of mm/keeper.h, in the supervisor; -1: none */
	int kind;
	uint32_t greeted;	/* a futex */
} agent;

/* --- the thread; raw system calls only --- */

static void die(void)
{
	raw_syscall(SYS_kill, raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
}

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
	rc = raw_syscall(SYS_connect, fd, (long)&sa, offsetof(struct sockaddr_un, sun_path) + 1 + len,
			 0, 0, 0);
	return rc < 0 ? rc : fd;
}

static long send_hello(int sock, const int *fds, unsigned int nr)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} c;
	struct iovec iov = { &agent.hello, sizeof(agent.hello) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

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

/* The answer, and the descriptor that came with it (or -1). */
static int recv_reply(int sock, int *fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} c;
	struct zd_agent_reply reply = { 0 };
	struct iovec iov = { &reply, sizeof(reply) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = c.buf, .msg_controllen = sizeof(c.buf),
	};
	long n = raw_syscall(SYS_recvmsg, sock, (long)&msg, MSG_CMSG_CLOEXEC, 0, 0, 0);

	*fd = -1;
	agent.keeper_fd = reply.keeper;
	if (n == sizeof(reply) && msg.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    c.align.cmsg_type == SCM_RIGHTS)
		*fd = *(int *)CMSG_DATA(&c.align);
	return n == sizeof(reply) ? (int)reply.answer : -EPIPE;
}

/* A new ring, mapped where the last one was (a forked child's is still its
 * parent's).  Returns its descriptor. */
static long new_ring(void)
{
	/* its name marks the process for the guard (mm/guard.h) */
	long fd = raw_syscall(SYS_memfd_create, (long)agent.name, MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0, 0, 0);
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

/* Forget the id that was read: the next fork's child must find its own. */
static void drop_identity(void)
{
	raw_syscall(SYS_madvise, agent.hello.identity, PAGE, MADV_DONTNEED, 0, 0, 0);
}

/* Forked children inherit it.  Where the program may not look into the supervisor (it
 * has another user id, say) there is the guard alone. */
static void map_keeper(int supervisor)
{
	long fd = -1;

	if (supervisor >= 0)
		fd = raw_syscall(SYS_pidfd_getfd, supervisor, agent.keeper_fd, 0, 0, 0, 0);
	raw_syscall(SYS_close, supervisor, 0, 0, 0, 0, 0);
	if (fd < 0)
		return;
	/* the kernel maps a ring only where it likes */
	raw_syscall(SYS_mmap, 0, ZD_KEEPER_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

static int greet_fork(int sock, int ring, int *uffd)
{
	int answer;

	for (;;) {
		agent.hello.id = *(volatile uint64_t *)agent.hello.identity;
		if (send_hello(sock, &ring, 1) < 0)
			return -EPIPE;
		answer = recv_reply(sock, uffd);
		drop_identity();
		/* the page was our parent's, who had read it and not yet
		 * dropped it when it forked */
		if (answer != ZD_AGENT_ASK_AGAIN)
			return answer;
	}
}

static int greet_fresh(int sock, int ring, int *uffd)
{
	long u = raw_syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0, 0);
	int answer, dev = -1;

	for (;;) {
		int fds[2] = { u, ring };

		agent.hello.error = u < 0 ? u : 0;
		if (send_hello(sock, fds, u < 0 ? 0 : 2) < 0)
			return -EPIPE;
		*uffd = u;
		answer = recv_reply(sock, &dev);
		if (answer == ZD_AGENT_WELCOME)
			map_keeper(dev);
		if (answer != ZD_AGENT_USE_DEV)
			return answer;
		u = raw_syscall(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
		raw_syscall(SYS_close, dev, 0, 0, 0, 0, 0);
	}
}

/* Returns the socket, with *uffd set; or -errno: run unmanaged. */
static int handshake(int *uffd)
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
	/* a forked child is served also where it isn't welcome, and dies with the
	 * supervisor as any other; there will be no requests */
	if (agent.kind == ZD_AGENT_FORK && answer == ZD_AGENT_GO_AWAY && *uffd >= 0)
		return sock;
	if (answer == -EPIPE)
		return answer;
	return answer == ZD_AGENT_WELCOME && *uffd >= 0 ? sock : -EPERM;
}

/* Unregistered meanwhile, or the DONTNEED would be an event.  0; -errno: it is not, and
 * nothing can be moved there. */
static long empty_staging(int uffd)
{
	struct uffdio_range range = { agent.hello.staging, ZD_STAGING_BYTES };
	struct uffdio_register reg = { .range = range, .mode = UFFDIO_REGISTER_MODE_MISSING };
	long rc;

	raw_syscall(SYS_ioctl, uffd, UFFDIO_UNREGISTER, (long)&range, 0, 0, 0);
	rc = raw_syscall(SYS_madvise, range.start, range.len, MADV_DONTNEED, 0, 0, 0);
	if (rc) {	/* mlockall() has locked, and filled, all of it */
		raw_syscall(SYS_munlock, range.start, range.len, 0, 0, 0, 0);
		rc = raw_syscall(SYS_madvise, range.start, range.len, MADV_DONTNEED, 0, 0, 0);
	}
	raw_syscall(SYS_ioctl, uffd, UFFDIO_REGISTER, (long)&reg, 0, 0, 0);
	return rc;
}

static void window_lock(struct zd_agent_ring *ring)
{
	for (;;) {
		uint32_t w = ZD_WINDOW_OPEN;

		/* acquire: what the supervisor wrote while READING (cancel);
		 * pairs with the release in agent_link.c's read_end() */
		if (__atomic_compare_exchange_n(&ring->window, &w, ZD_WINDOW_MOVING, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		if (!(w & ZD_WINDOW_WAITED) &&
		    !__atomic_compare_exchange_n(&ring->window, &w, w | ZD_WINDOW_WAITED, false,
						 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		raw_syscall(SYS_futex, (long)&ring->window, FUTEX_WAIT, w | ZD_WINDOW_WAITED, 0, 0, 0);
	}
}

static void window_unlock(struct zd_agent_ring *ring)
{
	/* release: results; pairs with the acquire in read_begin() */
	if (__atomic_exchange_n(&ring->window, ZD_WINDOW_OPEN, __ATOMIC_RELEASE) & ZD_WINDOW_WAITED)
		raw_syscall(SYS_futex, (long)&ring->window, FUTEX_WAKE, 1, 0, 0, 0);
}

/* How many of @nr pages are in staging from @slot on, so far as mincore() can tell: it
 * says where to go on.  What has moved the supervisor finds out for itself. */
static uint32_t moved_pages(uint32_t slot, uint32_t nr)
{
	unsigned char vec[ZD_STAGING_SLOTS];
	uint32_t moved = 0;

	if (raw_syscall(SYS_mincore, agent.hello.staging + slot * PAGE, nr * PAGE, (long)vec, 0, 0, 0))
		return 0;
	while (moved < nr && vec[moved] & 1)
		moved++;
	return moved;
}

/* In the window in which the pages moved: nobody has read of a change since, so the
 * kernel refuses if there was one. */
static long mark(int uffd, uint64_t src, uint32_t nr)
{
	struct uffdio_writeprotect wp = {
		.range = { src, nr * PAGE }, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return raw_syscall(SYS_ioctl, uffd, UFFDIO_WRITEPROTECT, (long)&wp, 0, 0, 0);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

/* A page that is not there is left alone: its fault would wait for this very request. */
static void make_exclusive(const struct zd_agent_run *run)
{
	unsigned char vec[ZD_STAGING_SLOTS];

	if (run->nr > ZD_STAGING_SLOTS ||
	    raw_syscall(SYS_mincore, run->src, run->nr * PAGE, (long)vec, 0, 0, 0))
		return;
	for (uint32_t i = 0; i < run->nr; i++)
		if (!(vec[i] & 1))
			return;
	raw_syscall(SYS_madvise, run->src, run->nr * PAGE, MADV_POPULATE_WRITE, 0, 0, 0);
}

/* One run, until it is done or the kernel says that an event came between:
 * then nothing more of the request is moved. */
static int move_run(int uffd, struct zd_agent_ring *ring, const struct zd_agent_run *run)
{
	uint32_t done = 0, nr = run->nr;

	if (run->unshare)
		make_exclusive(run);
	while (done < run->nr) {
		struct uffdio_move mv = {
			.dst = agent.hello.staging + (run->slot + done) * PAGE,
			.src = run->src + done * PAGE,
			.len = nr * PAGE,
			.mode = UFFDIO_MOVE_MODE_DONTWAKE,
		};
		uint32_t moved;
		bool marked;
		long rc;

		window_lock(ring);
		if (__atomic_load_n(&ring->cancel, __ATOMIC_RELAXED)) {
			window_unlock(ring);
			return -ECANCELED;
		}
		rc = raw_syscall(SYS_ioctl, uffd, UFFDIO_MOVE, (long)&mv, 0, 0, 0);
		moved = !rc ? nr : moved_pages(run->slot + done, nr);
		if (rc == -EINVAL && !moved && nr > 1) {
			/* two mappings that touch: each by itself */
			window_unlock(ring);
			nr /= 2;
			continue;
		}
		marked = moved && !mark(uffd, mv.src, moved);
		for (uint32_t i = 0; i < moved; i++)
			ring->result[run->slot + done + i] = marked ? 0 : ZD_AGENT_UNMARKED;
		done += moved;
		if (rc < 0 && !moved) {
			if (rc == -EAGAIN) {
				window_unlock(ring);
				return rc;
			}
			ring->result[run->slot + done++] = rc;
		}
		nr = run->nr - done;
		window_unlock(ring);
	}
	return 0;
}

static void serve_request(int uffd, struct zd_agent_ring *ring, bool dirty)
{
	long rc = dirty ? empty_staging(uffd) : 0;

	for (uint32_t i = 0; rc && i < ZD_STAGING_SLOTS; i++)
		ring->result[i] = rc;
	if (rc)
		return;
	/* release: empty; pairs with the acquire in take_results() */
	__atomic_store_n(&ring->begun, 1, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < ring->nr_runs; i++)
		if (move_run(uffd, ring, &ring->run[i]))
			break;
}

/* The program may give up its privileges: nobody who gets into it then shall find them
 * here.  Nothing that is still to be done takes any. */
static void drop_privileges(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	raw_syscall(SYS_capset, (long)&header, (long)none, 0, 0, 0, 0);
}

/* Faults wait for room that this thread makes.  As inherit_be_prompt() (inherit.c): a nice
 * value would show in the program's getpriority(PRIO_PGRP). */
static void be_prompt(void)
{
	struct zd_sched attr = { .size = 0 };

	if (raw_syscall(SYS_sched_getattr, 0, (long)&attr, sizeof(attr), 0, 0, 0) ||
	    attr.policy != SCHED_OTHER)
		return;
	attr.runtime = ZD_PROMPT_NS;
	raw_syscall(SYS_sched_setattr, 0, (long)&attr, 0, 0, 0, 0);
	attr.runtime = 0;
	raw_syscall(SYS_sched_getattr, 0, (long)&attr, sizeof(attr), 0, 0, 0);
	if (attr.runtime != ZD_PROMPT_NS)	/* who = 0: this thread */
		raw_syscall(SYS_setpriority, PRIO_PROCESS, 0, attr.nice - 10, 0, 0, 0);
}

static int agent_main(void *arg)
{
	struct zd_agent_ring *ring = agent.ring;
	struct pollfd pfd = { .events = POLLIN };
	bool dirty = false;
	int uffd = -1, sock;
	char byte;

	(void)arg;
	raw_syscall(SYS_prctl, PR_SET_NAME, (long)"zonedev", 0, 0, 0, 0);
	be_prompt();
	/* this thread's table is a copy: none of the program's pipes and sockets
	 * may live longer because of us */
	raw_syscall(SYS_close_range, 0, ~0U, 0, 0, 0, 0);
	/* what is there may be our parent's, which it hadn't dropped yet */
	if (agent.kind == ZD_AGENT_FORK)
		drop_identity();
	if (agent.kind == ZD_AGENT_FORK && !*(volatile uint64_t *)agent.hello.identity)
		agent.kind = ZD_AGENT_FRESH;	/* the parent was not managed yet */
	agent.hello.kind = agent.kind;
	sock = handshake(&uffd);
	__atomic_store_n(&agent.greeted, 1, __ATOMIC_RELAXED);
	raw_syscall(SYS_futex, (long)&agent.greeted, FUTEX_WAKE, 1, 0, 0, 0);
	drop_privileges();
	if (sock < 0) {
		/* A child that can't reach the supervisor (in a network namespace of its
		 * own, say) is served all the same, only without us; one that has lost
		 * it in the middle must not live on.  (If it was gone before, nobody
		 * answers either: then the guard finds the child, mm/guard.h.) */
		if (agent.kind == ZD_AGENT_FORK && sock == -EPIPE)
			die();
		return 0;
	}
	if (agent.kind == ZD_AGENT_FORK)	/* what staging has is the parent's */
		dirty = empty_staging(uffd);

	pfd.fd = sock;
	for (;;) {
		struct timespec idle = { 0, IDLE_MS * 1000000L };
		long n = raw_syscall(SYS_ppoll, (long)&pfd, 1, dirty ? (long)&idle : 0, 0, 0, 0);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return 0;	/* a filter has forbidden it: without us, then */
		if (!n) {
			if (__atomic_load_n(&ring->fetched, __ATOMIC_ACQUIRE))
				dirty = empty_staging(uffd);
			continue;
		}
		n = raw_syscall(SYS_read, sock, (long)&byte, 1, 0, 0, 0);
		if (n <= 0)
			die();
		serve_request(uffd, ring, dirty);
		dirty = true;
		n = raw_syscall(SYS_sendto, sock, (long)&byte, 1, MSG_NOSIGNAL, 0, 0);
		if (n == -EPIPE || n == -ECONNRESET)
			die();
		if (n < 0)
			return 0;	/* the same: the supervisor sees what we have done */
	}
}

/* --- the program's thread --- */

static void start_agent(int kind)
{
	sigset_t all, old;

	agent.kind = kind;
	sigfillset(&all);
	/* not pthread_sigmask(): libc keeps two signals for itself, and they
	 * must not be handled on the agent's stack either */
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0, 0);
	clone(agent_main, agent.stack + STACK_BYTES,
	      CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, NULL);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8, 0, 0);
}

static void forked_child(void)
{
	start_agent(ZD_AGENT_FORK);
}

/* identity | stack | ring | staging, a PROT_NONE page between any two */
static int lay_out(void)
{
	char *base = mmap(NULL, RESERVE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	char *identity, *staging;

	if (base == MAP_FAILED)
		return -errno;
	identity = base + PAGE;
	agent.stack = identity + 2 * PAGE;
	agent.ring = (void *)(agent.stack + STACK_BYTES + PAGE);
	staging = (char *)(((uintptr_t)agent.ring + RING_BYTES + PAGE + ZD_STAGING_BYTES - 1) &
			   ~(ZD_STAGING_BYTES - 1));
	madvise(base, RESERVE_BYTES, MADV_DONTDUMP);
	madvise(base, RESERVE_BYTES, MADV_NOHUGEPAGE);
	if (mprotect(identity, PAGE, PROT_READ | PROT_WRITE) ||
	    mprotect(agent.stack, STACK_BYTES, PROT_READ | PROT_WRITE) ||
	    mprotect(staging, ZD_STAGING_BYTES, PROT_READ | PROT_WRITE))
		return -errno;
	agent.hello.lo = (uintptr_t)base;
	agent.hello.hi = (uintptr_t)base + RESERVE_BYTES;
	agent.hello.identity = (uintptr_t)identity;
	agent.hello.staging = (uintptr_t)staging;
	return 0;
}

/* A program whose threads keep every CPU busy could have taken any amount of
 * memory before the agent says hello. */
static void wait_for_greeting(void)
{
	const struct timespec bound = { 1, 0 };

	while (!__atomic_load_n(&agent.greeted, __ATOMIC_RELAXED))
		if (raw_syscall(SYS_futex, (long)&agent.greeted, FUTEX_WAIT, 0, (long)&bound, 0, 0) ==
		    -ETIMEDOUT)
			return;
}

/* --no-children: what is exec'ed from here on never hears of us. */
static void leave_children_alone(void)
{
	const char *old = getenv("ZONEDEV_OLD_PRELOAD");

	if (old)
		setenv("LD_PRELOAD", old, 1);
	else
		unsetenv("LD_PRELOAD");
	unsetenv("ZONEDEV_OLD_PRELOAD");
	unsetenv(ZD_AGENT_ENV);
	unsetenv(ZD_AGENT_ENV_ALONE);
}

__attribute__((constructor)) static void agent_init(void)
{
	const char *env = getenv(ZD_AGENT_ENV), *colon;

	if (!env)
		return;
	colon = strchr(env, ':');
	if (!colon || (size_t)(colon - env) >= sizeof(agent.name) ||
	    strlen(colon + 1) != ZD_AGENT_TOKEN)
		return;
	memcpy(agent.name, env, colon - env);
	memcpy(agent.hello.token, colon + 1, ZD_AGENT_TOKEN);
	agent.hello.magic = ZD_AGENT_MAGIC;
	agent.hello.version = ZD_AGENT_VERSION;
	if (getenv(ZD_AGENT_ENV_ALONE))
		leave_children_alone();
	if (lay_out())
		return;
	start_agent(ZD_AGENT_FRESH);
	wait_for_greeting();
	pthread_atfork(NULL, NULL, forked_child);
}
