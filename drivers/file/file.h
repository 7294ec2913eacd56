/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/file.h - the parts of the file driver, and what each owns.
 *
 *	file.c		the device: create, destroy, pages, ->submit and ->reap
 *	file/open.c	from a path to a descriptor that is safe to use
 *	file/io.c	batches -> requests -> results, holes
 *	file/uring.c	running requests by io_uring
 */
#ifndef ZD_DRIVERS_FILE_FILE_H
#define ZD_DRIVERS_FILE_FILE_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "drivers/ioq.h"
#include "drivers/pool.h"
#include "zonedev/device.h"

#define ZD_FILE_DEPTH		256	/* requests in flight */
#define ZD_FILE_REQ_PAGES	64	/* pages in one request */
#define ZD_FILE_KICK_WORDS	16	/* 4 MiB of idle words: ask for a reap */
#define ZD_FILE_PUNCH_WORDS	16	/* words being punched at a time, at most */

/* What file/open.c found out. */
struct zd_file_target {
	int fd;
	bool block;		/* a block device */
	bool clear;		/* stays after us and holds our data: leave it empty */
	bool direct;		/* O_DIRECT is on */
	unsigned int align;	/* offsets that a transfer may continue at */
	uint64_t size;		/* bytes, whole pages */
};

int zd_file_open(const char *path, uint64_t size, unsigned int flags,
		 struct zd_file_target *target);
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
	bool cut;			/* somebody truncated the file: its pages are lost */
	bool uring;
	struct io_uring ring;
	int event;			/* eventfd: completions, and kicks by page_free */
	struct zd_file_req *reqs, *free_reqs;
	unsigned int reqs_busy;
	unsigned int punching;		/* words */
	unsigned int batches;		/* submitted and not yet done */
	struct zd_ioq queue;		/* not all requests issued; io->driver: next page */
	struct zd_io_finisher finisher;
	char mode[128];
	char name[64];
};

/* file/io.c */
void zd_file_pump(struct zd_file *file);
void zd_file_punch(struct zd_file *file);
/* The last transfer of @req returned @res.  True: @req is finished (and gone);
 * false: it is to be started again, for the rest. */
bool zd_file_req_result(struct zd_file *file, struct zd_file_req *req, int res);
/* Set req->iov and req->nr_iov to what is left; returns the offset. */
uint64_t zd_file_req_prepare(struct zd_file_req *req);
int zd_file_req_sync(struct zd_file *file, struct zd_file_req *req);
void zd_file_kick(struct zd_file *file);

/* file/uring.c */
int zd_file_uring_init(struct zd_file *file);
void zd_file_uring_exit(struct zd_file *file);
void zd_file_uring_issue(struct zd_file *file, struct zd_file_req *req);
void zd_file_uring_flush(struct zd_file *file);
/* Handle what has completed.  @wait: sleep until something has. */
void zd_file_uring_reap(struct zd_file *file, bool wait);

#endif
