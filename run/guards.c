/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's two guards (guard/guard.h), each of which ends the program when the
 * supervisor is killed.  One that is killed itself is started again; so the death of one,
 * by the OOM killer or by hand, is no chance for the program to read what isn't there.
 */
#include <string.h>

#include "run/run.h"
#include "zonedev/log.h"

static int start_guard(struct run *run, struct run_guard *g)
{
	/* the first also holds the descriptors where there is no keeper */
	int rc = zd_guard_start(&g->guard, run->socket_name,
				g == run->guards ? ZD_GUARD_COPY : ZD_GUARD_PROGRAM);

	if (rc)
		return rc;
	g->end.fd = g->guard.own_pidfd;
	return zd_server_add(&run->server, &g->end);
}

static void stop_guard(struct run *run, struct run_guard *g)
{
	if (!g->guard.pid)
		return;
	zd_server_remove(&run->server, &g->end);
	zd_guard_stop(&g->guard);
}

static void restart_guard(struct run *run, struct run_guard *g)
{
	int rc;

	stop_guard(run, g);
	rc = start_guard(run, g);
	if (rc)
		zd_log(ZD_LOG_WARN, "no guard: %s", strerrordesc_np(-rc));
}

static void first_ended(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, guards[0].end);

	(void)events;
	restart_guard(run, &run->guards[0]);
}

static void second_ended(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, guards[1].end);

	(void)events;
	restart_guard(run, &run->guards[1]);
}

void guards_stop(struct run *run)
{
	stop_guard(run, &run->guards[1]);
	stop_guard(run, &run->guards[0]);
}

int guards_start(struct run *run)
{
	int rc;

	run->guards[0].end.ready = first_ended;
	run->guards[1].end.ready = second_ended;
	rc = start_guard(run, &run->guards[0]);
	if (!rc && start_guard(run, &run->guards[1]))
		zd_log(ZD_LOG_DEBUG, "no second guard");
	return rc;
}
