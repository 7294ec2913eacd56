/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "run/guards.h"
#include "zonedev/log.h"

static int start_guard(struct guards *all, struct run_guard *g)
{
	/* the first one also holds the descriptors, for where there is no keeper */
	int rc = zd_guard_start(&g->guard, all->mark,
				g == all->guard ? ZD_GUARD_COPY : ZD_GUARD_PROGRAM);

	if (rc)
		return rc;
	g->end.fd = g->guard.own_pidfd;
	return zd_loop_add(&all->server->loop, &g->end);
}

static void stop_guard(struct guards *all, struct run_guard *g)
{
	if (!g->guard.pid)
		return;
	zd_loop_remove(&all->server->loop, &g->end);
	zd_guard_stop(&g->guard);
}

static void restart_guard(struct guards *all, struct run_guard *g)
{
	int rc;

	stop_guard(all, g);
	rc = start_guard(all, g);
	if (rc)
		zd_log(ZD_LOG_WARN, "no guard: %s", strerrordesc_np(-rc));
}

static void first_ended(struct zd_source *source, uint32_t events)
{
	struct guards *all = caa_container_of(source, struct guards, guard[0].end);

	(void)events;
	restart_guard(all, &all->guard[0]);
}

static void second_ended(struct zd_source *source, uint32_t events)
{
	struct guards *all = caa_container_of(source, struct guards, guard[1].end);

	(void)events;
	restart_guard(all, &all->guard[1]);
}

void guards_stop(struct guards *all)
{
	stop_guard(all, &all->guard[1]);
	stop_guard(all, &all->guard[0]);
}

int guards_start(struct guards *all, struct zd_server *server, const char *mark)
{
	int rc;

	all->server = server;
	all->mark = mark;
	all->guard[0].end.ready = first_ended;
	all->guard[1].end.ready = second_ended;
	rc = start_guard(all, &all->guard[0]);
	if (!rc && start_guard(all, &all->guard[1]))
		zd_log(ZD_LOG_DEBUG, "no second guard");
	return rc;
}
