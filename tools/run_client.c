/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/time.h"
#include "run/control.h"
#include "tools/cmd.h"
#include "tools/control_client.h"
#include "tools/run_client.h"

#define ANSWER_MS	2000
#define RUNS_MAX	256
#define ACCEPTCON	0x10000		/* __SO_ACCEPTCON, in /proc/net/unix: the socket listens */

long run_parse_pid(const char *text)
{
	char *end;
	long pid;

	errno = 0;
	pid = strtol(text, &end, 10);
	return errno || end == text || *end || pid <= 0 || pid > INT_MAX ? -EINVAL : pid;
}

/* --- finding --- */

/* A line of /proc/net/unix: is it of a run's control socket? */
static bool parse_line(const char *line, struct run_answer *a)
{
	unsigned long flags;
	int at = 0;
	size_t n;

	if (sscanf(line, "%*s %*s %*s %lx %*s %*s %*s %n", &flags, &at) != 1 || !at ||
	    !(flags & ACCEPTCON) ||
	    strncmp(line + at, "@" RUN_CONTROL_NAME, strlen("@" RUN_CONTROL_NAME)))
		return false;
	n = strcspn(line + at, "\n");
	if (n > sizeof(a->addr.sun_path))
		return false;
	a->addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(a->addr.sun_path + 1, line + at + 1, n - 1);
	a->len = offsetof(struct sockaddr_un, sun_path) + n;
	a->text = NULL;
	return true;
}

static int find_runs(struct run_answer *runs)
{
	char line[512];
	int nr = 0;
	FILE *f = fopen("/proc/net/unix", "re");

	if (!f)
		return -errno;
	while (nr < RUNS_MAX && fgets(line, sizeof(line), f))
		nr += parse_line(line, &runs[nr]);
	fclose(f);
	return nr;
}

/* Any user may listen under a run's name: whoever answers must be one that this user trusts. */
static bool is_trusted(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
	       (!geteuid() || !peer.uid || peer.uid == geteuid());
}

int run_connect(const struct run_answer *a)
{
	const struct timeval bound = { .tv_sec = ANSWER_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	/* a supervisor that is stopped has a backlog of a few callers, and takes no more */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound));
	if (!connect(fd, (const struct sockaddr *)&a->addr, a->len)) {
		if (is_trusted(fd))
			return fd;
		errno = EPERM;
	}
	ret = -errno;
	close(fd);
	return ret;
}

/* --- asking --- */

/* What has come from @fd.  NULL: nothing that counts: "no", or the end. */
static char *take_answer(int fd)
{
	static char text[RUN_CONTROL_MESSAGE];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n <= 0 || *text != '{')
		return NULL;
	text[n] = '\0';
	return strdup(text);
}

/* Hears all of @pfd, for ANSWER_MS; those that have said nothing keep their descriptor. */
static void hear_all(struct run_answer *runs, struct pollfd *pfd, int nr)
{
	int64_t until = zd_now_ms() + ANSWER_MS;
	int open = 0;

	for (int i = 0; i < nr; i++)
		open += pfd[i].fd >= 0;
	while (open && zd_now_ms() < until) {
		if (poll(pfd, nr, until - zd_now_ms()) <= 0)
			continue;
		for (int i = 0; i < nr; i++) {
			if (pfd[i].fd < 0 || !pfd[i].revents)
				continue;
			runs[i].text = take_answer(pfd[i].fd);
			close(pfd[i].fd);
			pfd[i].fd = -1;
			runs[i].len = runs[i].text ? runs[i].len : 0;
			open--;
		}
	}
	for (int i = 0; i < nr; i++)
		if (pfd[i].fd >= 0)
			close(pfd[i].fd);
}

int run_ask_all(long pid, struct run_answer **answers)
{
	struct run_answer *runs = calloc(RUNS_MAX, sizeof(*runs));
	struct pollfd pfd[RUNS_MAX];
	int nr = runs ? find_runs(runs) : -ENOMEM, kept = 0;
	char request[64];

	if (nr < 0) {
		free(runs);
		return nr;
	}
	snprintf(request, sizeof(request), "stat %ld", pid);
	for (int i = 0; i < nr; i++) {
		int fd = run_connect(&runs[i]);

		pfd[i] = (struct pollfd){ .fd = fd < 0 ? -1 : fd, .events = POLLIN };
		/* EAGAIN: it takes no callers now, as one that says nothing */
		if (fd < 0 && fd != -EAGAIN)
			runs[i].len = 0;
		/* one that has ended meanwhile is noticed when it doesn't answer */
		else if (fd >= 0 && send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
			continue;
	}
	hear_all(runs, pfd, nr);
	for (int i = 0; i < nr; i++)
		if (runs[i].len)
			runs[kept++] = runs[i];
	*answers = runs;
	return kept;
}

void run_answers_free(struct run_answer *answers, int nr)
{
	for (int i = 0; i < nr; i++)
		free(answers[i].text);
	free(answers);
}

int run_ask_one(long pid, struct run_answer *answer, bool may_have_ended)
{
	struct run_answer *all = NULL;
	int nr = run_ask_all(pid, &all), silent = 0, rc;

	answer->text = NULL;
	for (int i = 0; i < nr; i++) {
		silent += !all[i].text;
		if (!all[i].text || answer->text)
			continue;
		*answer = all[i];
		all[i].text = NULL;
	}
	if (answer->text) {
		rc = 0;
	} else if (nr < 0) {
		rc = cmd_error("/proc/net/unix: %s", strerrordesc_np(-nr));
	} else if (silent) {
		cmd_error(
			"%ld: a zonedev run doesn't answer (is it stopped?), and no other has this process",
			pid);
		rc = EXIT_HELD;
	} else if (may_have_ended) {
		rc = -1;
	} else {
		rc = cmd_error(
			"%ld: no `zonedev run` of this user's has this process (see: zonedev stat)",
			pid);
	}
	run_answers_free(all, nr);
	return rc;
}
