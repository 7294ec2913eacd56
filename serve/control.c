/* SPDX-License-Identifier: MIT */
/*
 * serve/control.c - the server's end of the control socket.
 *
 * One thread does everything, one thing after the other: that thread alone takes the region
 * away and brings it back, so nothing here is locked.  While a removal waits for holders, the
 * thread waits in the library, in short turns, and looks at its sockets in between.  The
 * removal goes on when the callers that asked for it have given up: requests fail from its
 * beginning, and the file must be free as soon as the last holder is gone.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "serve/control.h"
#include "serve/listener.h"
#include "serve/region.h"
#include "serve/say.h"

#define MAX_CALLERS	8
#define TURN_MS		50	/* of a removal's wait, between two looks at the sockets */
#define TELL_MS		1000	/* between two "wait" messages, whose text must differ */

/* A process that is connected.  @waiting: for the end of the removal, until @deadline (< 0:
 * for ever); @told: the last "wait" message, @tell: the earliest time of the next. */
struct caller {
	int fd;
	bool waiting;
	int64_t deadline, tell;		/* as zd_now_ms() */
	char told[CONTROL_MESSAGE];
};

static struct {
	const char *path;	/* of the region */
	struct sockaddr_un addr;	/* of the listener */
	int listener;		/* -1: none */
	int stop;		/* an eventfd */
	pthread_t thread;
	bool running;		/* there is a thread */
	/* The thread's: */
	bool removing;		/* a removal has begun, and isn't done */
	struct caller callers[MAX_CALLERS];
	unsigned int nr_callers;
} control;

