/* SPDX-License-Identifier: MIT */
/* The loop of loop.h. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/loop.h"

#define READY_MAX	64

int zd_loop_init(struct zd_loop *loop)
{
	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	return loop->epfd < 0 ? -errno : 0;
}

void zd_loop_destroy(struct zd_loop *loop)
{
	close(loop->epfd);
}

int zd_loop_add(struct zd_loop *loop, struct zd_source *source)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = source };

	return epoll_ctl(loop->epfd, EPOLL_CTL_ADD, source->fd, &ev) ? -errno : 0;
}

void zd_loop_remove(struct zd_loop *loop, struct zd_source *source)
{
	epoll_ctl(loop->epfd, EPOLL_CTL_DEL, source->fd, NULL);
}

void zd_loop_replace(struct zd_loop *loop, struct zd_source *source)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = source };

	epoll_ctl(loop->epfd, EPOLL_CTL_MOD, source->fd, &ev);
}

int zd_loop_wait(struct zd_loop *loop, int timeout_ms)
{
	struct epoll_event ev[READY_MAX];
	int n = epoll_wait(loop->epfd, ev, READY_MAX, timeout_ms);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct zd_source *source = ev[i].data.ptr;

		source->ready(source, ev[i].events);
	}
	return n;
}
