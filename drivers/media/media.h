/* SPDX-License-Identifier: MIT */
/*
 * drivers/media/media.h - the media of a region: a file that is mapped as a whole, and may
 * fail page by page.  Only the files of this room touch the mapped memory.
 *
 *	transfer.c	reads and writes; what to do about a page that faults
 *	length.c	has the file been cut?
 *	sync.c		making stores durable
 *	hole.c		giving storage back, and where there is none
 *	map.c		the mapping
 *	identity.c	which file it is
 *	poison.c	pages that fail because a test wants it
 *	badblocks.c	the list of what failed (badblocks.h)
 *	record.c	what is stored of that list (record.h), with record_store.c: where, and
 *			record_form.c: in which form
 *	iter.c		a request's buffers (iter.h)
 *	crc32c.c	a checksum
 *
 * The room knows neither the region that has the media, nor the pages of that region: who
 * holds which page the region tells by struct zd_media_pages.
 *
 * Locks.  All are leaves, but that a list's lock (bad.lock, mended.lock) is taken inside
 * record.lock and poison.lock.  pages.lock, the region's, guards @holes.  No lock is held over
 * a copy or an msync(); record.lock is held while the record is stored and made durable,
 * poison.lock over an mmap().
 */
#ifndef ZD_DRIVERS_MEDIA_MEDIA_H
#define ZD_DRIVERS_MEDIA_MEDIA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "drivers/media/badblocks.h"
#include "drivers/media/iter.h"
#include "zonedev/pmem.h"

struct pmem2_map;

/*
 * One msync serves every thread that asks while the one before it runs.  Syncs are numbered;
 * what was stored before sync n started is durable when n is done.
 */
struct zd_media_sync {
	struct zd_mutex lock;		/* guards all of it */
	uint64_t started, completed;	/* completed is read without the lock */
	bool busy;
	int error;			/* the first one, for good; read without the lock */
	uint32_t turn;			/* futex: changes when a sync ends */
};

/* Open files of their own for syncs of a range, each in the hands of one thread at a time. */
#define ZD_SYNC_FILES	4

struct zd_sync_files {
	struct zd_mutex lock;
	uint32_t busy;			/* a bit each; lock */
	uint32_t turn;			/* futex: changes when one is put back */
	uint32_t nr;			/* 0: there are none */
	int fd[ZD_SYNC_FILES];
};

/* A range that is being punched out: its pages can't become live (media/hole.c). */
struct zd_media_hole {
	uint64_t first, end;		/* pages */
	struct zd_media_hole *next;
};

/* Tells a file from every other one. */
struct zd_media_identity {
	uint64_t dev, rdev, ino, born_ns;
};

/* What is stored of the bad blocks (media/record.c).  @lock guards all of it; @stored and
 * the like are read without the lock. */
struct zd_media_record {
	struct zd_mutex lock;
	int fd;				/* -1: there is no place for a record.  An open file of
					 * its own: its fsync() is told of errors, too */
	bool in_file;			/* in PATH.zonedev, not in the attribute */
	bool told;			/* the user was, that it can't be stored */
	uint64_t bytes;			/* of the region, as found */
	uint64_t stored, synced;	/* zd_media_record_now() when it was, when it was durable */
	uint64_t stored_sets, synced_sets;	/* bad.sets */
};

/* Pages that were made to fail, for tests (media/poison.c). */
struct zd_media_poison {
	struct zd_mutex lock;
	uint64_t *pages;
	uint32_t nr, capacity;
};

/*
 * What the media ask of the region that hands out their pages; set before the first request.
 *
 * @lock: under which a page becomes live (is held), and stops being live.
 * @is_live: is the page held?  Called with @lock held.
 * @sigbus_fd: an empty file, any mapping of which raises SIGBUS.
 */
struct zd_media_pages {
	void *owner;
	struct zd_mutex *lock;
	bool (*is_live)(void *owner, uint64_t page);
	int sigbus_fd;
};

/* What has no lock here is set while the media are opened, and constant then. */
struct zd_media {
	int fd;
	int program_fd;			/* another open file, for the program's mappings */
	char *base;
	uint64_t bytes;
	uint64_t align;			/* of mappings: the device's, or a page */
	enum zd_pmem_persist persist;
	bool readonly;
	bool can_shrink;		/* another process may truncate it */
	bool can_allocate;		/* a page that can't be written may lack storage */
	bool has_holes;
	bool block;
	bool sealed;			/* a memfd made here: it can't shrink, nor be reopened */
	bool created;			/* by this opening: it goes again if that fails */
	int map_flags;			/* for further mappings; 0: MAP_SHARED */
	struct pmem2_map *map;		/* NULL: a block device */
	void (*flush_fn)(const void *addr, size_t len);	/* NULL: msync() does it */
	void (*drain_fn)(void);
	struct zd_media_identity identity;
	struct zd_media_pages pages;
	struct zd_media_sync sync;
	struct zd_sync_files sync_files;
	uint64_t hole_ticket;		/* the sync that makes all holes durable; atomic */
	struct zd_badblocks bad;
	struct zd_badblocks mended;	/* since the last sync (media/record.c) */
	struct zd_media_record record;
	struct zd_media_hole *holes;	/* pages.lock */
	struct zd_media_poison poison;
};

/* --- map.c, identity.c --- */

/* Map @m->bytes of @m->fd.  0 or -errno. */
int zd_media_map(struct zd_media *m);
void zd_media_unmap(struct zd_media *m);

/* Set @m->identity from @m->fd. */
void zd_media_identify(struct zd_media *m);
bool zd_media_is_same_file(const struct zd_media *a, const struct zd_media *b);

/* --- transfer.c, length.c --- */

