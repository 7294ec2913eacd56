/* SPDX-License-Identifier: MIT */
/* The loop; its rules are told in server.h. */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "engine/mig.h"
#include "engine/mm.h"
#include "engine/server.h"
#include "space/uffd.h"

#define SPIN_NS		30000	/* about what a wake-up costs */
#define SPIN_FAULTS	32	/* then the other sources get a look */
#define SPIN_LUCK	8
#define SPIN_REST	256
#define STILL_YIELDS	8
#define RETRY_MS	1	/* while something waits that no descriptor announces */

int zd_server_init(struct zd_server *server, const struct zd_server_host *host, void *host_data)
{
	memset(server, 0, sizeof(*server));
	server->host = host;
	server->host_data = host_data;
	CDS_INIT_LIST_HEAD(&server->mms);
	CDS_INIT_LIST_HEAD(&server->migs);
	server->dev_source.fd = -1;
	return zd_loop_init(&server->loop);
}

void zd_server_destroy(struct zd_server *server)
{
	struct zd_mig *mig;

	ZD_BUG_ON(!cds_list_empty(&server->migs), "a server ends with pages in flight");
	zd_server_detach(server);
	while ((mig = server->spare)) {
		server->spare = mig->landed_data;
		zd_unreserve(mig->buffer, ZD_STAGING_BYTES);
		zd_free(mig);
	}
	zd_lru_destroy(&server->lru);
	zd_free(server->backlog);
	zd_free(server->slots);
	zd_loop_destroy(&server->loop);
}

static void dev_ready(struct zd_source *source, uint32_t events)
{
	struct zd_server *server = caa_container_of(source, struct zd_server, dev_source);

	(void)events;
	server->dev->ops->reap(server->dev, false);
}

int zd_server_attach(struct zd_server *server, struct zd_device *dev)
{
	void *owner = NULL;
	int rc = 0;

	/* Two servers may want the device at once; and a thread that submits to it without a
	 * server finishes first.  The server doesn't wait for that thread, which may touch
	 * memory whose faults this server serves. */
	if (!zd_trylock_word(&dev->submit_lock))
		return -EAGAIN;
	if (!__atomic_compare_exchange_n(&dev->server, &owner, server, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE) && owner != server)
		rc = -EBUSY;
	zd_unlock_word(&dev->submit_lock);
	if (rc)
		return rc;
	server->dev = dev;
	if (dev->event_fd >= 0 && server->dev_source.fd < 0) {
		server->dev_source.fd = dev->event_fd;
		server->dev_source.ready = dev_ready;
		rc = zd_loop_add(&server->loop, &server->dev_source);
		if (rc)
			zd_server_detach(server);
	}
	return rc;
}

void zd_server_detach(struct zd_server *server)
{
	ZD_BUG_ON(server->nr_put_later, "%u pages of a device that is let go are still held",
		  server->nr_put_later);
	if (server->dev_source.fd >= 0)
		zd_loop_remove(&server->loop, &server->dev_source);
	server->dev_source.fd = -1;
	if (server->dev)
		__atomic_store_n(&server->dev->server, NULL, __ATOMIC_RELEASE);
	server->dev = NULL;
}

void zd_server_settle(struct zd_server *server)
{
	for (unsigned int i = 0; i < server->nr_put_later; i++)
		zd_put_page(zd_pfn_to_page(server->put_later[i]));
	server->nr_put_later = 0;
}

void zd_server_defer(struct zd_server *server, struct zd_mm *mm, uint64_t addr, uint64_t flags,
		     uint64_t start_ns)
{
	if (server->nr_backlog == server->cap_backlog) {
		size_t cap = server->cap_backlog ? server->cap_backlog * 2 : 64;
		struct zd_backlog *b = zd_realloc(server->backlog, cap * sizeof(*b));

		if (!b) {	/* it faults again and asks anew */
			zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
			return;
		}
		server->backlog = b;
		server->cap_backlog = cap;
	}
	server->backlog[server->nr_backlog++] =
		(struct zd_backlog){ mm->slot, addr, start_ns, flags };
}

