/* SPDX-License-Identifier: MIT */
/* The servers of a region are found by their control sockets, and asked; see
 * control_client.h. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "serve/control.h"
#include "serve/sockets.h"
#include "tools/cmd.h"
#include "tools/control_client.h"

#define ANSWER_MS	2000	/* what an answer may take beyond the time of the request */
#define MAX_SERVERS	64	/* of one region, which then is read-only */

struct servers {
	int fd[MAX_SERVERS];
	unsigned int nr;
	bool silent;			/* there is one that takes no callers */
};

/* --- the servers --- */

static int connect_to(const char *dir, const char *name)
{
	const struct timeval bound = { .tv_sec = ANSWER_MS / 1000 };
	struct sockaddr_un addr;
	int fd, ret;

	ret = socket_address(&addr, dir, name);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* A server that is stopped has a backlog of a few callers, and takes no more. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound));
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	ret = -errno;
	close(fd);
	if (socket_is_stale(&addr))
		unlink(addr.sun_path);
	return ret;
}

/* Connects to every server of the region at @path.  0, also if there is none; or -errno. */
static int find_servers(const char *path, struct servers *servers)
{
	char dir[PATH_MAX], key[96];
	struct dirent *entry;
	size_t len;
	int fd, ret;
	DIR *d;

	ret = control_key(path, key, sizeof(key));
	if (ret)
		return ret;
	ret = control_dir(dir, sizeof(dir), false);
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	d = opendir(dir);
	if (!d)
		return -errno;
	len = strlen(key);
	while (servers->nr < MAX_SERVERS && (entry = readdir(d))) {
		if (strncmp(entry->d_name, key, len) || entry->d_name[len] != '.' ||
		    strchr(entry->d_name + len + 1, '.'))
			continue;
		fd = connect_to(dir, entry->d_name);
		if (fd >= 0)
			servers->fd[servers->nr++] = fd;
		else if (fd == -EAGAIN)
			servers->silent = true;
	}
	closedir(d);
	return 0;
}

static int no_answer(const char *path)
{
	cmd_error("%s: its server doesn't answer (is it stopped, or its disk?)", path);
	return EXIT_HELD;
}

/* -1: go on; else the exit status. */
static int need_servers(const char *path, struct servers *servers)
{
	int ret = find_servers(path, servers);

	if (ret)
		return cmd_error("%s: %s", path, strerrordesc_np(-ret));
	if (servers->silent)
		return no_answer(path);
	if (!servers->nr)
		return cmd_error("%s: no server of this user's has it (is it served by another?)",
				 path);
	return -1;
}

/* --- the talk --- */

int control_hear(const char *path, const char *after, int fd, char *why)
{
	char line[CONTROL_MESSAGE];
	ssize_t n;

	for (;;) {
		do
			n = recv(fd, line, sizeof(line) - 1, 0);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno == EAGAIN)
			return no_answer(path);
		if (n <= 0)
			return cmd_error(
				"%s: its server has ended, or answers too many others: look whether it runs, and try again",
				path);
		line[n] = '\0';
		if (!strcmp(line, "ok"))
			return 0;
		if (!strncmp(line, "wait ", 5)) {
			cmd_error("%s: waiting for %s", path, line + 5);
			continue;
		}
		if (!strncmp(line, "held ", 5)) {
			cmd_error("%s: still held by %s; %s", path, line + 5, after);
			return EXIT_HELD;
		}
		if (!strncmp(line, "stays ", 6)) {
			cmd_error("%s stays: %s", path, line + 6);
			return EXIT_HELD;
		}
		if (!strncmp(line, "lost ", 5)) {
			cmd_error("%s: %s", path, line + 5);
			return EXIT_LOST;
		}
		if (strncmp(line, "no ", 3))
			return cmd_error("%s", strncmp(line, "error ", 6) ? line : line + 6);
		strcpy(why, line + 3);
		return CONTROL_NOT_CONCERNED;
	}
}

void control_set_bound(int fd, long long ms)
{
	const struct timeval answer = { (ms + ANSWER_MS) / 1000, (ms + ANSWER_MS) % 1000 * 1000 };

	if (ms >= 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &answer, sizeof(answer));
}

/* Asks all servers, then waits for all.  A server that isn't concerned decides the exit status
 * only where all of them say so. */
int control_ask(const char *path, const char *request, long long ms)
{
	struct servers servers = { .nr = 0 };
	char why[CONTROL_MESSAGE];
	int rc = need_servers(path, &servers), one;

	if (rc >= 0)
		return rc;
	for (unsigned int i = 0; i < servers.nr; i++) {
		control_set_bound(servers.fd[i], ms);
		/* A server that has gone is noticed below, when it doesn't answer. */
		if (send(servers.fd[i], request, strlen(request), MSG_NOSIGNAL) < 0)
			continue;
	}
	for (unsigned int i = 0; i < servers.nr; i++) {
		one = control_hear(path, "it goes when they end", servers.fd[i], why);
		rc = one > rc ? one : rc;
		close(servers.fd[i]);
	}
	return rc == CONTROL_NOT_CONCERNED ? cmd_error("%s", why) : rc;
}
