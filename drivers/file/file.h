/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/file.h - the parts of the file driver, and what each owns.
 *
 *	driver.c	its name, and what its errors mean to the user
 *	file.c		the device: create, destroy, pages, ->submit and ->reap
 *	batch.c		batches, and holes, cut into requests
 *	uring.c		requests run by io_uring
 *	request.c	one transfer, and the results of its pages
 *	open.c		from a path to a descriptor that is safe to use
 *
 * Each calls those below it only.
 */
#ifndef ZD_DRIVERS_FILE_FILE_H
#define ZD_DRIVERS_FILE_FILE_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include "pages/ioq.h"
#include "drivers/pool.h"
#include "zonedev/device.h"

#define ZD_FILE_DEPTH		256	/* requests in flight */
#define ZD_FILE_REQ_PAGES	64	/* pages in one request */
#define ZD_FILE_KICK_WORDS	16	/* 4 MiB of idle words: ask for a reap */
#define ZD_FILE_PUNCH_WORDS	16	/* words being punched at a time, at most */

/* The open file or block device (open.c). */
struct zd_file_target {
	int fd;
	bool block;		/* a block device */
	bool clear;		/* outlives the device and holds its data: is left empty */
	bool direct;		/* O_DIRECT is on */
	unsigned int align;	/* offsets that a transfer may continue at */
	uint64_t size;		/* bytes, whole pages */
};

/* As zd_file_device_create() has it.  0 or -errno; then nothing is left open.  Blocks. */
int zd_file_open(const char *path, uint64_t size, unsigned int flags,
		 struct zd_file_target *target);
/* Leave what outlives the device empty, unlock it, and close it.  Blocks. */
void zd_file_close(struct zd_file_target *target);

enum zd_file_hole { ZD_HOLE_FALLOCATE, ZD_HOLE_DISCARD, ZD_HOLE_NONE };

/*
 * One transfer: up to 64 pages whose pfns are consecutive, of one batch; or,
 * with @io NULL, a hole of @nr pages at page @index.
 */
struct zd_file_req {
	struct zd_file_req *next;	/* free list */
	struct zd_device_io *io;
	unsigned int first;		/* in io->pages */
	unsigned int nr;
	uint64_t index;			/* first page in the file */
	uint64_t done;			/* bytes */
	unsigned int stalls;		/* results in a row that moved nothing */
	bool single;			/* page by page: one of them failed */
	unsigned int nr_iov;
	struct iovec iov[ZD_FILE_REQ_PAGES];
};

struct zd_file {
	struct zd_device dev;
	struct zd_file_target target;
	struct zd_pool pool;
	enum zd_file_hole hole;
	bool truncated;			/* the file, by another program: its pages are lost */
	bool uring;
	struct io_uring ring;
	int event;			/* eventfd: completions, and kicks by page_free */
	struct zd_file_req *reqs, *free_reqs;
	unsigned int reqs_busy;
	unsigned int punching;		/* words */
	unsigned int batches;		/* submitted and not yet done */
	struct zd_ioq queue;		/* batches not wholly started; io->driver: the next page */
	struct zd_io_finisher finisher;
	char mode[128];
	char name[64];
};

/* Words of the pool that @pages, from a word's first page on, lie in. */
static inline unsigned int zd_file_pool_words(uint64_t pages)
{
	return (pages + ZD_POOL_WORD_PAGES - 1) / ZD_POOL_WORD_PAGES;
}

/* Make event_fd readable, so that the server calls ->reap.  Any thread. */
static inline void zd_file_kick(struct zd_file *file)
{
	/* Fails only when the counter is full: then it is readable anyway. */
	(void)!eventfd_write(file->event, 1);
}

/* All below are called by the server's thread. */

/* --- batch.c --- */

/* Start as much of the queued batches as there are free requests for. */
void zd_file_pump(struct zd_file *file);
/* Start punching holes where words of the pool have become free. */
void zd_file_punch(struct zd_file *file);

/* --- uring.c --- */

/* 0 and file->uring set; -errno: io_uring is not to be had. */
int zd_file_uring_init(struct zd_file *file);
/* Waits for what is in flight. */
void zd_file_uring_exit(struct zd_file *file);
/* Queue the request for zd_file_uring_flush().  A hole that io_uring can't punch is punched here,
 * and blocks. */
void zd_file_uring_issue(struct zd_file *file, struct zd_file_req *req);
/* Give what was issued to the kernel. */
void zd_file_uring_flush(struct zd_file *file);
/* Handle what has completed.  @wait: sleep until a request has. */
void zd_file_uring_reap(struct zd_file *file, bool wait);

/* --- request.c --- */

/* A free request, or NULL; back to the free ones. */
struct zd_file_req *zd_file_req_get(struct zd_file *file);
void zd_file_req_put(struct zd_file *file, struct zd_file_req *req);
/* Set req->iov and req->nr_iov to what is left; returns the offset. */
uint64_t zd_file_req_prepare(struct zd_file_req *req);
/* The last transfer of @req returned @res.  True: @req is finished (and gone);
 * false: it is to be started again, for the rest. */
bool zd_file_req_result(struct zd_file *file, struct zd_file_req *req, int res);
/* Run @req to its end in this thread; @req is gone then.  Blocks. */
void zd_file_req_run(struct zd_file *file, struct zd_file_req *req);
/* All pages of the batch have their results: queue it for ->done. */
void zd_file_batch_finished(struct zd_file *file, struct zd_device_io *io);

#endif
