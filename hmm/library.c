/* SPDX-License-Identifier: MIT */
/* The server's thread, and the calls that others make of it; see library.h. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "hmm/library.h"
#include "space/uffd.h"
#include "zonedev/log.h"

bool zd_library_managed(const struct zd_mm *mm, uint64_t start, uint64_t end)
{
	const struct zd_range *r = zd_ranges_find(&mm->ranges, start);

	return r && r->end >= end;
}

int zd_library_pages(const void *addr, size_t len, uint64_t *start, uint64_t *end)
{
	uint64_t a = (uintptr_t)addr;

	if (a + len < a || a + len > UINT64_C(1) << ZD_VA_BITS)
		return -EINVAL;
	*start = (a + ZD_PAGE_SIZE - 1) & ~(ZD_PAGE_SIZE - 1);
	*end = (a + len) & ~(ZD_PAGE_SIZE - 1);
	return *start < *end ? 0 : -EINVAL;
}

/* --- commands --- */

static void start_guards(struct zd_library *lib)
{
	if (zd_guard_start(&lib->guard, lib->mark, ZD_GUARD_SHARED))
		zd_log(ZD_LOG_WARN, "no guard: if this process is killed its children may read "
		       "zeros for pages that are on the device");
	/* without a keeper it would come too late */
	else if (lib->keeper.fd >= 0)
		zd_guard_start(&lib->second_guard, lib->mark, ZD_GUARD_PROGRAM);
}

void zd_library_stop_guards(struct zd_library *lib)
{
	zd_guard_stop(&lib->second_guard);
	zd_guard_stop(&lib->guard);
}

int zd_library_attach(struct zd_library *lib, struct zd_device *dev)
{
	struct zd_pagemap *pgmap;
	int rc;

	if (lib->server.dev)
		return lib->server.dev == dev ? 0 : -EBUSY;
	/* A removal that begins now waits for this hold, and finds the host then. */
	pgmap = zd_get_dev_pagemap(dev->pgmap.pfn);
	if (!pgmap)
		return -ENODEV;
	rc = zd_server_attach(&lib->server, dev);
	if (!rc)
		/* release: whose host it is comes first; pairs with the acquire
		 * in device_revoke() */
		__atomic_store_n(&dev->host, &zd_library_device_host, __ATOMIC_RELEASE);
	zd_put_dev_pagemap(pgmap);
	/* Before the first page goes: a fork returns as soon as its event is
	 * read, and the next thing may be a SIGKILL. */
	if (!rc && !lib->guard.pid)
		start_guards(lib);
	return rc;
}

int zd_library_callable(const struct zd_library *lib)
{
	if (!zd_is_this_process(&lib->process)) {
		zd_warn_once("a zd_mm belongs to the process that opened it, not to its children");
		return -EINVAL;
	}
	if (pthread_equal(pthread_self(), lib->thread)) {
		zd_warn_once("a driver's callback can't migrate memory: it would wait for itself");
		return -EINVAL;
	}
	return 0;
}

int zd_library_send(struct zd_library *lib, struct zd_cmd *cmd)
{
	static const uint64_t one = 1;
	struct zd_cmd *head = __atomic_load_n(&lib->inbox, __ATOMIC_RELAXED);
	int rc = zd_library_callable(lib);

	if (rc)
		return rc;
	zd_completion_init(&cmd->done);
	do {
		cmd->next = head;
		/* release: the server sees the command whole; pairs with the
		 * exchange in take_inbox() */
	} while (!__atomic_compare_exchange_n(&lib->inbox, &head, cmd, true,
					      __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	while (write(lib->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	return 0;
}

int zd_library_call(struct zd_library *lib, struct zd_cmd *cmd)
{
	int rc = zd_library_send(lib, cmd);

	if (rc)
		return rc;
	zd_wait_for_completion(&cmd->done);
	return cmd->rc;
}

static void take_inbox(struct zd_library *lib)
{
	struct zd_cmd *cmd = __atomic_exchange_n(&lib->inbox, NULL, __ATOMIC_ACQUIRE);
	struct zd_cmd *in_order = NULL, *next, **tail;

	for (; cmd; cmd = next) {
		next = cmd->next;
		cmd->next = in_order;
		in_order = cmd;
	}
	for (tail = &lib->active; *tail; tail = &(*tail)->next)
		;
	*tail = in_order;
}

void zd_library_inbox_ready(struct zd_source *source, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(source->fd, &n, sizeof(n)) < 0)
		return;
	take_inbox(caa_container_of(source, struct zd_library, wake));
}

/* Step every command once.  True: some can go on at once. */
static bool step_commands(struct zd_library *lib)
{
	struct zd_cmd **link = &lib->active, *cmd;
	bool again = false;

	/* the caller knows of changes that have been read and not been followed yet */
	if (!zd_mm_is_current(lib->mm) && !zd_mm_still(lib->mm))
		return lib->active;
	while ((cmd = *link)) {
		enum zd_cmd_result r = cmd->step(lib, cmd);

		again |= r == ZD_CMD_AGAIN;
		if (r == ZD_CMD_DONE) {
			*link = cmd->next;
			zd_complete(&cmd->done);
		} else {
			link = &cmd->next;
		}
	}
	return again;
}

/* Children whose address space is gone. */
static void reap(struct zd_library *lib)
{
	struct zd_mm *mm, *next;

	cds_list_for_each_entry_safe(mm, next, &lib->server.mms, node) {
		if (mm == lib->mm)
			continue;
		if (mm->dead || !zd_uffd_mm_alive(zd_mm_uffd(mm)))
			zd_mm_destroy(mm);
	}
}

static bool has_children(const struct zd_library *lib)
{
	return lib->server.mms.next != lib->server.mms.prev;
}

#define WAIT_MS		10	/* commands may have a deadline */
#define REAP_MS		100	/* no descriptor tells that a child has ended */

void *zd_library_thread(void *arg)
{
	struct zd_library *lib = arg;
	uint64_t reap_at = 0;
	bool again = false;

	pthread_setname_np(pthread_self(), "zonedev");
	while (!lib->server.stop) {
		zd_server_poll(&lib->server, again ? 0 : lib->active ? WAIT_MS :
			       has_children(lib) ? REAP_MS : -1);
		again = step_commands(lib);
		if (has_children(lib) && zd_now_ns() >= reap_at) {
			reap(lib);
			reap_at = zd_now_ns() + REAP_MS * 1000000ull;
		}
	}
	/* here, because it takes the end of this thread for a death */
	zd_library_stop_guards(lib);
	return NULL;
}

struct stats_cmd {
	struct zd_cmd cmd;
	struct zd_mm_stats stats;
};

static enum zd_cmd_result stats_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	caa_container_of(cmd, struct stats_cmd, cmd)->stats = lib->server.stats.c;
	return ZD_CMD_DONE;
}

int zd_mm_get_stats_sized(struct zd_mm *mm, struct zd_mm_stats *stats, size_t size)
{
	struct stats_cmd *c;
	int rc;

	if (!mm || !stats || !size || size > sizeof(*stats))
		return -EINVAL;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->cmd.step = stats_step;
	rc = zd_library_call(zd_library_of(mm), &c->cmd);
	if (!rc)
		memcpy(stats, &c->stats, size);
	zd_free(c);
	return rc;
}
