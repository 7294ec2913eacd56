/* SPDX-License-Identifier: MIT */
/*
 * The front: under a limit of CPU time, the process that the user started, which only waits.
 *
 * RLIMIT_CPU is for each process, and the supervisor works for all of them: it would be
 * killed long before any of them has had its share.  Where the limit can't be raised
 * (CAP_SYS_RESOURCE), the process that the user started is the front: it starts the program,
 * passes signals on and waits.  Another process, here the server, serves; when half of its
 * time is used it hands over to a copy of itself, whose time begins anew (background.h).
 *
 *	front			server
 *			<-	READY	socket and token, or FAILED and the exit status
 *	CHILD	pid	->
 *	ENDED	status	->
 *			<-	DONE	the report is written
 *
 * When the connection ends before DONE the other process has died: then all die.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/poll.h"
#include "guard/family.h"
#include "run/exit.h"
#include "run/front.h"
#include "run/host.h"
#include "run/launch.h"
#include "run/run.h"
#include "run/signals.h"
#include "run/user_fds.h"
#include "zonedev/log.h"

enum kind { READY = 1, FAILED, CHILD, ENDED, DONE };

struct message {
	enum kind kind;
	int value;
	char socket_name[sizeof(((struct run *)0)->socket_name)];
	char token[ZD_AGENT_TOKEN + 1];
};

static void say(struct run *run, enum kind kind, int value)
{
	struct message m = { .kind = kind, .value = value };

	memcpy(m.socket_name, run->socket_name, sizeof(m.socket_name));
	memcpy(m.token, run->token, sizeof(m.token));
	/* if the other process has died, the end of the connection will tell */
	if (send(run->front.fd, &m, sizeof(m), MSG_NOSIGNAL) < 0)
		return;
}

static bool hear(struct run *run, struct message *m)
{
	ssize_t n;

	do
		n = recv(run->front.fd, m, sizeof(*m), 0);
	while (n < 0 && errno == EINTR);
	return n == sizeof(*m);
}

/* --- the server --- */

static void front_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, front);
	struct message m;

	(void)events;
	if (source->fd < 0)
		return;
	if (!hear(run, &m))
		raise(SIGKILL);	/* and the guard kills the programs */
	if (m.kind != ENDED)
		return;
	child_ended(&run->child, m.value);
}

int front_launch(struct run *run)
{
	struct message m;

	inherit_forked(&run->in);	/* the front keeps what the program is to inherit */
	say(run, READY, 0);
	if (!hear(run, &m) || m.kind != CHILD)
		return -ECHILD;
	run->child.pid = m.value;
	run->front.ready = front_ready;
	return zd_loop_add(&run->server.loop, &run->front);
}

void front_failed(struct run *run, int status)
{
	say(run, FAILED, status);
}

void front_done(struct run *run, int rc)
{
	say(run, DONE, rc);
	close(run->front.fd);	/* and epoll forgets it */
	run->front.fd = -1;
}

bool front_is_due(const struct run *run)
{
	struct timespec used;

	if (!run->in.cpu_seconds || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used))
		return false;
	return used.tv_sec * 1000 + used.tv_nsec / 1000000 >= (long)run->in.cpu_seconds * 500;
}

/* --- the front --- */

/* What the server says. */
static void server_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, front);
	struct message m;

	(void)events;
	if (hear(run, &m) && m.kind == DONE) {
		run->served = true;
		run->front_rc = m.value;
		return;
	}
	if (child_is_alive(&run->child))
		kill(run->child.pid, SIGKILL);
	raise(SIGKILL);
}

static int wait_for_end(struct run *run)
{
	bool told = false;
	int rc;

	run->front.ready = server_ready;
	rc = zd_loop_add(&run->server.loop, &run->front);
	if (rc)
		return rc;
	while (!run->served) {
		zd_server_poll(&run->server, -1);
		if (run->child.done && !told)
			say(run, ENDED, run->child.status);
		told = run->child.done;
	}
	return 0;
}

static int stand_in_front(struct run *run, const char *path, const char *preload)
{
	struct message m;
	int rc;

	if (!hear(run, &m) || (m.kind != READY && m.kind != FAILED))
		return exit_cant_start(-ECHILD);
	if (m.kind == FAILED)
		return m.value;
	memcpy(run->socket_name, m.socket_name, sizeof(m.socket_name));
	memcpy(run->token, m.token, sizeof(m.token));
	inherit_leave_cwd(&run->in);
	CDS_INIT_LIST_HEAD(&run->processes);
	rc = zd_server_init(&run->server, &run_host, run);
	if (!rc)
		rc = signals_open(run);
	if (rc)
		return exit_cant_start(rc);
	rc = launch(run, path, preload);
	if (rc)
		return exit_not_launched(run->opt.argv[0], rc);
	say(run, CHILD, run->child.pid);
	zd_family_oom_protect();
	user_fds_release();
	rc = wait_for_end(run);
	witness_stop(&run->witness);
	if (!rc)
		return exit_as(run->child.status, run->front_rc);
	zd_log(ZD_LOG_ERR, "%s", strerrordesc_np(-rc));
	return RUN_EXIT_FAILED;
}

int front_run(struct run *run, const char *path, const char *preload)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return exit_cant_start(-errno);
	pid = fork();
	if (pid < 0)
		return exit_cant_start(-errno);
	run->front.fd = pair[!pid];
	close(pair[pid > 0]);
	if (pid)
		return stand_in_front(run, path, preload);
	witness_forget(&run->witness);
	setsid();	/* the front and the program get the signals of the group */
	return -1;
}
