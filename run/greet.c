/* SPDX-License-Identifier: MIT */
/*
 * What becomes of an agent's hello: which process the agent is of, what the agent is answered.
 *
 * Context: the server's thread; nothing here waits for an agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kcmp.h>

#include "base/uapi.h"
#include "engine/exit.h"
#include "run/agent_end.h"
#include "run/greet.h"
#include "run/mover_agent.h"
#include "run/process.h"
#include "run/run.h"
#include "space/uffd.h"
#include "zonedev/log.h"

/* With @fd, and with @self, a pidfd of this process, by which the agent fetches the keeper. */
static void reply_all(const struct run *run, int sock, enum zd_agent_answer answer, int fd,
		      int self)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} ctl = { 0 };
	struct zd_agent_reply r = { answer, self < 0 ? -1 : run->keeper.fd };
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[2] = { fd < 0 ? self : fd, self };
	size_t nr = (fd >= 0) + (self >= 0);

	if (nr) {
		msg.msg_control = ctl.buf;
		msg.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		ctl.align.cmsg_level = SOL_SOCKET;
		ctl.align.cmsg_type = SCM_RIGHTS;
		ctl.align.cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(&ctl.align), fds, nr * sizeof(int));
	}
	/* an agent that is gone shows as a hang-up */
	if (sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		zd_log(ZD_LOG_DEBUG, "agent: %s", strerrordesc_np(errno));
}

static void reply(int sock, enum zd_agent_answer answer, int fd)
{
	reply_all(NULL, sock, answer, fd, -1);
}

/* Did @rc come of nothing but the end of the process, or of its exec? */
static bool has_ended(int sock, int rc)
{
	struct pollfd pfd = { .fd = sock };

	if (rc == -ESRCH || rc == -ENOENT)
		return true;
	return poll(&pfd, 1, 0) > 0 && pfd.revents & (POLLHUP | POLLERR);
}

/* The process that a pidfd stands for, -1 if it has ended. */
static pid_t pid_of(int pidfd)
{
	char path[64], buf[1024], *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = 0;
	at = strstr(buf, "\nPid:");
	return at ? (pid_t)strtol(at + 5, NULL, 10) : -1;
}

/*
 * Whose agent is this?  @pidfd, which becomes the connection's, says so unless the agent
 * is a thread.  That agent and program share their memory is not believed, but checked:
 * the process may have exec'ed, and an agent that the program has taken over could name
 * any process, to have that one killed.  0 or -errno.
 */
static int identify(struct conn *c, int pidfd)
{
	int rc;

	c->agent = 0;
	c->pid = c->peer;
	if (pidfd < 0)
		return c->pidfd < 0 ? -ESRCH : 0;
	if (c->pidfd >= 0)
		close(c->pidfd);
	c->pidfd = pidfd;
	c->agent = c->peer;
	c->pid = pid_of(pidfd);
	if (c->pid <= 0)
		return -ESRCH;
	rc = syscall(SYS_kcmp, c->pid, c->agent, KCMP_VM, 0, 0);
	if (rc < 0 && errno != ESRCH)
		zd_log(ZD_LOG_WARN, "process %d runs unmanaged: kcmp: %s", c->pid,
		       strerrordesc_np(errno));
	return rc ? -ESRCH : 0;
}

