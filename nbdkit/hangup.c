/* SPDX-License-Identifier: MIT */
/*
 * nbdkit/hangup.c - clients don't keep the server.
 *
 * Told to end, nbdkit takes no more clients, answers every request with ESHUTDOWN,
 * and waits until the clients that it has go by themselves, which an idle one
 * doesn't.  It has no call to send them away, so their sockets are looked up: shut
 * down for reading, a connection ends as if its client had ended it, after the answers
 * to what was asked.
 *
 * Those that are still sending get their answers first: the end of a unix socket that
 * is shut down for reading can't be written to, its client would close it, and nbdkit
 * (1.32) may abort if that happens between two answers.  Who doesn't read his answers
 * either is cut off in the end: nothing else wakes a thread that is sending to him.
 *
 * nbdkit's own handler of the signals goes on doing what it does.
 */
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "nbdkit/hangup.h"

#define MAX_LISTENERS 8

union name {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static const int quit_signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP };
#define NR_SIGNALS (sizeof(quit_signals) / sizeof(quit_signals[0]))

struct listeners {
	union name names[MAX_LISTENERS];
	unsigned int nr;
};

/* nbdkit closes them before it waits for clients: their names are kept. */
static struct listeners listeners;
static bool patience_is_over;
static int how = SHUT_RD;
static struct sigaction old[NR_SIGNALS];
static int quit_fd;

static void on_quit(int sig)
{
	int saved = errno;
	uint64_t one = 1;

	/* It can't be full; and who would hear? */
	if (write(quit_fd, &one, sizeof(one)) < 0)
		errno = saved;
	for (size_t i = 0; i < NR_SIGNALS; i++)
		if (quit_signals[i] == sig)
			old[i].sa_handler(sig);
	errno = saved;
}

/* --- whose sockets are those --- */

static int int_option(int fd, int option)
{
	socklen_t len = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) ? -1 : value;
}

/* Was @fd accepted on a socket with the name @l? */
static bool accepted_on(const union name *l, int fd)
{
	union name name = { 0 };
	socklen_t len = sizeof(name);

	if (getsockname(fd, &name.any, &len) || name.any.sa_family != l->any.sa_family)
		return false;
	switch (name.any.sa_family) {
	case AF_UNIX:
		return !memcmp(name.un.sun_path, l->un.sun_path, sizeof(name.un.sun_path));
	case AF_INET:
		return name.in.sin_port == l->in.sin_port;
	case AF_INET6:
		return name.in6.sin6_port == l->in6.sin6_port;
	default:
		return false;
	}
}

/* Calls @fn for each stream socket, but for those of whoever started us. */
static void for_each_socket(void (*fn)(int fd))
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;
	int fd;

	while (d && (entry = readdir(d))) {
		fd = atoi(entry->d_name);
		if (fd > STDERR_FILENO && int_option(fd, SO_TYPE) == SOCK_STREAM)
			fn(fd);
	}
	if (d)
		closedir(d);
}

static void add_listener(int fd)
{
	struct listeners *l = &listeners;
	socklen_t len = sizeof(l->names[0]);

	if (l->nr == MAX_LISTENERS || int_option(fd, SO_ACCEPTCONN) != 1)
		return;
	memset(&l->names[l->nr], 0, sizeof(l->names[0]));
	if (!getsockname(fd, &l->names[l->nr].any, &len))
		l->nr++;
}

static bool is_sending(int fd)
{
	int waiting = 0;

	return !ioctl(fd, FIONREAD, &waiting) && waiting > 0;
}

static void hang_up(int fd)
{
	if (int_option(fd, SO_ACCEPTCONN) || (!patience_is_over && is_sending(fd)))
		return;
	for (unsigned int i = 0; i < listeners.nr; i++)
		if (accepted_on(&listeners.names[i], fd))
			shutdown(fd, how);
}

void hangup_clients(enum hangup_patience patience)
{
	patience_is_over = patience != HANGUP_WHEN_ANSWERED;
	how = patience == HANGUP_AT_ONCE ? SHUT_RDWR : SHUT_RD;
	for_each_socket(hang_up);
}

void hangup_start(int fd)
{
	struct sigaction sa;

	for_each_socket(add_listener);
	quit_fd = fd;
	for (size_t i = 0; i < NR_SIGNALS; i++) {
		if (sigaction(quit_signals[i], NULL, &old[i]))
			continue;
		/* Ignored, or deadly: so be it. */
		if (old[i].sa_handler == SIG_IGN || old[i].sa_handler == SIG_DFL ||
		    old[i].sa_flags & SA_SIGINFO)
			continue;
		sa = old[i];
		sa.sa_handler = on_quit;
		sigaction(quit_signals[i], &sa, NULL);
	}
}
