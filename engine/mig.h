/* SPDX-License-Identifier: MIT */
/*
 * Pages in flight, in either direction.
 *
 * struct zd_mig is a batch of locked entries: from the moment their entry has
 * ZD_ENTRY_LOCK until it loses it.  Out: entries locked, device pages
 * allocated -> moving (the mover) -> fetched (into device memory, or into the
 * batch's buffer and from there to the device) -> recorded.  Home: entries
 * locked -> reading -> put in place.
 *
 * What happens to the address space meanwhile finds the pages here: an unmap
 * or madvise drops them (mm = NULL), an mremap changes their address, a fork
 * adds a sharer, the end of the process drops them all.  What lands a batch
 * (land.c, home.c) looks at the owners that are left.
 *
 * Invariants.  A locked entry is LOCK alone (out) or DEVICE|LOCK (home), and belongs
 * to exactly one page of one batch, or to one sharer of such a page.  A batch is on
 * server->migs from the first lock to the last unlock.  OUT: a page of the batch owns its
 * device page (count 0, allocated) until that is recorded; a free device page doesn't hold
 * the pagemap, so the batch does.  HOME: the entry's reference is the batch's while the
 * entry is locked.
 *
 * Context.  The server's thread; no call here blocks.
 */
#ifndef ZD_ENGINE_MIG_H
#define ZD_ENGINE_MIG_H

#include <urcu/list.h>
#include "engine/lru.h"
#include "engine/mm.h"
#include "zonedev/device.h"

#define ZD_MIG_MAX	ZD_STAGING_SLOTS
/* Of a page that stays since its device can't be reached now.  The device says EAGAIN, but the
 * engine's own EAGAIN is of the address space. */
#define ZD_MIG_AWAY	(-EHOSTUNREACH)
_Static_assert(ZD_MIG_MAX <= ZD_IO_PAGES_MAX, "drivers get no larger batches");

/* A forked child's entry for a page in flight. */
struct zd_mig_sharer {
	struct zd_mig_sharer *next;
	struct zd_mm *mm;	/* NULL: dropped */
	uint64_t addr;
};

struct zd_mig_page {
	struct zd_mm *mm;	/* NULL: dropped; once the step is DONE not looked at, the address
				 * space may have ended */
	uint64_t addr;
	zd_pfn_t pfn;		/* 0: given back, or passed on */
	zd_pfn_t from;		/* of a shift: the old page */
	int error;		/* of the move (EMLINK: shared), then of the device */
	enum zd_mig_step {
		ZD_MIG_MOVING,	/* the mover, or the device's read, has it */
		ZD_MIG_WRITE,	/* content read, in the buffer: a device is to have it (write.h) */
		ZD_MIG_STORE,	/* content read: becomes a device page */
		ZD_MIG_BACK,	/* content read: goes back where it was */
		ZD_MIG_DONE,
	} step;
	bool recalled;		/* an owner has it back already (recall.c) */
	bool zero;		/* it was all zeros: no device page */
	bool marked;		/* it left its mark (uffd.h) where it was */
	bool live;		/* migrate_vma: @pfn is initialised, and its caller's until
				 * it is recorded */
	void *content;		/* once it has been read from staging */
	struct zd_mig_sharer *sharers;
};

/* Why pages come home, and so what happens to one that the device can't read. */
enum zd_home_for {
	ZD_HOME_FAULT,	/* a thread needs one of the pages: that one is lost, others stay away */
	ZD_HOME_MOVE,	/* no thread needs the page: it stays away; see mm->home_error */
	ZD_HOME_CLOSE,	/* no later attempt will be made: the page is lost */
};

struct zd_mig {
	struct cds_list_head node;	/* server->migs */
	struct zd_server *server;
	enum zd_io_dir dir;
	struct zd_mm *mm;		/* whose mover, or whose fault; NULL: @mm has died */
	struct zd_device *dev;		/* that all pages of the batch come from, or go to; */
	struct zd_device *from;		/* shift.h: where the pages are until then; else NULL */
	bool pass_on;			/* OUT: what it doesn't take goes to the next tier */
	struct zd_pagemap *pgmap;	/* OUT: of the device, held */
	uint64_t start_ns;
	uint64_t first;			/* for the probes: address of the first page, */
	unsigned int gone;		/* and how many went */
	uint64_t submit_ns;		/* when the driver was given the batch; 0: it hasn't it */
	bool is_fault;
	struct zd_device *asked;	/* whose driver has the batch, or had it last */
	bool unanswered;		/* the driver may still be using the buffer (distrust.h) */
	enum zd_home_for why;	/* HOME */
	uint64_t needed;	/* HOME_FAULT: the address of the fault */
	/* migrate_vma: the content is in the buffer, the caller decides */
	void (*fetched)(struct zd_mig *mig);
	bool retry;		/* some page could not be put back yet: ->land() again */
	void (*land)(struct zd_mig *mig);	/* OUT: zd_out_land() */
	/* told when the batch has landed, just before it is freed */
	void (*landed)(struct zd_mig *mig);
	void *data;			/* of ->fetched and ->landed */
	unsigned int nr;
	struct zd_mig_page page[ZD_MIG_MAX];
	struct zd_device_io io;
	struct zd_io_page io_page[ZD_MIG_MAX];
	uint16_t io_index[ZD_MIG_MAX];	/* io_page[k] is page[io_index[k]] */
	char *buffer;			/* ZD_MIG_MAX pages, committed as used */
};

struct zd_mig *zd_mig_new(struct zd_server *server, struct zd_mm *mm, enum zd_io_dir dir);
void zd_mig_free(struct zd_mig *mig);

static inline void *zd_mig_buffer(struct zd_mig *mig, unsigned int i)
{
	return mig->buffer + i * ZD_PAGE_SIZE;
}

/* Events, for all batches of the server.  @next: what the entries become. */
void zd_migs_drop(struct zd_mm *mm, uint64_t start, uint64_t end, zd_entry_t next);
void zd_migs_remap(struct zd_mm *mm, uint64_t from, uint64_t to, uint64_t len);
/* @child was forked from @parent: what is on its way out of @parent leaves
 * @child as well.  The parent's mover must have been cancelled.  -ENOMEM. */
int zd_migs_fork(struct zd_mm *parent, struct zd_mm *child);
/* @mm is being destroyed, its pages have been dropped. */
void zd_migs_forget_mm(struct zd_mm *mm);
/* Try again to land those that want it; after new events have been read. */
void zd_migs_retry(struct zd_server *server);
/* How many batches are on their way to @dev, or from it to another device? */
unsigned int zd_migs_to(const struct zd_server *server, const struct zd_device *dev);
/* Has a batch on its way to @dev, or from it to another device, a page from @first on? */
bool zd_migs_have(const struct zd_server *server, const struct zd_device *dev, zd_pfn_t first);
/* At the end of the server. */
void zd_migs_free_spares(struct zd_server *server);

#endif
