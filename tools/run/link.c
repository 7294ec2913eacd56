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
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/alloc.h"
#include "mm/uapi.h"
#include "mm/uffd.h"
#include "tools/run/run.h"
#include "zonedev/log.h"

/* A connection until it has said a good hello. */
struct conn {
	struct zd_source source;
	struct run *run;
	pid_t pid;
	int pidfd;
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

static void reply_all(int sock, enum zd_agent_answer answer, int fd, int keeper)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = { 0 };
	struct zd_agent_reply r = { answer, keeper };
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		msg.msg_control = ctl.buf;
		msg.msg_controllen = sizeof(ctl.buf);
		ctl.align.cmsg_level = SOL_SOCKET;
		ctl.align.cmsg_type = SCM_RIGHTS;
		ctl.align.cmsg_len = CMSG_LEN(sizeof(int));
		*(int *)CMSG_DATA(&ctl.align) = fd;
	}
	/* an agent that is gone shows as a hang-up */
	if (sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		zd_log(ZD_LOG_DEBUG, "agent: %s", strerrordesc_np(errno));
}

static void reply(int sock, enum zd_agent_answer answer, int fd)
{
	reply_all(sock, answer, fd, -1);
}

/* With what the agent needs to fetch the keeper. */
static void welcome(const struct run *run, int sock)
{
	int self = run->keeper.fd >= 0 ? (int)syscall(SYS_pidfd_open, getpid(), 0) : -1;

	reply_all(sock, ZD_AGENT_WELCOME, self, self < 0 ? -1 : run->keeper.fd);
	if (self >= 0)
		close(self);
}

/* Did @rc come of nothing but the end of the process, or of its exec? */
static bool has_ended(int sock, int rc)
{
	struct pollfd pfd = { .fd = sock };

	if (rc == -ESRCH || rc == -ENOENT)
		return true;
	return poll(&pfd, 1, 0) > 0 && pfd.revents & (POLLHUP | POLLERR);
}

static int map_ring(int fd, struct zd_agent_ring **ring)
{
	struct stat st;
	void *p;

	/* it must not shrink under us */
	if (fstat(fd, &st) || st.st_size < (off_t)sizeof(**ring))
		return -EINVAL;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL))
		return -errno;
	p = mmap(NULL, sizeof(**ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ring = p;
	return 0;
}

/* The process is known and its ring is mapped: from now on the socket is its. */
static int settle(struct conn *c, struct process *p, int ring_fd)
{
	int rc = map_ring(ring_fd, &p->ring);

	if (rc)
		return rc;
	rc = process_attach(p, c->pid, c->pidfd);
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
}

static void hello_fresh(struct conn *c, const struct zd_agent_hello *h, int uffd, int ring)
{
	struct run *run = c->run;
	int sock = c->source.fd, dev;
	struct process *p;
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
		rc = zd_uffd_register_own(uffd, h->identity, ZD_PAGE_SIZE);
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
	if (p->pid == run->child)
		run->child_managed = true;
	welcome(run, sock);
	return;

refuse:
	/* not worth a word if it has ended (or exec'ed) meanwhile */
	if (!has_ended(sock, rc)) {
		zd_log(ZD_LOG_WARN, "process %d runs unmanaged: %s", c->pid, strerrordesc_np(-rc));
		run->nr_unmanaged++;
	}
	reply(sock, ZD_AGENT_GO_AWAY, -1);
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
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} ctl;
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};
	int fd[2] = { -1, -1 }, ring;
	unsigned int nr = 0;
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
		conn_free(c);
		ring = -1;
	} else if (h.kind == ZD_AGENT_FORK) {
		ring = fd[0];
		hello_fork(c, &h, ring);
	} else {
		ring = fd[1];
		hello_fresh(c, &h, fd[0], ring);
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
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		goto err_free;
	c->pid = cred.pid;
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
