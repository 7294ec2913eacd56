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

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "drivers/dax/dax.h"
#include "drivers/media/media.h"
#include "zonedev/devm.h"
#include "zonedev/percpu_ref.h"
#include "zonedev/pmem.h"

struct zd_btt;

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
bool zd_pmem_is_same(const struct zd_pmem *pmem, const struct zd_pmem *removed);
/* What @removed knew to be lost.  0 or -ENOMEM. */
int zd_pmem_inherit(struct zd_pmem *pmem, const struct zd_pmem *removed);

#endif