/*
 * zd_media_read, zd_media_write - transfer [off, off + len) of the media.  0; -EIO: and
 * *@bad is the byte where the first sector that failed begins; -ENOSPC: no storage;
 * -EFAULT: the buffer raised SIGBUS.
 * zd_media_check_end - is the file still as long as [off, off + len) reaches?  Zeros that a
 * truncated file passed off as data are found out by this, so it is called after every
 * copy.  0; -EIO: no, and what lies beyond the end is bad now.
 * zd_media_heal - take the whole sectors of a write off the list of bad blocks, after that
 * check.  0; -EIO: they stay bad.
 *
 * The file may be short only for a moment, in the middle of a request.  The thread that finds
 * it short lists what is lost before it does anything else.  So a request during which the list
 * has grown (zd_badblocks_sets()) is done again, from its start; and a request that heals
 * sectors also if any sector was marked again (zd_badblocks_marks()), since that may be one
 * that the request has written.
 *
 * Any thread, no lock of this room held; they may block, as page faults do.
 */
int zd_media_read(struct zd_media *m, uint64_t off, struct zd_iter *to, uint64_t len,
		  uint64_t *bad);
int zd_media_write(struct zd_media *m, uint64_t off, struct zd_iter *from, uint64_t len,
		   uint64_t *bad);
int zd_media_check_end(struct zd_media *m, uint64_t off, uint64_t len, uint64_t *bad);
int zd_media_heal(struct zd_media *m, uint64_t off, uint64_t len, uint64_t marks);

/* The same for one buffer, all steps at once.  0 or -errno. */
int zd_media_get(struct zd_media *m, uint64_t off, void *buf, uint64_t len);
int zd_media_put(struct zd_media *m, uint64_t off, const void *buf, uint64_t len);
/* One aligned word, never torn; whether the word lies beyond the end of a truncated file is
 * for the caller's zd_media_check_end(). */
int zd_media_put64(struct zd_media *m, uint64_t off, uint64_t value);
int zd_media_get64(struct zd_media *m, uint64_t off, uint64_t *value);

/* --- poison.c --- */

/* The pages raise SIGBUS from now on.  0; -EOPNOTSUPP; -ENOMEM; -errno. */
int zd_media_inject_poison(struct zd_media *m, uint64_t first, uint64_t nr);
bool zd_media_has_poison(struct zd_media *m);
bool zd_media_is_poisoned(struct zd_media *m, uint64_t page);
/* True: the page was poisoned, and isn't any more.  What it held is lost, and bad. */
bool zd_media_heal_poison(struct zd_media *m, uint64_t page);
void zd_media_free_poison(struct zd_media *m);

/* The page's sectors join the list of bad blocks.  0 or -ENOMEM. */
static inline int zd_media_mark_bad_page(struct zd_media *m, uint64_t page)
{
	return zd_badblocks_set(&m->bad, page * ZD_PAGE_SECTORS, ZD_PAGE_SECTORS);
}

/* --- sync.c --- */

/* Stores to the range are on their way (CLWB); nothing where msync() does it. */
int zd_media_flush(struct zd_media *m, uint64_t off, uint64_t len);
/*
 * zd_media_order - what this thread has flushed before, or with msync() any thread has stored,
 * is durable.  0 or -EIO; where nothing is durable 0 as well.
 * zd_media_sync - and so are the holes.
 * zd_media_sync_range - what any thread has stored to [off, off + len) is durable, and holes
 * there.
 *
 * Any thread, no lock of this room held.  They block.
 */
int zd_media_order(struct zd_media *m);
int zd_media_sync(struct zd_media *m);
int zd_media_sync_range(struct zd_media *m, uint64_t off, uint64_t len);
/* When it is known how stores become durable, before the first; and at the end. */
void zd_media_open_sync_files(struct zd_media *m);
void zd_media_close_sync_files(struct zd_media *m);
/* What was written and drained, or punched, needs no sync to be as durable as it can be. */
bool zd_media_drain_suffices(struct zd_media *m);
/* A hole was punched. */
void zd_media_note_hole(struct zd_media *m);
/* The error that stays, or 0. */
int zd_media_sync_error(struct zd_media *m);

/* --- hole.c --- */

/* Make [off, off + len) read as zeros; @punch: give the storage back where no page of it is
 * held.  Results, and what has to follow, as for zd_media_write(). */
int zd_media_zero(struct zd_media *m, uint64_t off, uint64_t len, bool punch, uint64_t *bad);
/* Give the storage of whole pages back if that can be done; no page of it is held. */
void zd_media_punch(struct zd_media *m, uint64_t off, uint64_t len);
/* May the page become live now?  pages.lock is held. */
bool zd_media_may_hold(const struct zd_media *m, uint64_t page);
/* How many of @len bytes from @off on are alike, > 0; -errno. */
int64_t zd_media_extent(struct zd_media *m, uint64_t off, uint64_t len, bool *hole);

/* --- for tests: told of everything that matters to what power loss leaves behind --- */

enum zd_media_event {
	ZD_MEDIA_STORE,		/* the range was stored to */
	ZD_MEDIA_FLUSH,		/* it is on its way: CLWB */
	ZD_MEDIA_DRAIN,		/* what is on its way has arrived: SFENCE */
	ZD_MEDIA_SYNC_BEGIN,	/* msync starts... */
	ZD_MEDIA_SYNC,		/* ... and all that was stored before has arrived */
};
extern void (*zd_media_hook)(struct zd_media *m, enum zd_media_event event, uint64_t off,
			     uint64_t len);

static inline void zd_media_tell(struct zd_media *m, enum zd_media_event event, uint64_t off,
				 uint64_t len)
{
	if (__builtin_expect(!!zd_media_hook, 0))
		zd_media_hook(m, event, off, len);
}

#endif
