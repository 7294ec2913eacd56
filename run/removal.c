/* SPDX-License-Identifier: MIT */
/*
 * Taking devices away; removal.h tells how.
 *
 *	USED -> LEAVING		removal_start()
 *	LEAVING -> CLOSING	the engine has moved all pages and let go of the device
 *	LEAVING -> USED		it can't: the removal is called off, tier->error says why
 *	CLOSING -> GONE		the thread has unregistered the device
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/delayed_put.h"
#include "engine/mig.h"
#include "engine/tier.h"
#include "run/close.h"
#include "run/process.h"
#include "run/removal.h"
#include "run/run.h"
#include "run/tiers.h"
#include "zonedev/log.h"

#define NAMED	4	/* processes that are named; the others are counted */

/* --- the thread --- */

/* The thread: all signals are blocked in this process. */
static void *unregister(void *arg)
{
	static const uint64_t one = 1;
	struct removal *r = arg;

	close_device(r->dev);
	/* a new eventfd's counter has room */
	if (write(r->done.fd, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

void removal_stop(struct run *run)
{
	struct removal *r = &run->removal;

	if (!r->tier)
		return;
	pthread_join(r->thread, NULL);
	zd_loop_remove(&run->server.loop, &r->done);
	close(r->done.fd);
	r->tier->state = TIER_GONE;
	r->tier = NULL;
}

static void done_ready(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, removal.done);

	(void)events;
	removal_stop(run);
	run->tick_ns = 0;
}

/* No thread, no descriptor: the next step tries again. */
static void start_thread(struct run *run, struct tier *tier)
{
	struct removal *r = &run->removal;

	if (r->tier)
		return;
	r->done.ready = done_ready;
	r->done.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->done.fd < 0)
		return;
	if (zd_loop_add(&run->server.loop, &r->done))
		goto err_close;
	r->tier = tier;
	r->dev = tier->dev;
	tier->dev = NULL;
	if (!pthread_create(&r->thread, NULL, unregister, r))
		return;
	tier->dev = r->dev;
	r->tier = NULL;
	zd_loop_remove(&run->server.loop, &r->done);
err_close:
	close(r->done.fd);
}

bool removal_has_thread(const struct run *run)
{
	return run->removal.tier;
}

/* --- the steps --- */

void removal_start(struct run *run, struct tier *tier)
{
	tier->state = TIER_LEAVING;
	tier->error = 0;
	tier->going = (struct zd_tier_removal){ .dev = tier->dev };
	run->tick_ns = 0;
}

static unsigned int nr_used(const struct run *run)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < run->nr_tiers; i++)
		nr += run->tiers[i].state == TIER_USED;
	return nr;
}

/* No entry is of the device any more; but those of a process that has just ended count until it is
 * reaped, and a page may be held by a batch. */
static bool let_go(struct run *run, struct tier *tier)
{
	const struct zd_tier *t = zd_server_find_tier(&run->server, tier->dev);

	zd_flush_delayed_puts(&run->server);
	if (t->nr_entries || zd_device_live_pages(tier->dev))
		return false;
	tiers_count(run);	/* for the last time */
	zd_server_detach(&run->server, tier->dev);
	tier->state = TIER_CLOSING;
	zd_log(nr_used(run) ? ZD_LOG_DEBUG : ZD_LOG_WARN, "%s was removed%s", tier->device,
	       nr_used(run) ? "" : ": no device is left, and what comes stays in RAM");
	return true;
}

/* True: more can be done at once. */
static bool leave(struct run *run, struct tier *tier)
{
	int rc;
	enum zd_cmd_result result = zd_tier_removal_step(&run->server, &tier->going, &rc);

	if (result == ZD_CMD_DONE && rc) {
		tier->state = TIER_USED;
		tier->error = rc;
	} else if (result == ZD_CMD_DONE) {
		return let_go(run, tier);
	}
	return result == ZD_CMD_AGAIN;
}

bool removal_step(struct run *run)
{
	bool more = false;

	if (run->server.hold_evictions)	/* background.c waits until nothing is in flight */
		return false;
	for (unsigned int i = 0; i < run->nr_tiers; i++) {
		if (run->tiers[i].state == TIER_LEAVING)
			more |= leave(run, &run->tiers[i]);
		if (run->tiers[i].state == TIER_CLOSING && run->tiers[i].dev)
			start_thread(run, &run->tiers[i]);
	}
	return more;
}

bool removal_is_active(const struct run *run)
{
	for (unsigned int i = 0; i < run->nr_tiers; i++)
		if (run->tiers[i].state == TIER_LEAVING || run->tiers[i].state == TIER_CLOSING)
			return true;
	return false;
}

/* --- who holds it --- */

static void name_processes(const struct run *run, const struct zd_tier *tier, char *text,
			   size_t len)
{
	const struct process *p;
	unsigned int nr = 0;
	size_t n = 0;

	cds_list_for_each_entry(p, &run->processes, node) {
		if (!p->mm->on_tier[tier->slot])
			continue;
		if (nr++ < NAMED && n < len)
			n += snprintf(text + n, len - n, "%s%d", nr > 1 ? ", " : "", p->pid);
	}
	if (nr > NAMED && n < len)
		snprintf(text + n, len - n, " and %u others", nr - NAMED);
}

void removal_describe(const struct run *run, const struct tier *tier, char *text, size_t len)
{
	const struct zd_tier *t = zd_server_find_tier(&run->server, tier->dev);
	unsigned long long pages = t ? zd_device_live_pages(tier->dev) : 0;
	unsigned int batches = t ? zd_migs_to(&run->server, tier->dev) : 0;
	char whose[256] = "";

	if (!t) {
		snprintf(text, len, "its driver, which lets go of it");
		return;
	}
	if (run->server.hold_evictions) {
		snprintf(text, len, "zonedev, which is about to go on in the background");
		return;
	}
	if (!pages && t->nr_entries) {
		snprintf(text, len, "%llu places of address spaces that have ended",
			 (unsigned long long)t->nr_entries);
		return;
	}
	name_processes(run, t, whose, sizeof(whose));
	snprintf(text, len, "%llu page%s%s%s, and %u batch%s under way", pages,
		 pages == 1 ? "" : "s", *whose ? " of process " : "", whose, batches,
		 batches == 1 ? "" : "es");
}
