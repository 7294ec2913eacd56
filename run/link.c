/* SPDX-License-Identifier: MIT */
/*
 * Agents announce themselves here: an abstract socket whose name and token are
 * random and known to the program's environment alone.
 *
 * Context: the server's thread.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/uapi.h"
#include "run/greet.h"
#include "run/link.h"
#include "run/run.h"

static void conn_free(struct conn *c)
{
	zd_loop_remove(&c->run->server.loop, &c->source);
	close(c->source.fd);
	if (c->pidfd >= 0)
		close(c->pidfd);
	zd_free(c);
}

/* The descriptors that came with @msg, in @fd; returns how many. */
static unsigned int received(const struct msghdr *msg, const struct cmsghdr *ctl, int *fd)
{
	unsigned int nr;

	if (msg->msg_controllen < CMSG_LEN(sizeof(int)) || ctl->cmsg_type != SCM_RIGHTS)
		return 0;
	nr = (ctl->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fd, CMSG_DATA(ctl), nr * sizeof(int));
	return nr;
}

static bool is_good(const struct run *run, const struct zd_agent_hello *h)
{
	return h->magic == ZD_AGENT_MAGIC && h->version == ZD_AGENT_VERSION &&
	       !memcmp(h->token, run->token, ZD_AGENT_TOKEN);
}

static void count_unmanaged(struct run *run, const struct zd_agent_hello *h)
{
	if (h->error > 0 && h->error < ZD_UNMANAGED_REASONS)
		run->unmanaged[h->error]++;
}

static void conn_ready(struct zd_source *source, uint32_t events)
{
	struct conn *c = caa_container_of(source, struct conn, source);
	struct zd_agent_hello h;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(GREET_FDS * sizeof(int))];
	} ctl;
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};
	int fd[GREET_FDS] = { -1, -1, -1 };
	unsigned int nr = 0;
	ssize_t n = recvmsg(source->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	bool good;

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		nr = received(&msg, &ctl.align, fd);
	good = n == sizeof(h) && is_good(c->run, &h);
	if (good && h.kind != ZD_AGENT_UNMANAGED) {
		if (greet(c, &h, fd, nr))
			zd_free(c);
		return;
	}
	if (good)
		count_unmanaged(c->run, &h);
	for (unsigned int i = 0; i < nr; i++)
		close(fd[i]);
	conn_free(c);
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
	if (!zd_loop_add(&run->server.loop, &c->source))
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
		rc = zd_loop_add(&run->server.loop, &run->listen);
	if (rc)
		close(run->listen.fd);
	return rc;
}

void link_close(struct run *run)
{
	zd_loop_remove(&run->server.loop, &run->listen);
	close(run->listen.fd);
}
