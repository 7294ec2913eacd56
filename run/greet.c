/* SPDX-License-Identifier: MIT */
/*
 * Agents announce themselves here: an abstract socket whose name and token are
 * random and known to the program's environment alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/kcmp.h>

#include "base/alloc.h"
#include "base/uapi.h"
#include "space/uffd.h"
#include "run/run.h"
#include "zonedev/log.h"

/* A connection until it has said a good hello. */
struct conn {
	struct zd_source source;
	struct run *run;
	pid_t peer;		/* said hello: the agent, or the program whose thread it is */
	pid_t pid, agent;	/* agent 0: a thread */
	int pidfd;		/* of the program */
	bool dev_offered;
};

static void conn_free(struct conn *c)
{
	zd_server_remove(&c->run->server, &c->source);
	close(c->source.fd);
	if (c->pidfd >= 0)
		close(c->pidfd);
	zd_free(c);
}

/* With @fd, and with @self, a pidfd of this process, for the agent to fetch the keeper. */
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
 * Whose agent is it?  @pidfd, which becomes the connection's, says so unless the agent
 * is a thread.  The one thing that is not believed is that the two share their memory:
 * the process may have exec'ed, and an agent that the program has taken over could name
 * any process, to have it killed.  0 or -errno.
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

	/* it must not shrink under us */
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

/* The process is known and its ring is mapped: from now on the socket is its. */
static int settle(struct conn *c, struct process *p, int ring_fd)
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
	zd_server_remove(&c->run->server, &c->source);
	p->sock.fd = c->source.fd;
	agent_link_init(p);
	rc = zd_server_add(&c->run->server, &p->sock);
	if (rc) {	/* the connection is still the caller's, and unheard */
		p->sock.fd = -1;
		p->mm->stays = true;
		p->lost_ns = zd_now_ns();
		return rc;
	}
	zd_free(c);
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

