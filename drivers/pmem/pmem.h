/* SPDX-License-Identifier: MIT */
/*
 * drivers/pmem/pmem.h - a region of persistent memory: its media (media.h), a BTT on them if it
 * has one (btt.h), its pages, and mappings for the program (dax.h).
 *
 *	open.c		put together; file.c: from a path to a locked file of the right size
 *	reopen.c	what a region that is opened once more takes over from the removed one
 *	remove.c	taken apart
 *	queue.c		which requests are in the region, and which must wait
 *	io.c		requests
 *	access.c	its pages by address
 *	badblocks.c	the list of bad blocks, for its users
 *	check.c		examined, and mended, while it isn't open
 *
 * (device*.c make the media a device instead: device.h.)
 *
 * Requests go io.c -> btt/, if there is a BTT -> media/; only media/ touches mapped memory.
 *
 * Lock order: BTT lanes, BTT group (btt.h), then one lock of the media (media.h) or
 * dax->page_lock.  queue->lock is a leaf.
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

/*
 * A request that has entered holds @gate and the pagemap.  A freeze closes the gate and waits for
 * the gate alone; removal waits for both.
 */
struct zd_pmem_queue {
	struct zd_percpu_ref gate;
	struct zd_percpu_ref *usage;	/* the pagemap's; set before the first request */
	struct zd_mutex lock;		/* held to open and close the gate */
	uint32_t depth;			/* freezes; lock */
	uint32_t changes;		/* futex: unfrozen, or dying */
	bool dying;
	struct zd_completion empty;	/* the gate's, of the freeze that closed it */
};

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
	int removal_error;		/* -EIO: something that was written is lost */
};

static inline bool zd_pmem_is_gone(const struct zd_pmem *pmem)
{
	/* acquire: pairs with the release in zd_pmem_step_unmap() */
	return __atomic_load_n(&pmem->gone, __ATOMIC_ACQUIRE);
}

/* --- file.c: the thread that opens or closes the region; they block --- */

/* Open and lock, and set @m's fd, bytes, and what kind of file it is. */
int zd_pmem_open_file(const char *path, const struct zd_pmem_attr *attr, struct zd_media *m,
		      char *err, size_t errlen);
void zd_pmem_close_file(struct zd_media *m);
/* Does the file hold anything that isn't a hole or zeros?  1, 0 or -errno. */
int zd_pmem_has_data(struct zd_media *m);

/* --- reopen.c: the thread that opens @pmem --- */

/* Is it the file, and the BTT, that @removed had? */
bool zd_pmem_is_same(const struct zd_pmem *pmem, const struct zd_pmem *removed);
/* Take over what @removed knew to be lost.  0 or -ENOMEM. */
int zd_pmem_inherit(struct zd_pmem *pmem, const struct zd_pmem *removed);

/* --- remove.c --- */

/* Steps of the teardown, for zd_devm_add_action(); @pmem is the struct zd_pmem. */
void zd_pmem_step_close(void *pmem);
void zd_pmem_step_unmap(void *pmem);
void zd_pmem_step_release_queue(void *pmem);
/* Register the other steps; when it fails (-ENOMEM) they have been taken. */
int zd_pmem_add_page_steps(struct zd_pmem *pmem);
/* When all steps have been taken. */
void zd_pmem_free(struct zd_pmem *pmem);

/* --- queue.c --- */

int zd_pmem_queue_init(struct zd_pmem_queue *q);
/* The first step of the teardown: no request enters any more, for good.  Doesn't block. */
void zd_pmem_queue_die(struct zd_pmem_queue *q);
void zd_pmem_queue_destroy(struct zd_pmem_queue *q);
/* How many requests are in the queue, about. */
uint64_t zd_pmem_queue_users(const struct zd_pmem_queue *q);

#endif