__attribute__((format(printf, 2, 3)))
static void say(struct caller *c, const char *fmt, ...)
{
	char line[CONTROL_MESSAGE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* A caller that has gone, or doesn't read, misses the message. */
	if (send(c->fd, line, strlen(line) + 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void hang_up(struct caller *c)
{
	close(c->fd);
	*c = control.callers[--control.nr_callers];
}

/* "2 requests in flight, 3 pages, at 0x1000 0x2000 ..." */
static void describe(const struct zd_pmem_holders *h, char *text, size_t len)
{
	const struct zd_pagemap_holders *p = &h->pages;
	size_t n = 0;

	*text = '\0';
	if (h->nr_requests)
		n += snprintf(text + n, len - n, "%llu request%s in flight",
			      (unsigned long long)h->nr_requests, h->nr_requests > 1 ? "s" : "");
	if (p->nr_refs)
		n += snprintf(text + n, len - n, "%s%llu hold%s of the region", n ? ", " : "",
			      (unsigned long long)p->nr_refs, p->nr_refs > 1 ? "s" : "");
	if (!p->nr_pages)
		return;
	n += snprintf(text + n, len - n, "%s%llu page%s, at", n ? ", " : "",
		      (unsigned long long)p->nr_pages, p->nr_pages > 1 ? "s" : "");
	for (unsigned int i = 0; i < p->nr_pfns; i++)
		n += snprintf(text + n, len - n, " %#llx",
			      (unsigned long long)(p->pfns[i] - region_info()->pfn) * ZD_PAGE_SIZE);
	if (p->nr_pfns < p->nr_pages)
		snprintf(text + n, len - n, " ...");
}

/* --- removal --- */

#define LOST_TEXT "it is removed, but not all that was written to it is durable: see what its " \
		"server said"

/* The removal is done.  @ret: 0; -EIO: not all that was written is durable. */
static void removed(int ret)
{
	if (ret)
		server_say("%s: %s", control.path, LOST_TEXT);
	server_say("%s was removed: requests fail with ESHUTDOWN until `zonedev add` "
		   "brings it back",
		   control.path);
	for (unsigned int i = control.nr_callers; i--;) {
		if (!control.callers[i].waiting)
			continue;
		say(&control.callers[i], "%s", ret ? "lost " LOST_TEXT : "ok");
		hang_up(&control.callers[i]);
	}
}

static void removal_failed(int ret)
{
	for (unsigned int i = control.nr_callers; i--;) {
		if (!control.callers[i].waiting)
			continue;
		say(&control.callers[i], "error %s: %s", control.path, strerrordesc_np(-ret));
		hang_up(&control.callers[i]);
	}
}

static void still_held(const struct zd_pmem_holders *holders)
{
	char text[CONTROL_MESSAGE - 64];
	int64_t now = zd_now_ms();

	describe(holders, text, sizeof(text));
	for (unsigned int i = control.nr_callers; i--;) {
		struct caller *c = &control.callers[i];

		if (!c->waiting)
			continue;
		if (c->deadline >= 0 && now >= c->deadline) {
			say(c, "held %s", text);
			hang_up(c);
		} else if (now >= c->tell && strcmp(c->told, text)) {
			say(c, "wait %s", text);
			strcpy(c->told, text);
			c->tell = now + TELL_MS;
		}
	}
}

/* How long to wait for holders: a turn at most, and not beyond a caller's deadline. */
static unsigned int turn_ms(void)
{
	int64_t now = zd_now_ms(), turn = TURN_MS;

	for (unsigned int i = 0; i < control.nr_callers; i++) {
		const struct caller *c = &control.callers[i];

		if (c->waiting && c->deadline >= 0 && c->deadline - now < turn)
			turn = c->deadline > now ? c->deadline - now : 0;
	}
	return turn;
}

static void remove_turn(void)
{
	struct zd_pmem_holders holders = { 0 };
	int ret = region_remove(turn_ms(), &holders);

	control.removing = ret == -ETIMEDOUT;
	if (!ret || ret == -EIO)
		removed(ret);
	else if (ret == -ETIMEDOUT)
		still_held(&holders);
	else
		removal_failed(ret);
}

/* --- callers --- */

/* Returns true if the talk goes on: control_thread() takes the turns of the removal. */
static bool do_remove(struct caller *c, const char *args)
{
	long long ms = strtoll(args, NULL, 10);

	if (region_state() == REGION_REMOVED) {
		say(c, "no %s was removed before", control.path);
		return false;
	}
	c->waiting = true;
	c->deadline = ms < 0 ? -1 : zd_now_ms() + ms;
	c->tell = zd_now_ms() + TELL_MS;
	control.removing = true;
	return true;
}

static void do_add(struct caller *c)
{
	char err[CONTROL_MESSAGE - 64] = "";

	if (region_state() == REGION_LIVE) {
		say(c, "no %s is not removed", control.path);
	} else if (region_state() == REGION_REMOVING) {
		say(c, "no %s is still being removed", control.path);
	} else if (region_add(err, sizeof(err))) {
		say(c, "error %s", err);
	} else {
		server_say("%s is back", control.path);
		say(c, "ok");
	}
}

/* @c has sent a message, or hung up. */
static void listen_to(struct caller *c)
{
	char line[CONTROL_MESSAGE];
	ssize_t n = recv(c->fd, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* A caller that hangs up while it waits doesn't call the removal off. */
	if (n > 0 && !c->waiting) {
		line[n] = '\0';
		if (!strncmp(line, "remove ", 7)) {
			if (do_remove(c, line + 7))
				return;
		} else if (!strcmp(line, "add")) {
			do_add(c);
		} else {
			say(c, "error this server doesn't know '%.32s'", line);
		}
	}
	hang_up(c);
}

static void accept_caller(void)
{
	int fd = accept4(control.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (control.nr_callers == MAX_CALLERS) {
		close(fd);
		return;
	}
	control.callers[control.nr_callers++] = (struct caller){ .fd = fd };
}

static void *control_thread(void *arg)
{
	struct pollfd fds[2 + MAX_CALLERS];

	(void)arg;
	for (;;) {
		unsigned int nr = control.nr_callers;

		fds[0] = (struct pollfd){ control.stop, POLLIN, 0 };
		fds[1] = (struct pollfd){ control.listener, POLLIN, 0 };
		for (unsigned int i = 0; i < nr; i++)
			fds[2 + i] = (struct pollfd){ control.callers[i].fd, POLLIN, 0 };
		if (poll(fds, 2 + nr, control.removing ? 0 : -1) < 0)
			continue;
		if (fds[0].revents)
			break;
		/* From the last caller on: hang_up() puts the last one in the place of the one
		 * that leaves, and the last one has been looked at. */
		for (unsigned int i = nr; i--;)
			if (fds[2 + i].revents)
				listen_to(&control.callers[i]);
		if (fds[1].revents)
			accept_caller();
		if (control.removing)
			remove_turn();
	}
	while (control.nr_callers)
		hang_up(&control.callers[0]);
	return NULL;
}

/* --- start and stop --- */

int control_start(const char *path)
{
	sigset_t all, before;
	int ret;

	control.path = path;
	control.stop = eventfd(0, EFD_CLOEXEC);
	if (control.stop < 0)
		return -errno;
	control.listener = listener_open(path, MAX_CALLERS, &control.addr);
	if (control.listener < 0) {
		server_say("`zonedev remove` won't find this server: no control socket: %s",
			   strerrordesc_np(-control.listener));
		control.listener = -1;
	}
	/* Signals are for the server's other threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = -pthread_create(&control.thread, NULL, control_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	control.running = !ret;
	return ret;
}

void control_stop(void)
{
	if (!control.running)
		return;
	eventfd_write(control.stop, 1);
	pthread_join(control.thread, NULL);
	control.running = false;
	if (control.listener < 0)
		return;
	listener_close(control.listener, &control.addr);
}
