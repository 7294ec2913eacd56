/* SPDX-License-Identifier: MIT */
/*
 * drivers/lz4/lz4.h - the parts of the lz4 driver, and what each owns.
 *
 *	driver.c	its name, and what its errors mean to the user
 *	device.c	the device: create, destroy, pages, ->submit, statistics
 *	worker.c	the thread that runs large batches and tidies up
 *	store.c		a page: what is kept of it, and how it is stored, loaded and freed
 *	codec.c		compression alone
 *	objects.c	where compressed pages lie; with spans.c and classes.c
 *
 * Each calls those below it only.
 */
#ifndef ZD_DRIVERS_LZ4_LZ4_H
#define ZD_DRIVERS_LZ4_LZ4_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fork.h"
#include "base/lock.h"
#include "drivers/lz4/objects.h"
#include "drivers/pool.h"
#include "pages/ioq.h"
#include "zonedev/device.h"

/* --- codec.c --- */

/* A thread's room to compress in. */
struct zd_lz4_codec {
	int level;
	size_t state_bytes;
	void *state;
	char out[ZD_LZ4_OBJECT_MAX];
};

/* 0 or -ENOMEM; _exit() may follow a failed init. */
int zd_lz4_codec_init(struct zd_lz4_codec *codec, int level);
void zd_lz4_codec_exit(struct zd_lz4_codec *codec);
/* Compress a page to codec->out.  Returns the bytes; 0: it doesn't get small enough. */
unsigned int zd_lz4_compress(struct zd_lz4_codec *codec, const void *page);
/* False: @from is no whole page. */
bool zd_lz4_decompress(const void *from, unsigned int bytes, void *page);
/* Is the page one word of 8 bytes, repeated? */
bool zd_lz4_page_is_same(const void *page, uint64_t *word);
void zd_lz4_page_fill(void *page, uint64_t word);

/* --- store.c --- */

enum zd_lz4_kind {
	ZD_LZ4_NEW = 0,		/* never stored: reads as zeros, as new memory does */
	ZD_LZ4_SAME,		/* word: what the page is filled with */
	ZD_LZ4_PACKED,		/* word: where its object is, see store.c */
	ZD_LZ4_LOST,		/* its last store failed: can't be read */
};

struct zd_lz4_counts {
	uint64_t packed, same;	/* pages */
	uint64_t bytes;		/* of the packed ones, compressed */
	uint64_t refused;	/* times that a page didn't get small enough */
	uint64_t no_room;	/* times that max= was reached */
};

struct zd_lz4_store {
	/* Guards the objects, and every change of a page's entry.  Held for a copy of a compressed
	 * page, or the move of a few; the pools' locks are taken inside. */
	struct zd_mutex lock;
	struct zd_device *dev;
	struct zd_pool indexes;		/* the device's free pages */
	uint8_t *kind;			/* by page; __atomic */
	uint64_t *word;			/* by page; __atomic */
	uint64_t nr_pages;
	uint64_t top;			/* pages below were used once */
	uint64_t freed;			/* __atomic: a stack of freed pages, index + 1 */
	uint32_t generation;		/* __atomic; of the process that uses the device: base/fork.h */
	struct zd_lz4_objects objects;
	struct zd_lz4_counts counts;	/* __atomic for those that read it without the lock */
	/* Changed under the lock, and __atomic for those that look without it. */
	uint64_t ram_bytes, pool_bytes, moves;
	bool full;			/* no page is given out */
	bool untidy;			/* see zd_lz4_store_tidy() */
};

int zd_lz4_store_init(struct zd_lz4_store *store, struct zd_device *dev, uint64_t nr_pages,
		      uint64_t max_pages);
void zd_lz4_store_exit(struct zd_lz4_store *store);
/* Any thread.  alloc: as ->alloc_pages. */
unsigned int zd_lz4_store_alloc(struct zd_lz4_store *store, unsigned int nr, zd_pfn_t *pfns);
/* Any thread; doesn't wait.  True: something is to be tidied up (zd_lz4_store_tidy()). */
bool zd_lz4_store_free(struct zd_lz4_store *store, struct zd_page *page);
/* One thread at a time a page.  0, or -ENOSPC: the page isn't stored, and can't be read. */
int zd_lz4_store_put(struct zd_lz4_store *store, struct zd_lz4_codec *codec, uint64_t index,
		     const void *page);
/* 0 or -EIO.  Waits for no other thread. */
int zd_lz4_store_get(struct zd_lz4_store *store, uint64_t index, void *page);
/* For zd_lz4_objects_compact(): the object of page @index is at @place now. */
void zd_lz4_store_moved(void *store, uint32_t index, uint64_t place);
/* A step towards a smaller pool.  False: there is nothing to do.  Any thread; may block. */
bool zd_lz4_store_tidy(struct zd_lz4_store *store);
/* In the child of a fork, which goes on with the device: freed pages are looked after here, too. */
void zd_lz4_store_adopt(struct zd_lz4_store *store);

/* --- worker.c --- */

struct zd_lz4_worker {
	pthread_t thread;
	struct zd_process process;	/* that has the thread */
	bool running;
	void *stack;
	struct zd_mutex lock;		/* the queue's; nothing is taken inside */
	struct zd_ioq queue;		/* batches to store */
	uint32_t bell;			/* __atomic: counts what there is to do; a futex */
	uint32_t asleep;		/* __atomic */
	bool stop;			/* __atomic */
	bool untidy;			/* __atomic: the bell was rung for it */
	struct zd_lz4_codec codec;
	struct zd_lz4_store *store;
};

/* 0 or -errno; then there is no thread, and _stop() does nothing. */
int zd_lz4_worker_start(struct zd_lz4_worker *worker, struct zd_lz4_store *store, int level);
/* Its queue is empty.  May block. */
void zd_lz4_worker_stop(struct zd_lz4_worker *worker);
/* In the child of a fork, with no batch in flight: a thread of the child's own, if one can be had. */
void zd_lz4_worker_restart(struct zd_lz4_worker *worker);
/* False: no thread of this process works. */
bool zd_lz4_worker_is_here(const struct zd_lz4_worker *worker);
/* Have @io run and completed.  The server's thread. */
void zd_lz4_worker_give(struct zd_lz4_worker *worker, struct zd_device_io *io);
/* Have the store tidied up.  Any thread; doesn't wait. */
void zd_lz4_worker_tidy(struct zd_lz4_worker *worker);
/* Store or load a batch's pages, and tidy up meanwhile. */
void zd_lz4_run_batch(struct zd_lz4_store *store, struct zd_lz4_codec *codec,
		      struct zd_device_io *io);

/* --- device.c --- */

struct zd_lz4 {
	struct zd_device dev;
	struct zd_lz4_store store;
	struct zd_lz4_worker worker;
	struct zd_lz4_codec codec;	/* of the thread that submits */
};

/* zd_lz4_device_create(), with another number of pages; nothing is checked. */
int zd_lz4_create(uint64_t nr_pages, uint64_t max_pages, int level, struct zd_device **dev);

#endif
