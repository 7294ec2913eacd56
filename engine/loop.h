/* SPDX-License-Identifier: MIT */
/*
 * An epoll loop over sources: descriptors, each with the function that is called when
 * its descriptor can be read.  The thread that waits calls them, one after the other; all
 * calls here are that thread's, or made before it runs.
 */
#ifndef ZD_ENGINE_LOOP_H
#define ZD_ENGINE_LOOP_H

#include <stdint.h>

struct zd_source {
	int fd;
	/* @events: of epoll(7) */
	void (*ready)(struct zd_source *source, uint32_t events);
};

struct zd_loop {
	int epfd;
};

/* 0 or -errno. */
int zd_loop_init(struct zd_loop *loop);
void zd_loop_destroy(struct zd_loop *loop);

/* 0 or -errno. */
int zd_loop_add(struct zd_loop *loop, struct zd_source *source);
/* A source that epoll has reported is called in that wait, also when another source's
 * ->ready() has removed it: only in its own may it be freed before the wait is over. */
void zd_loop_remove(struct zd_loop *loop, struct zd_source *source);
/* @source instead of the one that was added with the same descriptor.  Can't fail. */
void zd_loop_replace(struct zd_loop *loop, struct zd_source *source);

/*
 * Sleep at most @timeout_ms (-1: for ever) until a source can be read, and call all that
 * can.  Returns how many those were, or -errno (-EINTR: a signal, and none was called).
 */
int zd_loop_wait(struct zd_loop *loop, int timeout_ms);

#endif
