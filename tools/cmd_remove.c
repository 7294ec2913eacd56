/* SPDX-License-Identifier: MIT */
/* `zonedev remove` and `zonedev add`: a served region goes away, and comes back.
 * Its server does it; it is asked through its control socket. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "serve/control.h"
#include "serve/sockets.h"
#include "tools/cmd.h"

#define EXIT_HELD	1
#define EXIT_LOST	3
#define ANSWER_MS	2000	/* what an answer may take, beyond what it waits for */
#define MAX_SERVERS	64	/* of one region, read-only */

struct servers {
	int fd[MAX_SERVERS];
	unsigned int nr;
	bool silent;			/* one of them takes no callers */
};

/* --- who serves it --- */

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
	/* one that is stopped takes a few callers, and no more */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound));
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	ret = -errno;
	close(fd);
	if (socket_is_stale(&addr))
		unlink(addr.sun_path);
	return ret;
}

/* Connects to every server of the region at @path.  0 or -errno; none isn't an
 * error. */
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

#define NOT_THIS_ONE	(-1)

/* What one server answers in the end: the exit status, or NOT_THIS_ONE and why. */
static int listen_to(const char *path, int fd, char *why)
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
			return cmd_error("%s: its server has ended, or answers too many others: look whether it runs, and try again", path);
		line[n] = '\0';
		if (!strcmp(line, "ok"))
			return 0;
		if (!strncmp(line, "wait ", 5)) {
			cmd_error("%s: waiting for %s", path, line + 5);
			continue;
		}
		if (!strncmp(line, "held ", 5)) {
			cmd_error("%s: still held by %s; it goes when they end", path, line + 5);
			return EXIT_HELD;
		}
		if (!strncmp(line, "lost ", 5)) {
			cmd_error("%s: %s", path, line + 5);
			return EXIT_LOST;
		}
		if (strncmp(line, "no ", 3))
			return cmd_error("%s", strncmp(line, "error ", 6) ? line : line + 6);
		strcpy(why, line + 3);
		return NOT_THIS_ONE;
	}
}

/* Asks all, then waits for all, @ms < 0: for ever.  One whose region was removed
 * before is of no interest while another has it. */
static int talk(const char *path, const char *request, long long ms)
{
	struct timeval answer = { (ms + ANSWER_MS) / 1000, (ms + ANSWER_MS) % 1000 * 1000 };
	struct servers servers = { .nr = 0 };
	char why[CONTROL_MESSAGE];
	int rc = need_servers(path, &servers), one;

	if (rc >= 0)
		return rc;
	for (unsigned int i = 0; i < servers.nr; i++) {
		if (ms >= 0)
			setsockopt(servers.fd[i], SOL_SOCKET, SO_RCVTIMEO, &answer, sizeof(answer));
		/* one that has gone is told of below */
		if (send(servers.fd[i], request, strlen(request), MSG_NOSIGNAL) < 0)
			continue;
	}
	for (unsigned int i = 0; i < servers.nr; i++) {
		one = listen_to(path, servers.fd[i], why);
		rc = one > rc ? one : rc;
		close(servers.fd[i]);
	}
	return rc == NOT_THIS_ONE ? cmd_error("%s", why) : rc;
}

/* --- the commands --- */

static int help_remove(void)
{
	printf("usage: zonedev remove [--timeout SECONDS] PATH\n"
	       "\n"
	       "Take a region that `zonedev serve` serves away from its clients.  Requests in\n"
	       "flight finish; later ones fail with ESHUTDOWN.  The server lives: `zonedev add`\n"
	       "brings the region back.\n"
	       "\n"
	       "  --timeout SECONDS  how long to wait for requests in flight (default: for ever)\n"
	       "  --help, -h         this text\n"
	       "\n"
	       "Exit status: 0 if it is gone, 1 if it is still held (it goes as soon as it isn't),\n"
	       "2 for bad usage, or a region that isn't served, 3 if it is gone, but not all that\n"
	       "was written could be made durable.\n");
	return 0;
}

static int help_add(void)
{
	printf("usage: zonedev add PATH\n"
	       "\n"
	       "Bring a region back that `zonedev remove` took away: its server opens it again,\n"
	       "and clients that are still connected go on.\n"
	       "\n"
	       "  --help, -h  this text\n"
	       "\n"
	       "Exit status: 0 if it is back, 2 if not.\n");
	return 0;
}

static int parse_timeout(const char *text, long long *ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !isfinite(seconds) || seconds < 0 || seconds > 1e9)
		return -EINVAL;
	*ms = (long long)(seconds * 1000);
	return 0;
}

/* -1: go on, with the one argument at argv[optind]; else the exit status. */
static int parse(int argc, char **argv, const struct option *options, int (*help)(void),
		 long long *ms)
{
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case 't':
			if (*ms >= 0)
				return cmd_error("--timeout is given twice: leave one out");
			if (parse_timeout(optarg, ms))
				return cmd_error("--timeout %s: not a time in seconds (try 10)", optarg);
			break;
		case 'h':
			return help();
		case ':':
			return cmd_error("%s needs a value (see: zonedev %s --help)",
					 argv[optind - 1], argv[0]);
		default:
			return cmd_error("unknown option %s (see: zonedev %s --help)",
					 argv[optind - 1], argv[0]);
		}
	}
	if (optind + 1 != argc)
		return cmd_error("%s: give the path of one region (see: zonedev %s --help)",
				 argv[0], argv[0]);
	return -1;
}

int cmd_remove(int argc, char **argv)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	char request[64];
	long long ms = -1;
	int rc;

	rc = parse(argc, argv, options, help_remove, &ms);
	if (rc >= 0)
		return rc;
	snprintf(request, sizeof(request), "remove %lld", ms);
	return talk(argv[optind], request, ms);
}

int cmd_add(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int rc;

	rc = parse(argc, argv, options, help_add, NULL);
	if (rc >= 0)
		return rc;
	return talk(argv[optind], "add", -1);
}
