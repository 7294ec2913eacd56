/* SPDX-License-Identifier: MIT */
/*
 * The server: one thread that owns everything that decides.
 *
 * Mechanism.  One epoll loop over userfaultfds, the device's completions and
 * whatever its host adds (sockets, timers, commands).  Entries, ranges, queues
 * and batches belong to this thread alone, so none of them needs a lock, and
 * the order in which it reads events is the order in which they happened: an
 * event is processed wholly before the next message, completion or command is
 * looked at.  Nothing in the loop blocks on the programs that it serves; what
 * must wait (a fault on a locked entry, a move that an agent makes) is a state,
 * not a sleeping thread.
 *
 * The server doesn't know whose address spaces it serves: see struct
 * zd_server_host.
 */
#ifndef ZD_ENGINE_SERVER_H
#define ZD_ENGINE_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <urcu/list.h>
#include "base/time.h"
#include "engine/loop.h"
#include "engine/lru.h"
#include "engine/stats.h"
#include "zonedev/device.h"

struct zd_keeper;
struct zd_mm;
struct zd_mig;
struct zd_server;

struct zd_server_host {
	/* A fault outside every managed range: find its mapping and
	 * zd_mm_adopt() it.  False: there is none (yet). */
	bool (*unknown_fault)(struct zd_mm *mm, uint64_t addr);
	/* The parent forked: @child has been created; give it its mover when
	 * there is one. */
	void (*forked)(struct zd_mm *parent, struct zd_mm *child);
	/* The address space is gone; zd_mm_destroy() it when convenient, not
	 * from inside this call. */
	void (*died)(struct zd_mm *mm);
	/* It lives, but can't be served any more (we are out of memory): end
	 * it, rather than let it read zeros. */
	void (*kill)(struct zd_mm *mm);
	/* An address that belongs to zonedev faulted.  True: served. */
	bool (*own_fault)(struct zd_mm *mm, uint64_t addr);
	/* Must the page at @addr stay in RAM?  May be NULL. */
	bool (*kept)(struct zd_mm *mm, uint64_t addr);
	/* ->resident is about to cause evictions: correct it if it is wrong. */
	void (*resync)(struct zd_server *server);
};

#define ZD_PUT_LATER	64

/* A fault that has to wait for a batch or for room. */
struct zd_backlog {
	unsigned int slot;
	uint64_t addr;
	uint64_t start_ns;
	uint64_t flags;
};

struct zd_server {
	struct zd_loop loop;
	const struct zd_server_host *host;
	void *host_data;
	struct cds_list_head mms;
	struct zd_mm **slots;
	unsigned int nr_slots;
	struct cds_list_head migs;	/* batches in flight */
	struct zd_mig *spare;		/* landed ones, for reuse */
	unsigned int nr_migs[ZD_FROM_DEVICE + 1];	/* in flight, by direction */
	struct zd_keeper *keeper;	/* the host's, of all userfaultfds; or NULL */
	struct zd_device *dev;		/* where evictions go */
	struct zd_source dev_source;
	struct zd_lru lru;
	bool track;			/* keep queues: somebody will evict */
	uint64_t limit;			/* pages that may be resident; 0: any */
	uint64_t resident;		/* pages that are, as far as we know */
	uint64_t evict_after_ns;	/* no eviction before: the last got none */
	uint64_t evict_pause_ns;
	bool full;			/* the device was, and we said so */
	bool write_failed;		/* so did a write, and we said so */
	struct zd_backlog *backlog;
	size_t nr_backlog, cap_backlog;
	zd_pfn_t put_later[ZD_PUT_LATER];	/* see zd_server_put_later() */
	unsigned int nr_put_later;
	struct zd_stats stats;
	bool unsettled;			/* some address space has changes to follow */
	bool hold_evictions;		/* start none */
	bool stop;
	struct zd_mm *last_fault;	/* whose fault was served in this poll */
	bool spin;			/* see spin() */
	int spin_luck;
};

int zd_server_init(struct zd_server *server, const struct zd_server_host *host, void *host_data);
/* When no batch is in flight any more. */
void zd_server_destroy(struct zd_server *server);
/* Where evictions go from now on.  -EBUSY: another server's. */
int zd_server_attach(struct zd_server *server, struct zd_device *dev);
void zd_server_detach(struct zd_server *server);

/* Sources may be removed, and address spaces destroyed, only between two calls
 * of this one: what epoll has reported is handled in it.
 *
 * Wait at most @timeout_ms (-1: for ever) for something, handle all of it.
 * Returns the number of sources that were ready, or -errno. */
int zd_server_poll(struct zd_server *server, int timeout_ms);

/*
 * Put a reference to a device page that is home, after whoever waited for it has
 * been served.  Not much later: before the server sleeps, before it looks at an
 * event, before it takes pages of the device and finds too few, and before
 * zd_server_poll() returns.  So commands, reports and removals don't meet one.
 */
void zd_server_settle(struct zd_server *server);

static inline void zd_server_put_later(struct zd_server *server, zd_pfn_t pfn)
{
	if (server->nr_put_later == ZD_PUT_LATER)
		zd_server_settle(server);
	server->put_later[server->nr_put_later++] = pfn;
}

/* @mm dies: its waiting faults are nobody's. */
void zd_server_forget(struct zd_server *server, const struct zd_mm *mm);

/* Let a waiting fault try again when the next batch lands. */
void zd_server_defer(struct zd_server *server, struct zd_mm *mm, uint64_t addr, uint64_t flags,
		     uint64_t start_ns);

/* Start evictions if more pages are resident than should be (evict.c). */
void zd_server_evict(struct zd_server *server);
/* Is a fault that adds a page to wait for an eviction that is under way? */
bool zd_server_throttle(struct zd_server *server);

/* Messages of one userfaultfd (event.c): returns how many; and one fault
 * (fault.c). */
unsigned int zd_mm_read(struct zd_mm *mm);
void zd_mm_ready(struct zd_source *source, uint32_t events);
void zd_fault(struct zd_mm *mm, uint64_t addr, uint64_t flags, uint64_t start_ns);
/* Its page, and neighbours from @addr on, is in place; before it is woken if it
 * was timed, that is @start_ns isn't 0. */
void zd_fault_end(struct zd_server *server, uint64_t addr, uint64_t start_ns);

#endif