static int map_ring(int fd, struct process *p)
{
	struct stat st;
	void *ring;

	/* the supervisor would get SIGBUS if the file shrank */
	if (fstat(fd, &st) || st.st_size < (off_t)sizeof(*p->ring))
		return -EINVAL;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL))
		return -errno;
	ring = mmap(NULL, sizeof(*p->ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		return -errno;
	p->ring = ring;
	p->ring_ino = st.st_ino;
	return 0;
}

/* @p gets the connection's socket and pidfd, and the ring.  0: @c is free of them, and only to
 * be freed; -errno: the socket stays @c's. */
static int take_over(struct conn *c, struct process *p, int ring_fd)
{
	int rc = map_ring(ring_fd, p);

	if (rc)
		return rc;
	rc = process_attach(p, c->pid, c->agent, c->pidfd);
	if (rc) {
		munmap(p->ring, sizeof(*p->ring));
		p->ring = NULL;
		return rc;
	}
	c->pidfd = -1;
	p->sock.fd = c->source.fd;
	mover_agent_init(p);
	zd_loop_replace(&c->run->server.loop, &p->sock);
	return 0;
}

static void take_layout(struct process *p, const struct zd_agent_hello *h)
{
	p->lo = h->lo;
	p->hi = h->hi;
	p->staging = h->staging;
	p->identity = h->identity;
	p->clear_tids = h->clear_tids;
}

/* If the program has exec'ed, its old address space must be gone before the new one begins: the
 * new agent gets a pidfd of the old one to wait for. */
static void answer_exec(struct run *run, int sock, enum zd_agent_answer answer, pid_t pid,
			const struct process *p)
{
	struct process *old = agent_predecessor(run, pid, p);
	int pidfd = -1, self = -1;

	if (old && agent_dismiss(old))
		pidfd = syscall(SYS_pidfd_open, old->tid, 0);
	if (answer == ZD_AGENT_WELCOME && run->keeper.fd >= 0)
		self = syscall(SYS_pidfd_open, getpid(), 0);
	reply_all(run, sock, answer, pidfd, self);
	if (pidfd >= 0)
		close(pidfd);
	if (self >= 0)
		close(self);
}

static void hello_none(struct conn *c, const struct zd_agent_hello *h)
{
	if (h->error) {
		zd_log(ZD_LOG_WARN, "process %d can't have an agent (%s): it runs unmanaged",
		       c->pid, strerrordesc_np(-h->error));
		c->run->nr_unmanaged++;
	}
	answer_exec(c->run, c->source.fd, ZD_AGENT_GO_AWAY, c->pid, NULL);
}

/* The agent may not call userfaultfd(2): perhaps it may use the device. */
static void hello_without_uffd(struct conn *c, const struct zd_agent_hello *h)
{
	int dev = c->dev_offered ? -1 : open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	c->dev_offered = true;
	reply(c->source.fd, dev < 0 ? ZD_AGENT_GO_AWAY : ZD_AGENT_USE_DEV, dev);
	if (dev >= 0)
		close(dev);
	else
		zd_log(ZD_LOG_WARN, "process %d has no userfaultfd (%s): it runs unmanaged", c->pid,
		       strerrordesc_np(-h->error));
}

/* True: the socket is the process's now. */
static bool hello_fresh(struct conn *c, const struct zd_agent_hello *h, int uffd, int ring)
{
	struct run *run = c->run;
	int sock = c->source.fd;
	pid_t pid = c->pid;
	struct process *p = NULL;
	struct zd_mm *mm;
	int rc;

	if (uffd < 0) {
		hello_without_uffd(c, h);
		return false;
	}
	rc = zd_uffd_api(uffd, ZD_UFFD_FEATURES);
	if (!rc)
		rc = zd_uffd_register_own(uffd, h->identity, ZD_IDENTITY_BYTES);
	if (!rc)
		rc = zd_uffd_register_own(uffd, h->staging, ZD_STAGING_BYTES);
	if (rc) {
		close(uffd);
		goto refuse;
	}
	zd_keeper_add(&run->keeper, uffd);
	rc = zd_mm_create(&run->server, uffd, NULL, &mm);
	if (rc)
		goto refuse;
	rc = -ENOMEM;
	p = process_new(run, mm);
	if (!p) {
		zd_mm_destroy(mm);
		goto refuse;
	}
	take_layout(p, h);
	rc = take_over(c, p, ring);
	if (rc) {
		p->gone = true;
		goto refuse;
	}
	if (pid == run->child.pid)
		run->child.managed = true;
	answer_exec(run, sock, ZD_AGENT_WELCOME, pid, p);
	return true;

refuse:
	/* no message if the process has ended (or exec'ed) meanwhile */
	if (!has_ended(sock, rc)) {
		zd_log(ZD_LOG_WARN, "process %d runs unmanaged: %s", c->pid, strerrordesc_np(-rc));
		run->nr_unmanaged++;
	}
	answer_exec(run, sock, ZD_AGENT_GO_AWAY, pid, p);
	return false;
}

/* True: the socket is the process's now. */
static bool hello_fork(struct conn *c, const struct zd_agent_hello *h, int ring)
{
	struct process *p = process_by_id(c->run, h->id);
	int sock = c->source.fd;
	int rc;

	if (!p || p->sock.fd >= 0 || p->pid >= 0) {
		reply(sock, ZD_AGENT_ASK_AGAIN, -1);
		return false;
	}
	rc = take_over(c, p, ring);
	if (rc && !has_ended(sock, rc))	/* the child is served, but nothing can be moved out */
		zd_log(ZD_LOG_WARN, "a forked child keeps its memory: %s", strerrordesc_np(-rc));
	/* the connection stays, so that the child dies with the supervisor */
	if (rc && c->pidfd >= 0) {
		close(c->pidfd);
		c->pidfd = -1;
	}
	reply(sock, rc ? ZD_AGENT_GO_AWAY : ZD_AGENT_WELCOME, zd_mm_uffd(p->mm));
	return !rc;
}

bool greet(struct conn *c, const struct zd_agent_hello *h, const int *fd, unsigned int nr)
{
	unsigned int own = h->kind == ZD_AGENT_FORK		? 1 :
			   h->kind == ZD_AGENT_NONE || h->error ? 0 :
								  2;
	int ring = own ? fd[own - 1] : -1;
	bool taken = false;

	if (identify(c, nr > own ? fd[own] : -1)) {
		reply(c->source.fd, ZD_AGENT_QUIT, -1);
		if (own > 1)
			close(fd[0]);
	} else if (h->kind == ZD_AGENT_FORK) {
		taken = hello_fork(c, h, ring);
	} else if (h->kind == ZD_AGENT_NONE) {
		hello_none(c, h);
	} else {
		taken = hello_fresh(c, h, h->error ? -1 : fd[0], ring);
	}
	if (ring >= 0)
		close(ring);
	return taken;
}
