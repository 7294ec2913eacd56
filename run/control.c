/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's end of the control socket; control.h has the messages.
 *
 * Callers are sources of the server's loop.  Each request is answered at once, in one packet, but
 * for a removal's: its callers are told by control_step(), from the state of the tier.  A removal
 * goes on when the callers that asked for it have given up, as `zonedev remove` of a region does.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/time.h"
#include "run/control.h"
#include "run/process.h"
#include "run/removal.h"
#include "run/report_json.h"
#include "run/run.h"
#include "run/tiers.h"
#include "zonedev/log.h"

#define TELL_NS		1000000000ull	/* between two "wait" messages, whose text must differ */

static void send_packet(struct run_caller *c, const char *text)
{
	/* a caller that has gone, or doesn't read, misses the message */
	if (send(c->source.fd, text, strlen(text) + 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
}

__attribute__((format(printf, 2, 3)))
static void say(struct run_caller *c, const char *fmt, ...)
{
	char line[RUN_CONTROL_TEXT + 64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	send_packet(c, line);
}

static void hang_up(struct run_caller *c)
{
	zd_loop_remove(&c->run->server.loop, &c->source);
	close(c->source.fd);
	c->source.fd = -1;
	c->tier = NULL;
}

/* --- requests --- */

static bool is_mine(const struct run *run, pid_t pid)
{
	const struct process *p;

	if (!pid || pid == getpid() || (pid == run->in.pid && !run->background))
		return true;
	cds_list_for_each_entry(p, &run->processes, node)
		if (p->pid == pid)
			return true;
	return false;
}

static void do_stat(struct run_caller *c, const char *args)
{
	json_t *root;
	char *text;

	if (!is_mine(c->run, strtol(args, NULL, 10))) {
		say(c, "no");
		return;
	}
	root = report_json_live(c->run);
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	if (text && strlen(text) < RUN_CONTROL_MESSAGE)
		send_packet(c, text);
	else
		say(c, "error out of memory");
	free(text);
}

/* True: the talk goes on. */
static bool do_remove(struct run_caller *c, const char *args)
{
	struct tier *tier;
	long long pid, ms;
	int at = 0;

	if (sscanf(args, "%lld %lld %n", &pid, &ms, &at) != 2 || !at) {
		say(c, "error this zonedev doesn't understand the request");
		return false;
	}
	if (!is_mine(c->run, pid)) {
		say(c, "no");
		return false;
	}
	tier = tier_named(c->run, args + at);
	if (!tier) {
		say(c, "error there is no device %.200s (see: zonedev stat %lld)", args + at, pid);
		return false;
	}
	if (tier->state == TIER_GONE) {
		say(c, "error %s was removed before", tier->name);
		return false;
	}
	if (tier->state == TIER_USED)
		removal_start(c->run, tier);
	c->tier = tier;
	c->deadline_ns = ms < 0 ? 0 : zd_now_ns() + ms * 1000000ull;
	c->tell_ns = zd_now_ns() + TELL_NS;
	*c->told = '\0';
	return true;
}

/* The caller has sent a message, or hung up. */
static void caller_ready(struct zd_source *source, uint32_t events)
{
	struct run_caller *c = caa_container_of(source, struct run_caller, source);
	char line[RUN_CONTROL_TEXT];
	ssize_t n;

	(void)events;
	if (source->fd < 0)
		return;
	n = recv(source->fd, line, sizeof(line) - 1, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* a caller that hangs up while it waits doesn't call the removal off */
	if (n > 0 && !c->tier) {
		line[n] = '\0';
		if (!strncmp(line, "stat ", 5))
			do_stat(c, line + 5);
		else if (strncmp(line, "remove ", 7))
			say(c, "error this zonedev doesn't know '%.32s'", line);
		else if (do_remove(c, line + 7))
			return;
	}
	hang_up(c);
}

/* --- removals --- */

/* @c waits for a tier that is leaving. */
static void still_there(struct run_caller *c, uint64_t now)
{
	char text[RUN_CONTROL_TEXT];
	bool late = c->deadline_ns && now >= c->deadline_ns;

	if (!late && now < c->tell_ns)
		return;
	removal_describe(c->run, c->tier, text, sizeof(text));
	if (late) {
		say(c, "held %s", text);
		hang_up(c);
	} else if (strcmp(c->told, text)) {
		say(c, "wait %s", text);
		memcpy(c->told, text, sizeof(text));
	}
	c->tell_ns = now + TELL_NS;
}

void control_step(struct run *run)
{
	uint64_t now = zd_now_ns();

	for (unsigned int i = 0; i < RUN_CONTROL_CALLERS; i++) {
		struct run_caller *c = &run->control.caller[i];

		if (c->source.fd < 0 || !c->tier)
			continue;
		switch (c->tier->state) {
		case TIER_LEAVING:
		case TIER_CLOSING:
			still_there(c, now);
			continue;
		case TIER_GONE:
			say(c, "ok");
			break;
		case TIER_USED:
			say(c, "stays %s",
			    c->tier->error == -ENOMEM ? "there is no memory for what is on it" :
							"it can't read back what is on it");
			break;
		}
		hang_up(c);
	}
}

/* --- open and close --- */

static bool may_ask(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
	       (!peer.uid || peer.uid == geteuid());
}

static void listen_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, control.listen);
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct run_caller *c = run->control.caller;

	(void)events;
	if (fd < 0)
		return;
	while (c < run->control.caller + RUN_CONTROL_CALLERS && c->source.fd >= 0)
		c++;
	if (c == run->control.caller + RUN_CONTROL_CALLERS || !may_ask(fd)) {
		close(fd);
		return;
	}
	c->source.fd = fd;
	if (zd_loop_add(&run->server.loop, &c->source)) {
		close(fd);
		c->source.fd = -1;
	}
}

static int bind_and_listen(int fd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	uint64_t r;
	int n;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		return -EIO;
	n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, RUN_CONTROL_NAME "%d.%016llx",
		     (int)getpid(), (unsigned long long)r);
	if (bind(fd, (struct sockaddr *)&sa, offsetof(struct sockaddr_un, sun_path) + 1 + n) ||
	    listen(fd, RUN_CONTROL_CALLERS))
		return -errno;
	return 0;
}

void control_open(struct run *run)
{
	struct zd_source *l = &run->control.listen;
	int rc;

	for (unsigned int i = 0; i < RUN_CONTROL_CALLERS; i++)
		run->control.caller[i] = (struct run_caller){
			.source = { .fd = -1, .ready = caller_ready },
			.run = run,
		};
	l->ready = listen_ready;
	l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = l->fd < 0 ? -errno : bind_and_listen(l->fd);
	if (!rc)
		rc = zd_loop_add(&run->server.loop, l);
	if (!rc)
		return;
	zd_log(ZD_LOG_WARN, "`zonedev stat` won't find this run: no control socket: %s",
	       strerrordesc_np(-rc));
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

void control_close(struct run *run)
{
	for (unsigned int i = 0; i < RUN_CONTROL_CALLERS; i++) {
		struct run_caller *c = &run->control.caller[i];

		if (c->source.fd < 0)
			continue;
		if (c->tier)
			say(c, "ok");
		hang_up(c);
	}
	if (run->control.listen.fd < 0)
		return;
	zd_loop_remove(&run->server.loop, &run->control.listen);
	close(run->control.listen.fd);
	run->control.listen.fd = -1;
}