void zd_server_forget(struct zd_server *server, const struct zd_mm *mm)
{
	size_t kept = 0;

	for (size_t i = 0; i < server->nr_backlog; i++)
		if (server->backlog[i].slot != mm->slot)
			server->backlog[kept++] = server->backlog[i];
	server->nr_backlog = kept;
	if (server->last_fault == mm)
		server->last_fault = NULL;
}

/* Faults that waited, once each: what must wait on is deferred again. */
static void run_backlog(struct zd_server *server)
{
	size_t nr = server->nr_backlog;

	for (size_t i = 0; i < nr; i++) {
		struct zd_backlog b = server->backlog[i];
		struct zd_mm *mm = server->slots[b.slot];

		if (mm)
			zd_fault(mm, b.addr, b.flags, b.start_ns);
	}
	server->nr_backlog -= nr;
	memmove(server->backlog, server->backlog + nr,
		server->nr_backlog * sizeof(*server->backlog));
}

static int wait_ms(const struct zd_server *server, int timeout_ms)
{
	bool retry = server->nr_backlog || server->unsettled;
	struct zd_mig *mig;

	cds_list_for_each_entry(mig, &server->migs, node)
		retry |= mig->retry;
	if (retry && (timeout_ms < 0 || timeout_ms > RETRY_MS))
		return RETRY_MS;
	return timeout_ms;
}

/*
 * A program that faults often faults again at once, and to be woken for it, on a
 * CPU that went to sleep meanwhile, costs more than the fault.  So after a fault
 * the server looks for the next one for a while before it sleeps, and lets any
 * other thread that wants the CPU have it.
 *
 * It spins while it is lucky: a fault found scores, an empty spin costs, and a
 * server without luck tries again only now and then.  One that lives in the
 * program doesn't spin: it would keep itself off the program's CPU, where its
 * next wake-up is cheapest.  It just looks once more after each fault
 * (zd_mm_ready()).
 */
static void spin(struct zd_server *server)
{
	struct zd_mm *mm = server->last_fault;
	uint64_t until;

	server->last_fault = NULL;
	if (!mm || !server->spin || (server->spin_luck < 0 && ++server->spin_luck < 0))
		return;
	until = zd_now_ns() + SPIN_NS;
	for (unsigned int found = 0; found < SPIN_FAULTS;) {
		if (zd_mm_read(mm)) {
			found++;
			server->spin_luck = SPIN_LUCK;
			until = zd_now_ns() + SPIN_NS;
			continue;
		}
		if (zd_now_ns() >= until) {
			if (!found && --server->spin_luck < 0)
				server->spin_luck = -SPIN_REST;
			return;
		}
		sched_yield();
	}
}

/*
 * The thread whose event has been read has to run before its address space is still, and
 * nothing tells of that.  It runs soon: faults that wait for it shall not wait until the
 * next look at the clock.
 */
static void wait_for_still(struct zd_server *server)
{
	for (unsigned int i = 0; server->unsettled && i < STILL_YIELDS; i++) {
		server->unsettled = !zd_mms_settle(server);
		if (server->unsettled)
			sched_yield();
	}
}

int zd_server_poll(struct zd_server *server, int timeout_ms)
{
	int n;

	spin(server);
	wait_for_still(server);
	zd_server_settle(server);
	n = zd_loop_wait(&server->loop, wait_ms(server, timeout_ms));
	if (n < 0)
		return n == -EINTR ? 0 : n;
	if (server->unsettled)
		server->unsettled = !zd_mms_settle(server);
	zd_migs_retry(server);
	if (server->nr_backlog)
		run_backlog(server);
	zd_server_evict(server);
	zd_server_settle(server);
	return n;
}
