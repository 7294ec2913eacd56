/* SPDX-License-Identifier: MIT */
/*
 * struct zd_server: what one server has, for all files of the engine; server.h tells what
 * a server is, and has the calls for its host.
 */
#ifndef ZD_ENGINE_SERVER_TYPES_H
#define ZD_ENGINE_SERVER_TYPES_H

#include <stdbool.h>
#include <stdint.h>
#include <urcu/list.h>
#include "engine/loop.h"
#include "engine/lru.h"
#include "engine/reach.h"
#include "engine/stats.h"
#include "zonedev/device.h"

struct zd_keeper;
struct zd_mm;
struct zd_server;

/* Called by the server's thread.  None may block, but for own_fault. */
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
	/* The address space lives, but can't be served any more (the server is out of
	 * memory): end the process, rather than let it read zeros. */
	void (*kill)(struct zd_mm *mm);
	/* An address that belongs to zonedev faulted.  True: served. */
	bool (*own_fault)(struct zd_mm *mm, uint64_t addr);
	/* Must the page at @addr stay in RAM?  May be NULL. */
	bool (*unevictable)(struct zd_mm *mm, uint64_t addr);
	/* ->resident is about to cause evictions: correct it if it is wrong. */
	void (*resync)(struct zd_server *server);
};

#define ZD_DELAYED_PUTS	64

#define ZD_TIERS_MAX	8

/* A device of the server (tier.h). */
struct zd_tier {
	struct zd_device *dev;		/* NULL: this slot is free */
	zd_pfn_t pfn;			/* of its pages, */
	uint64_t nr_pages;		/* so many */
	unsigned int slot;		/* in server->tier_slots */
	struct zd_source source;	/* its completions; fd -1: none are announced */
	uint64_t nr_entries;		/* DEVICE entries of all address spaces */
	bool removing;			/* its pages are going, and no others come */
	struct zd_reach reach;		/* whether the device answers */
	bool full;			/* the device was full, which has been logged */
	bool write_failed;		/* so did a write, which has been logged */
	bool silent;			/* it doesn't answer, which has been logged (silence.h) */
	bool broken;			/* its driver can't be relied on (distrust.h) */
	uint64_t pages_in, pages_home;	/* ever: came out of RAM or another tier, went home, */
	uint64_t pages_left, pages_demoted;	/* went to another tier; of these, for room */
	uint64_t nr_errors;		/* ever: pages that it failed to write, or to read for a
					 * thread that needed them */
	struct zd_fifo queue;		/* tier_queue.h */
	struct zd_tier_walk {
		unsigned int slot;
		uint64_t pos, after_ns;
	} walk;				/* so */
	uint64_t demote_after_ns;	/* demote.h: none could go a moment ago */
	uint64_t owed;			/* so: pages to send on, since there was no room */
	uint64_t share;			/* tier_share.c's; 0: not moved yet */
	uint64_t full_until_ns;		/* it had no page a moment ago */
	uint64_t pause_ns, pause_until_ns;	/* a write failed: others first */
};

/* Faults that wait (backlog.c). */
struct zd_backlog {
	struct zd_waiting_fault *v;
	size_t nr, cap;
};

/* The server's thread alone uses it, but where a field says otherwise. */
struct zd_server {
	struct zd_loop loop;
	const struct zd_server_host *host;
	void *host_data;
	void (*mm_ready)(struct zd_source *source, uint32_t events);	/* an mm's userfaultfd */
	struct cds_list_head mms;
	struct zd_mm **slots;
	unsigned int nr_slots;
	struct cds_list_head migs;	/* batches in flight */
	struct cds_list_head spare_migs;	/* landed ones, for reuse */
	unsigned int nr_spare_migs;
	unsigned int nr_migs[ZD_FROM_DEVICE + 1];	/* in flight, by direction */
	struct zd_keeper *keeper;	/* the host's, of all userfaultfds; or NULL */
	struct zd_tier *tiers[ZD_TIERS_MAX];	/* where evictions go, fastest first (tier.h) */
	unsigned int nr_tiers;
	struct zd_tier tier_slots[ZD_TIERS_MAX];
	struct zd_lru lru;
	uint64_t silence_ns;		/* when to look again for a device that doesn't answer */
	bool track;			/* pages are queued: there will be evictions */
	uint64_t limit;			/* pages of RAM that may be used (zd_server_used()); 0: any */
	uint64_t resident;		/* pages that are, as far as is known */
	uint64_t evict_after_ns;	/* no eviction before: the last got none */
	uint64_t evict_pause_ns;
	struct zd_backlog backlog;
	zd_pfn_t delayed_puts[ZD_DELAYED_PUTS];	/* delayed_put.h */
	unsigned int nr_delayed_puts;
	struct zd_stats stats;
	bool changes_pending;		/* some address space has changes to follow */
	bool hold_evictions;		/* start none */
	bool in_program;		/* the server is a thread of the program that it serves */
	unsigned int nr_shifts;		/* in flight (shift.h) */
	bool demoting;			/* one of them is a demotion */
	bool demote_more;		/* others are to follow at once */
	bool stop;
	struct zd_mm *last_fault;	/* whose fault was served in this turn */
	bool spin;			/* see spin() in poll.c */
	int spin_luck;
};

#endif
