/* SPDX-License-Identifier: MIT */
/*
 * drivers/pmem/pmem.h - the parts of the pmem driver, and what each owns.
 *
 *	pmem.c			the region: put together, taken apart
 *	pmem/access.c		its pages by address
 *	pmem/queue.c		who is in it, and who must wait
 *	pmem/io.c		requests
 *	pmem/open.c		from a path to a locked file of the right size
 *	pmem/reopen.c		the same region, after a removal
 *	media/map.c		the mapping; poison for tests
 *	media/media.c		the mapped file: guarded access, failing pages
 *	media/sync.c		making stores durable
 *	media/hole.c		giving storage back, and where there is none
 *	media/badblocks.c	the list of what failed
 *	media/record.c		the same, for those who open the region next
 *	btt*.c			atomic blocks on top of the media (btt.h)
 *	pmem/check.c		examined, and mended, while nobody has it open
 *
 * Requests go pmem/io.c -> btt.c, if there is one -> media/media.c; nobody else
 * touches mapped memory.  Its pages, and mappings for the program, are dax.h's.
 *
 * Lock order: BTT lanes, BTT group (btt.h), then one of the leaves: hole->lock and
 * dax->page_lock inside it, sync->lock, sync_files->lock, record->lock and bad->lock inside
 * it, poison_lock.
 */
#ifndef ZD_DRIVERS_PMEM_PMEM_H
#define ZD_DRIVERS_PMEM_PMEM_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/lock.h"
#include "drivers/dax/dax.h"
#include "drivers/explain.h"
#include "zonedev/devm.h"
#include "zonedev/percpu_ref.h"
#include "zonedev/pmem.h"

struct pmem2_map;
struct zd_btt;

/* --- bad blocks --- */

struct zd_bad_range {
	uint64_t first, end;		/* sectors */
};

/* Ascending ranges that don't touch.  @nr may be read without the lock: 0 means
 * that there is nothing to look for.  @sets counts what was ever added; @marks also
 * what was found to be bad once more; @changes what was added or taken off. */
struct zd_badblocks {
	struct zd_mutex lock;
	uint32_t nr, capacity;
	uint64_t sets, marks, changes;
	struct zd_bad_range *ranges;
};

int zd_badblocks_check(struct zd_badblocks *bb, uint64_t sector, uint64_t nr,
		       uint64_t *first_bad, uint64_t *nr_bad);
int zd_badblocks_set(struct zd_badblocks *bb, uint64_t sector, uint64_t nr);
/* Unless something was marked since it was @marks: what the caller wrote may be gone
 * again. */
int zd_badblocks_clear(struct zd_badblocks *bb, uint64_t sector, uint64_t nr, uint64_t marks);
#define ZD_BAD_ALWAYS	UINT64_MAX
void zd_badblocks_exit(struct zd_badblocks *bb);
/* Make @to, zeroed, what @from is now, counts and all.  0 or -ENOMEM. */
int zd_badblocks_copy(struct zd_badblocks *to, struct zd_badblocks *from);

static inline bool zd_badblocks_any(const struct zd_badblocks *bb)
{
	/* relaxed: a failure at this very moment may be seen or not */
	return __atomic_load_n(&bb->nr, __ATOMIC_RELAXED) != 0;
}

/* Has anything become bad since it was @sets?  Acquire and release: who saw something go
 * wrong has added it before he does anything about it. */
static inline uint64_t zd_badblocks_sets(const struct zd_badblocks *bb)
{
	return __atomic_load_n(&bb->sets, __ATOMIC_ACQUIRE);
}

static inline uint64_t zd_badblocks_marks(const struct zd_badblocks *bb)
{
	return __atomic_load_n(&bb->marks, __ATOMIC_ACQUIRE);
}

/* --- media --- */

/*
 * One msync serves all who ask while the one before it runs.  Syncs are numbered;
 * what was stored before sync n started is durable when n is done.
 */
