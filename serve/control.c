/* SPDX-License-Identifier: MIT */
/*
 * serve/control.c - the server's end of the control socket.
 *
 * One thread does everything, one thing after the other: it alone takes the
 * region away and brings it back, so nothing here is locked.  While a removal
 * waits for holders, the thread waits in the library, in short turns, and looks at
 * its sockets in between; that it goes on by itself when whoever asked for it
 * has given up is the point: nothing new can be had from the region any more,
 * and the file must be free as soon as the last holder is gone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "serve/control.h"
#include "serve/region.h"
#include "serve/say.h"

#define MAX_CALLERS	8
#define TURN_MS		50	/* of a wait, in between which is looked elsewhere */
#define TELL_MS		1000	/* who waits is told so this often, if it changes */

/* Who asked.  @deadline: < 0: waits for ever. */
struct caller {
	int fd;
	bool waiting;
	int64_t deadline, tell;
	char told[CONTROL_MESSAGE];
};

static struct {
	const char *path;	/* of the region */
	struct sockaddr_un addr;
	int listener, stop;	/* listener: -1: none */
	pthread_t thread;
	bool running;
	bool removing;		/* the region is to go, and hasn't yet */
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
	/* A caller that has gone, or doesn't read, needn't know. */
	if (send(c->fd, line, strlen(line) + 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

static void hang_up(struct caller *c)
{
	close(c->fd);
	*c = control.callers[--control.nr_callers];
}

/* "2 requests and 3 pages, at 0x1000 0x2000 ..." */
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

#define LOST	"it is removed, but not all that was written to it is durable: see what its " \
		"server said"

/* @ret: 0 or -EIO. */
static void removed(int ret)
{
	if (ret)
		server_say("%s: %s", control.path, LOST);
	server_say("%s was removed: requests fail with ESHUTDOWN until `zonedev add` "
		   "brings it back", control.path);
	for (unsigned int i = control.nr_callers; i--;) {
		if (!control.callers[i].waiting)
			continue;
		say(&control.callers[i], "%s", ret ? "lost " LOST : "ok");
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

/* No longer than a turn, and not beyond anybody's deadline. */
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

/* Returns true if the talk goes on: the loop takes the turns. */
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

static void listen_to(struct caller *c)
{
	char line[CONTROL_MESSAGE];
	ssize_t n = recv(c->fd, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Whoever waits and goes away doesn't call the removal off. */
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
		/* From the last on: who leaves is replaced by one that has been
		 * looked at. */
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

/* What servers have left that were killed. */
static void sweep(const char *dir)
{
	struct sockaddr_un addr;
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		/* with a dot: not listening yet */
		if (*entry->d_name != '.' && !control_address(&addr, dir, entry->d_name) &&
		    control_is_stale(&addr))
			unlink(addr.sun_path);
	if (d)
		closedir(d);
}

/* Bound under another name, so that nobody sees it before it listens. */
static int bind_listener(int fd, const char *dir, const char *name)
{
	struct sockaddr_un hidden;
	char dotted[132];
	int ret;

	snprintf(dotted, sizeof(dotted), ".%s", name);
	ret = control_address(&control.addr, dir, name);
	if (!ret)
		ret = control_address(&hidden, dir, dotted);
	if (ret)
		return ret;
	/* of a server that had our pid, and was killed */
	unlink(hidden.sun_path);
	if (bind(fd, (struct sockaddr *)&hidden, sizeof(hidden)))
		return -errno;
	if (!listen(fd, MAX_CALLERS) && !rename(hidden.sun_path, control.addr.sun_path))
		return 0;
	ret = -errno;
	unlink(hidden.sun_path);
	return ret;
}

static int make_listener(const char *path)
{
	char dir[PATH_MAX], key[96], name[128];
	int fd, ret;

	ret = control_dir(dir, sizeof(dir), true);
	if (ret)
		return ret;
	ret = control_key(path, key, sizeof(key));
	if (ret)
		return ret;
	snprintf(name, sizeof(name), "%s.%d", key, getpid());
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	sweep(dir);
	ret = bind_listener(fd, dir, name);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

int control_start(const char *path)
{
	sigset_t all, before;
	int ret;

	control.path = path;
	control.stop = eventfd(0, EFD_CLOEXEC);
	if (control.stop < 0)
		return -errno;
	control.listener = make_listener(path);
	if (control.listener < 0) {
		server_say("`zonedev remove` won't find this server: no control socket: %s",
			   strerrordesc_np(-control.listener));
		control.listener = -1;
	}
	/* Signals are for the server's threads. */
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
	unlink(control.addr.sun_path);
	close(control.listener);
}
