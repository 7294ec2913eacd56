/* SPDX-License-Identifier: MIT */
/*
 * struct zd_mm: one address space as the server sees it.  The server's thread, but where a
 * field says otherwise; no call here blocks.
 */
#ifndef ZD_ENGINE_MM_H
#define ZD_ENGINE_MM_H

#include <urcu/list.h>
#include "base/lock.h"
#include "engine/mover.h"
#include "engine/server_types.h"
#include "space/range.h"
#include "space/table.h"

struct zd_change;
struct zd_ram_pages;

struct zd_mm {
	struct zd_server *server;
	struct cds_list_head node;	/* server->mms */
	unsigned int slot;		/* in server->slots; names it in queues */
	struct zd_source source;	/* its userfaultfd */
	struct zd_table table;
	struct zd_ranges ranges;	/* the managed ones: all of each is registered */
	struct zd_change *changes;	/* read, and not followed yet (changes.c) */
	unsigned int nr_changes, cap_changes;
	bool unborn;			/* its parent's changes are not followed yet */
	uint32_t behind;		/* __atomic: entries may not be what they were */
	int pagemap_fd;			/* the host's; -1: not known (yet) */
	uint64_t stray, stray_since_ns;	/* fault.c */
	bool dead;			/* its address space is gone */
	uint64_t nr_device;		/* DEVICE entries */
	uint64_t on_tier[ZD_TIERS_MAX];	/* of them, by slot (tier.h) */
	struct zd_ram_pages *ram_pages;	/* descriptors of RAM pages, once asked for */
	bool poison_owed;		/* a POISON entry has no mark in the kernel */
	uint64_t nr_home_errors;	/* pages that a move could not bring home */
	int home_error;			/* of the last such page, */
	struct zd_device *home_error_dev;	/* and whose page it is */
	bool event_due;			/* EAGAIN: an event waits, behind faults maybe */
	const struct zd_mover_ops *mover;	/* NULL: nothing can be moved out */
	void *mover_data;
	struct zd_mig *out;		/* what the mover works on */
	void *host_data;		/* the host's: a process, a library handle */
	bool debugged;			/* don't evict: a debugger looks at its pages */
	bool mover_gone;		/* nor from now on: there is no mover any more */
	unsigned int fault_around;	/* most pages brought home by one fault */
};

static inline int zd_mm_uffd(const struct zd_mm *mm)
{
	return mm->source.fd;
}

static inline zd_entry_t *zd_mm_entry(const struct zd_mm *mm, uint64_t addr)
{
	return zd_table_entry(&mm->table, addr);
}

/* zd_lru_add() for pages of @mm. */
static inline int zd_mm_lru_add(struct zd_mm *mm, uint64_t addr, unsigned int nr, bool hot)
{
	return zd_lru_add(&mm->server->lru, &mm->table, mm->slot, addr, nr, hot);
}

/*
 * A new address space whose userfaultfd (API done) is @uffd, which belongs to the mm from
 * now on, also on failure: @uffd is closed then, but for a forked child's, which stays open
 * so that the child waits rather than reads zeros.  @parent: the mm that the new one was
 * forked from, or NULL; a child is unborn, and its messages are not read, until
 * zd_mm_born().  -ENOMEM, -ENOSPC (65536 address spaces).
 */
int zd_mm_create(struct zd_server *server, int uffd, struct zd_mm *parent, struct zd_mm **mm);

/* The last step of zd_mm_destroy(): nothing refers to @mm any more. */
void zd_mm_free(struct zd_mm *mm);

/* The kernel says that the address space is gone: tell the host, once. */
void zd_mm_died(struct zd_mm *mm);

/*
 * Manage [start, end): register it with the userfaultfd, and list the parts that the
 * kernel says are registered then; parts that have been unmapped meanwhile aren't.  @mm is
 * still.  0 or -errno.
 */
int zd_mm_manage(struct zd_mm *mm, uint64_t start, uint64_t end);

/* List those parts of [start, end) that are registered already. */
int zd_mm_list(struct zd_mm *mm, uint64_t start, uint64_t end);

/* [start, end) is registered already: list it. */
int zd_mm_adopt(struct zd_mm *mm, uint64_t start, uint64_t end);

/* May pages be put in place, or taken, where the entries say?  (In places that change from
 * now on the kernel refuses.)  Nothing is followed: zd_mm_catch_up() does that. */
static inline bool zd_mm_is_current(const struct zd_mm *mm)
{
	return !mm->unborn && !mm->nr_changes;
}

/* Replace a DEVICE entry by @next and put its page. */
void zd_mm_put_device(struct zd_mm *mm, zd_entry_t *entry, zd_entry_t next);

/* Record that @addr is on the device now; takes over one reference. */
void zd_mm_set_device(struct zd_mm *mm, uint64_t addr, zd_pfn_t pfn);

/* From now on a thread that touches @addr gets SIGBUS.  No page may be there, but a mark
 * may.  0 or -errno. */
int zd_mm_poison_marked(struct zd_mm *mm, uint64_t addr);

/* The content of the page at @addr is lost: a thread that touches the page gets SIGBUS, never
 * zeros.  The entry holds no reference any more. */
void zd_mm_poison(struct zd_mm *mm, uint64_t addr);

#endif