struct zd_media_sync {
	struct zd_mutex lock;
	uint64_t started, completed;	/* completed is read without the lock */
	bool busy;
	int error;			/* the first: it stays */
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

/* Ranges that are being punched out: their pages can't become live (media/hole.c). */
struct zd_media_hole {
	uint64_t first, end;		/* pages */
	struct zd_media_hole *next;
};

/* Tells a file from any other. */
struct zd_media_identity {
	uint64_t dev, rdev, ino, born_ns;
};

/* What is stored of the bad blocks (media/record.c). */
struct zd_media_record {
	struct zd_mutex lock;
	int fd;				/* -1: there is no place for it.  An open file of its
					 * own: its fsync() is told of errors, too */
	bool in_file;			/* not in the attribute */
	bool told;			/* that it can't be stored; lock */
	uint64_t bytes;			/* of the region, as found */
	uint64_t stored, synced;	/* zd_media_record_now() when it was, when it was durable */
	uint64_t stored_sets, synced_sets;	/* bad.sets */
};

struct zd_media {
	int fd;
	int program_fd;			/* the same, opened once more: see open_program_fd() */
	char *base;
	uint64_t bytes;
	uint64_t align;			/* of mappings: the device's, or a page */
	enum zd_pmem_persist persist;
	bool readonly;
	bool can_shrink;		/* somebody may truncate it */
	bool can_allocate;		/* a page that can't be written may lack storage */
	bool has_holes;
	bool block;
	bool sealed;			/* a memfd of our own: it can't shrink, nor be opened again */
	bool created;			/* by this opening: it goes again if that fails */
	int map_flags;			/* for further mappings; 0: MAP_SHARED */
	struct pmem2_map *map;		/* NULL: a block device */
	void (*flush_fn)(const void *addr, size_t len);
	void (*drain_fn)(void);
	struct zd_media_identity identity;
	struct zd_dax *dax;		/* whose pages these are; for the holes */
	struct zd_media_sync sync;
	struct zd_sync_files sync_files;
	uint64_t hole_ticket;		/* the sync that makes all holes durable */
	struct zd_badblocks bad;
	struct zd_badblocks mended;	/* since the last sync (media/record.c) */
	struct zd_media_record record;
	struct zd_media_hole *holes;	/* dax->page_lock */
	struct zd_mutex poison_lock;
	uint64_t *poison;		/* pages; poison_lock */
	uint32_t nr_poison, poison_capacity;
};

/* Where a copy from or to a request's buffers stands. */
struct zd_iter {
	const struct iovec *iov;	/* NULL: zeros */
	unsigned int nr;
	size_t done;			/* bytes of iov[0] */
	uint64_t marks;			/* zd_badblocks_marks() when the request began */
};

/* Map @m->bytes of @m->fd.  0 or -errno. */
int zd_media_map(struct zd_media *m);
void zd_media_unmap(struct zd_media *m);

/*
 * Transfer [off, off + len) of the media.  0; -EIO: and *@bad is the byte where the
 * first sector that failed begins; -ENOSPC: no storage; -EFAULT: the buffer raised
 * SIGBUS.  Zeros passed off as data by a truncated file are found out by
 * zd_media_check_end(), which the caller calls when all is copied.  A write takes its
 * whole sectors off the list of bad blocks: zd_media_written(), after that check.  0, or
 * -EIO: they stay bad.
 *
 * The file may be short only for a moment, in the middle of a request.  Who finds it
 * short puts what is lost on the list before anything else; so a request during which
 * the list has grown (@sets) is done again, from its start; and one that heals sectors
 * also if any were marked again (@marks), since they may be those it wrote.
 */
int zd_media_read(struct zd_media *m, uint64_t off, struct zd_iter *to, uint64_t len,
		  uint64_t *bad);
int zd_media_write(struct zd_media *m, uint64_t off, struct zd_iter *from, uint64_t len,
		   uint64_t *bad);
int zd_media_check_end(struct zd_media *m, uint64_t off, uint64_t len, uint64_t *bad);
int zd_media_written(struct zd_media *m, uint64_t off, uint64_t len, uint64_t marks);

/* The same for one buffer, all steps at once.  0 or -errno. */
int zd_media_get(struct zd_media *m, uint64_t off, void *buf, uint64_t len);
int zd_media_put(struct zd_media *m, uint64_t off, const void *buf, uint64_t len);
/* One aligned word, never torn; what lies beyond the end of a truncated file the caller's
 * zd_media_check_end() finds out. */
int zd_media_put64(struct zd_media *m, uint64_t off, uint64_t value);
int zd_media_get64(struct zd_media *m, uint64_t off, uint64_t *value);

int zd_media_inject_poison(struct zd_media *m, uint64_t first, uint64_t nr);
bool zd_media_has_poison(struct zd_media *m);
bool zd_media_is_poisoned(struct zd_media *m, uint64_t page);
/* True: it was poisoned, and isn't any more.  What it held is lost, and bad. */
bool zd_media_heal_poison(struct zd_media *m, uint64_t page);
/* The page joins the list. */
int zd_media_page_failed(struct zd_media *m, uint64_t page);

/* The buffer that comes next: at most *@len bytes of it, and how many is set.  Then
 * move on by that. */
void *zd_iter_buf(const struct zd_iter *it, uint64_t *len);
void zd_iter_advance(struct zd_iter *it, uint64_t len);
/* Zeros for a reader; a writer's bytes.  0 or -EFAULT. */
int zd_iter_zero(struct zd_iter *it, uint64_t len);
int zd_iter_read(struct zd_iter *it, void *to, uint64_t len);

/* --- the record --- */

/*
 * zd_media_record_open - take the list of what was lost before.  The file has @bytes, its
 * opener asked for @want.  0, or -errno and a line for the user.  zd_media_record_close()
 * in any case.
 * zd_media_record_size - @m->bytes are known, for the record as well.
 */
int zd_media_record_open(struct zd_media *m, const char *path, uint64_t bytes, uint64_t want,
			 char *err, size_t errlen);
void zd_media_record_size(struct zd_media *m);
void zd_media_record_close(struct zd_media *m);

/* Grows with each change of what is to be recorded. */
static inline uint64_t zd_media_record_now(const struct zd_media *m)
{
	return __atomic_load_n(&m->bad.changes, __ATOMIC_ACQUIRE) +
	       __atomic_load_n(&m->mended.changes, __ATOMIC_ACQUIRE);
}

enum zd_record_what {
	ZD_RECORD_LOST,		/* what is bad, durably: before anybody is told */
	ZD_RECORD_MENDED,	/* what was mended, for those who open it in this boot */
	ZD_RECORD_ALL,		/* all of it, durably: with a FLUSH */
};

static inline bool zd_media_record_due(const struct zd_media *m, enum zd_record_what what)
{
	/* acquire: pairs with the releases in media/record.c: what they count is stored */
	switch (what) {
	case ZD_RECORD_LOST:
		return __atomic_load_n(&m->record.synced_sets, __ATOMIC_ACQUIRE) !=
		       zd_badblocks_sets(&m->bad);
	case ZD_RECORD_MENDED:
		return __atomic_load_n(&m->record.stored, __ATOMIC_ACQUIRE) !=
		       zd_media_record_now(m);
	default:
		return __atomic_load_n(&m->record.synced, __ATOMIC_ACQUIRE) !=
		       zd_media_record_now(m);
	}
}

void __zd_media_record(struct zd_media *m, enum zd_record_what what);

/* See to it that the record has that.  If it can't, the log has been told. */
static inline void zd_media_record(struct zd_media *m, enum zd_record_what what)
{
	if (__builtin_expect(zd_media_record_due(m, what), 0))
		__zd_media_record(m, what);
}

/* --- durability --- */

/* Stores to the range are on their way (CLWB); nothing where msync does it. */
int zd_media_flush(struct zd_media *m, uint64_t off, uint64_t len);
/*
 * zd_media_order - what was flushed before by this thread, or with msync stored by any,
 * is durable.  0 or -EIO; where nothing is durable 0 as well.
 * zd_media_sync - and so are the holes.
 * zd_media_sync_range - what was stored to [off, off + len), by any thread, is durable, and
 * holes there.
 */
int zd_media_order(struct zd_media *m);
int zd_media_sync(struct zd_media *m);
int zd_media_sync_range(struct zd_media *m, uint64_t off, uint64_t len);
/* Once it is known how stores become durable, before the first; and at the end. */
void zd_media_open_sync_files(struct zd_media *m);
void zd_media_close_sync_files(struct zd_media *m);
/* What was written and drained, or punched, needs no sync to be as durable as it can be. */
bool zd_media_writes_last(struct zd_media *m);
/* A hole was punched. */
void zd_media_punched(struct zd_media *m);
/* The error that stays, or 0. */
int zd_media_sync_error(struct zd_media *m);

/* --- holes --- */

/* Make [off, off + len) read as zeros; @punch: give the storage back where it is not
 * held.  Then as after zd_media_write(). */
int zd_media_zero(struct zd_media *m, uint64_t off, uint64_t len, bool punch, uint64_t *bad);
/* Give the storage of whole pages back if that can be done; nobody holds them. */
void zd_media_punch(struct zd_media *m, uint64_t off, uint64_t len);
/* May the page become live now? dax->page_lock is held. */
bool zd_media_may_hold(struct zd_dax *dax, uint64_t index);
/* How many of @len bytes from @off on are alike, > 0; -errno. */
int64_t zd_media_extent(struct zd_media *m, uint64_t off, uint64_t len, bool *hole);

/* For tests: told of everything that matters to what power loss leaves behind. */
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

/* --- the file --- */

/* Open and lock, and set @m's fd, bytes, and what kind of file it is. */
int zd_pmem_open_file(const char *path, const struct zd_pmem_attr *attr, struct zd_media *m,
		      char *err, size_t errlen);
void zd_pmem_close_file(struct zd_media *m);
/* Does the file hold anything that isn't a hole or zeros?  1, 0 or -errno. */
int zd_pmem_has_data(struct zd_media *m);

/* --- the queue --- */

/*
 * A request that has entered holds @gate and the pagemap.  A freeze closes the gate
 * and waits for it alone; removal waits for both.  @lock: who opens and closes it.
 */
struct zd_pmem_queue {
	struct zd_percpu_ref gate;
	struct zd_percpu_ref *usage;	/* the pagemap's; set before anybody enters */
	struct zd_mutex lock;
	uint32_t depth;			/* freezes */
	uint32_t changes;		/* futex: unfrozen, or dying */
	bool dying;
	struct zd_completion empty;	/* the gate's, of the freeze that closed it */
};

int zd_pmem_queue_init(struct zd_pmem_queue *q);
/* The first of the teardown: nobody enters any more, for good. */
void zd_pmem_queue_die(struct zd_pmem_queue *q);
void zd_pmem_queue_destroy(struct zd_pmem_queue *q);
uint64_t zd_pmem_queue_users(const struct zd_pmem_queue *q);

/* --- the region --- */

struct zd_pmem {
	struct zd_media media;
	struct zd_dax dax;
	struct zd_pmem_queue queue;
	struct zd_btt *btt;		/* NULL: raw */
	struct zd_pmem_info info;
	char *path;
	uint8_t btt_uuid[16];		/* zeros: raw */
	struct zd_devm devm;		/* the steps of its teardown */
	uint32_t removing;		/* a thread is at it */
	bool gone;			/* nothing is left but the handle */
	int left;			/* -EIO: with something lost that was written */
};

/* zd_pmem_open(), or with @removed zd_pmem_reopen(). */
int zd_pmem_open_region(const char *path, const struct zd_pmem_attr *attr,
			const struct zd_pmem *removed, struct zd_pmem **pmem, char *err,
			size_t errlen);

/* pmem/reopen.c */
void zd_pmem_identify(struct zd_media *m);
bool zd_pmem_is_same(const struct zd_pmem *pmem, const struct zd_pmem *removed);
/* What @removed knew to be lost.  0 or -ENOMEM. */
int zd_pmem_inherit(struct zd_pmem *pmem, const struct zd_pmem *removed);

#endif