/* If the program has exec'ed, what it was before must be gone before it begins. */
static void answer_exec(struct run *run, int sock, enum zd_agent_answer answer, pid_t pid,
			const struct process *p)
{
	struct process *old = process_before_exec(run, pid, p);
	int pidfd = -1, self = -1;

	if (old && process_dismiss_agent(old))
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

static void hello_fresh(struct conn *c, const struct zd_agent_hello *h, int uffd, int ring)
{
	struct run *run = c->run;
	int sock = c->source.fd, dev;
	pid_t pid = c->pid;
	struct process *p = NULL;
	struct zd_mm *mm;
	int rc;

	if (uffd < 0) {
		dev = c->dev_offered ? -1 : open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
		c->dev_offered = true;
		reply(sock, dev < 0 ? ZD_AGENT_GO_AWAY : ZD_AGENT_USE_DEV, dev);
		if (dev >= 0)
			close(dev);
		else
			zd_log(ZD_LOG_WARN, "process %d has no userfaultfd (%s): it runs unmanaged",
			       c->pid, strerrordesc_np(-h->error));
		return;
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
	rc = settle(c, p, ring);
	if (rc) {
		p->gone = true;
		goto refuse;
	}
	if (pid == run->child)
		run->child_managed = true;
	answer_exec(run, sock, ZD_AGENT_WELCOME, pid, p);
	return;

refuse:
	/* not worth a word if it has ended (or exec'ed) meanwhile */
	if (!has_ended(sock, rc)) {
		zd_log(ZD_LOG_WARN, "process %d runs unmanaged: %s", c->pid, strerrordesc_np(-rc));
		run->nr_unmanaged++;
	}
	answer_exec(run, sock, ZD_AGENT_GO_AWAY, pid, p);
}

static void hello_fork(struct conn *c, const struct zd_agent_hello *h, int ring)
{
	struct process *p = process_by_id(c->run, h->id);
	int sock = c->source.fd;
	int rc;

	if (!p || p->sock.fd >= 0 || p->pid >= 0) {
		reply(sock, ZD_AGENT_ASK_AGAIN, -1);
		return;
	}
	rc = settle(c, p, ring);
	if (rc && !has_ended(sock, rc))	/* it is served, but nothing of it can go out */
		zd_log(ZD_LOG_WARN, "a forked child keeps its memory: %s", strerrordesc_np(-rc));
	if (rc && c->pidfd >= 0) {	/* the connection stays: the child dies with us */
		close(c->pidfd);
		c->pidfd = -1;
	}
	reply(sock, rc ? ZD_AGENT_GO_AWAY : ZD_AGENT_WELCOME, zd_mm_uffd(p->mm));
}

static void conn_ready(struct zd_source *source, uint32_t events)
{
	struct conn *c = caa_container_of(source, struct conn, source);
	struct zd_agent_hello h;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(3 * sizeof(int))];
	} ctl;
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};
	int fd[3] = { -1, -1, -1 }, ring, pidfd;
	unsigned int nr = 0, own;
	ssize_t n = recvmsg(source->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && msg.msg_controllen >= CMSG_LEN(sizeof(int)) &&
	    ctl.align.cmsg_type == SCM_RIGHTS) {
		nr = (ctl.align.cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fd, CMSG_DATA(&ctl.align), nr * sizeof(int));
	}
	if (n != sizeof(h) || h.magic != ZD_AGENT_MAGIC || h.version != ZD_AGENT_VERSION ||
	    memcmp(h.token, c->run->token, ZD_AGENT_TOKEN)) {
		for (unsigned int i = 0; i < nr; i++)
			close(fd[i]);
		conn_free(c);
		return;
	}
	if (h.kind == ZD_AGENT_UNMANAGED) {
		if (h.error > 0 && h.error < ZD_UNMANAGED_REASONS)
			c->run->unmanaged[h.error]++;
		for (unsigned int i = 0; i < nr; i++)
			close(fd[i]);
		conn_free(c);
		return;
	}
	own = h.kind == ZD_AGENT_FORK ? 1 : h.kind == ZD_AGENT_NONE || h.error ? 0 : 2;
	pidfd = nr > own ? fd[own] : -1;
	ring = own ? fd[own - 1] : -1;
	if (identify(c, pidfd)) {
		reply(source->fd, ZD_AGENT_QUIT, -1);
		if (own > 1)
			close(fd[0]);
	} else if (h.kind == ZD_AGENT_FORK) {
		hello_fork(c, &h, ring);
	} else if (h.kind == ZD_AGENT_NONE) {
		hello_none(c, &h);
	} else {
		hello_fresh(c, &h, h.error ? -1 : fd[0], ring);
	}
	if (ring >= 0)
		close(ring);
}

static void listen_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, listen);
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred = { .pid = -1 };
	socklen_t len = sizeof(cred);
	struct conn *c;

	(void)events;
	if (fd < 0)
		return;
	c = zd_alloc(sizeof(*c));
	if (!c)
		goto err_close;
	c->run = run;
	c->source.fd = fd;
	c->source.ready = conn_ready;
	c->pidfd = -1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		goto err_free;
	c->peer = cred.pid;
	len = sizeof(c->pidfd);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &c->pidfd, &len))
		c->pidfd = syscall(SYS_pidfd_open, cred.pid, 0);
	if (!zd_server_add(&run->server, &c->source))
		return;
	if (c->pidfd >= 0)
		close(c->pidfd);
err_free:
	zd_free(c);
err_close:
	close(fd);
}

int link_open(struct run *run)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	uint64_t r[3];
	socklen_t len;
	int rc;

	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		return -EIO;
	snprintf(run->socket_name, sizeof(run->socket_name), "zonedev-%d-%016llx", (int)getpid(),
		 (unsigned long long)r[0]);
	snprintf(run->token, sizeof(run->token), "%016llx%016llx", (unsigned long long)r[1],
		 (unsigned long long)r[2]);
	strcpy(sa.sun_path + 1, run->socket_name);
	len = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(run->socket_name);

	run->listen.ready = listen_ready;
	run->listen.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (run->listen.fd < 0)
		return -errno;
	if (bind(run->listen.fd, (struct sockaddr *)&sa, len) || listen(run->listen.fd, 1024))
		rc = -errno;
	else
		rc = zd_server_add(&run->server, &run->listen);
	if (rc)
		close(run->listen.fd);
	return rc;
}

void link_close(struct run *run)
{
	zd_server_remove(&run->server, &run->listen);
	close(run->listen.fd);
}
