/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/io.c - from batches to transfers and back.
 *
 * A batch is cut into requests: runs of consecutive pages, each one readv or
 * writev.  A request lives until all its pages have a result:
 *
 *	- a transfer that stops short is continued where it stopped;
 *	- a transfer of many pages that fails is repeated page by page, so that
 *	  one bad sector, or a file system with room for three more pages, costs
 *	  exactly the pages that it must;
 *	- the end of the file inside the device is an error of the page.  The file
 *	  was made as long as the device, so it means that somebody cut it.
 *
 * Never zeros.  A file that was cut reads as zeros again as soon as a later
 * write of ours makes it grow.  So the size is looked at after each batch and
 * before its pages are reported good: once it is wrong, the file is lost and
 * every page is an error from then on.
 */
#include "drivers/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bug.h"
#include "zonedev/log.h"

#define MAX_STALLS 8

static struct zd_file_req *req_get(struct zd_file *file)
{
	struct zd_file_req *req = file->free_reqs;

	if (!req)
		return NULL;
	file->free_reqs = req->next;
	file->reqs_busy++;
	req->done = 0;
	req->stalls = 0;
	req->single = false;
	return req;
}

static void req_put(struct zd_file *file, struct zd_file_req *req)
{
	req->next = file->free_reqs;
	file->free_reqs = req;
	file->reqs_busy--;
}

static void start(struct zd_file *file, struct zd_file_req *req)
{
	if (file->uring) {
		zd_file_uring_issue(file, req);
		return;
	}
	while (!zd_file_req_result(file, req, zd_file_req_sync(file, req)))
		;
}

/* Is the file still as long as the device?  Block devices can't be cut. */
static bool file_is_cut(struct zd_file *file)
{
	struct stat st;

	if (file->target.block || file->cut)
		return file->cut;
	if (fstat(file->target.fd, &st) || (uint64_t)st.st_size < file->target.size) {
		zd_log(ZD_LOG_ERR, "%s: the file was truncated by somebody else: what it held is lost",
		       file->dev.name);
		file->cut = true;
	}
	return file->cut;
}

static void batch_finished(struct zd_file *file, struct zd_device_io *io)
{
	unsigned int i;

	if (file_is_cut(file))
		for (i = 0; i < io->nr; i++)
			io->pages[i].error = -EIO;
	file->batches--;
	zd_ioq_push(&file->finisher.done, io);
}

/* The longest run of consecutive pages from @req->first on. */
static void cut_run(struct zd_file *file, struct zd_file_req *req)
{
	const struct zd_io_page *page = &req->io->pages[req->first];
	unsigned int left = req->io->nr - req->first, n = 1;

	while (n < left && n < ZD_FILE_REQ_PAGES && page[n].pfn == page[0].pfn + n)
		n++;
	req->nr = n;
	req->index = zd_device_page_index(&file->dev, page[0].pfn);
}

/* Start as much of the queue as there are requests for. */
void zd_file_pump(struct zd_file *file)
{
	struct zd_device_io *io;
	struct zd_file_req *req;

	while ((io = file->queue.head)) {
		unsigned int next = (uintptr_t)io->driver;

		if (next == io->nr) {	/* an empty batch */
			zd_ioq_pop(&file->queue);
			batch_finished(file, io);
			continue;
		}
		req = req_get(file);
		if (!req)
			break;
		req->io = io;
		req->first = next;
		cut_run(file, req);
		next += req->nr;
		io->driver = (void *)(uintptr_t)next;
		io->pending++;
		if (next == io->nr)
			zd_ioq_pop(&file->queue);
		start(file, req);
	}
	if (file->uring)
		zd_file_uring_flush(file);
}

uint64_t zd_file_req_prepare(struct zd_file_req *req)
{
	unsigned int skip = req->done % ZD_PAGE_SIZE;
	unsigned int i = req->done / ZD_PAGE_SIZE;
	unsigned int end = req->single ? i + 1 : req->nr;

	req->nr_iov = 0;
	for (; i < end; i++) {
		char *buf = req->io->pages[req->first + i].buf;
		struct iovec *last = req->nr_iov ? &req->iov[req->nr_iov - 1] : NULL;

		if (last && (char *)last->iov_base + last->iov_len == buf) {
			last->iov_len += ZD_PAGE_SIZE;
			continue;
		}
		req->iov[req->nr_iov].iov_base = buf + skip;
		req->iov[req->nr_iov++].iov_len = ZD_PAGE_SIZE - skip;
		skip = 0;
	}
	return req->index * ZD_PAGE_SIZE + req->done;
}

static unsigned int words_of(uint64_t pages)
{
	return (pages + ZD_POOL_WORD_PAGES - 1) / ZD_POOL_WORD_PAGES;
}

static void hole_result(struct zd_file *file, struct zd_file_req *req, int res)
{
	if (res == -EOPNOTSUPP || res == -ENOSYS || res == -EINVAL || res == -ENOTTY) {
		if (file->target.block && file->hole == ZD_HOLE_FALLOCATE)
			file->hole = ZD_HOLE_DISCARD;
		else
			file->hole = ZD_HOLE_NONE;
	} else if (res < 0) {
		zd_warn_once("%s: can't punch holes where pages were freed: %s",
			     file->dev.name, strerrordesc_np(-res));
	}
	file->punching -= words_of(req->nr);
	zd_pool_return_idle(&file->pool, req->index, req->nr);
}

/* The page that the request has come to gets its result: @error. */
static void page_failed(struct zd_file_req *req, int error)
{
	unsigned int i = req->done / ZD_PAGE_SIZE;

	req->io->pages[req->first + i].error = error;
	req->done = (uint64_t)(i + 1) * ZD_PAGE_SIZE;
	req->stalls = 0;
}

static void bytes_moved(struct zd_file *file, struct zd_file_req *req, unsigned int bytes)
{
	uint64_t all = (uint64_t)req->nr * ZD_PAGE_SIZE;
	uint64_t now = req->done + bytes;
	unsigned int i;

	ZD_BUG_ON(now > all, "%s: a transfer of %llu bytes moved %llu", file->dev.name,
		  (unsigned long long)all, (unsigned long long)now);
	/* O_DIRECT can't go on from just anywhere. */
	now -= now % file->target.align;
	if (now <= req->done) {
		if (++req->stalls == MAX_STALLS)
			page_failed(req, -EIO);
		return;
	}
	req->stalls = 0;
	for (i = req->done / ZD_PAGE_SIZE; i < now / ZD_PAGE_SIZE; i++)
		req->io->pages[req->first + i].error = 0;
	req->done = now;
}

bool zd_file_req_result(struct zd_file *file, struct zd_file_req *req, int res)
{
	struct zd_device_io *io = req->io;

	/* ECANCELED: the process that started it has ended; we, its child,
	 * go on with its ring. */
	if (res == -EINTR || res == -EAGAIN || res == -ECANCELED)
		return false;
	if (!io) {
		hole_result(file, req, res);
		req_put(file, req);
		return true;
	}
	if (res > 0)
		bytes_moved(file, req, res);
	else if (res == 0)
		page_failed(req, -EIO);
	else if (!req->single && req->nr - req->done / ZD_PAGE_SIZE > 1)
		req->single = true;
	else
		page_failed(req, res);
	if (req->done < (uint64_t)req->nr * ZD_PAGE_SIZE)
		return false;

	req_put(file, req);
	if (!--io->pending && (uintptr_t)io->driver == io->nr)
		batch_finished(file, io);
	return true;
}

/* Run one transfer here and now; its result as io_uring would give it. */
int zd_file_req_sync(struct zd_file *file, struct zd_file_req *req)
{
	int fd = file->target.fd;
	uint64_t range[2] = { req->index * ZD_PAGE_SIZE, req->nr * ZD_PAGE_SIZE };
	uint64_t off;
	ssize_t res;

	if (!req->io) {
		if (file->hole == ZD_HOLE_FALLOCATE)
			res = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					range[0], range[1]);
		else
			res = ioctl(fd, BLKDISCARD, range);
		return res < 0 ? -errno : 0;
	}
	off = zd_file_req_prepare(req);
	if (req->io->dir == ZD_TO_DEVICE)
		res = pwritev(fd, req->iov, req->nr_iov, off);
	else
		res = preadv(fd, req->iov, req->nr_iov, off);
	return res < 0 ? -errno : (int)res;
}

/* Make event_fd readable, so that the server calls ->reap. */
void zd_file_kick(struct zd_file *file)
{
	/* Fails only when the counter is full: then it is readable anyway. */
	(void)!eventfd_write(file->event, 1);
}

/*
 * Start punching holes where 64-page words have become free.  What is being
 * punched can't be allocated, so it is little at a time, and takes as long as
 * the file system takes: by io_uring, beside the copies of the server.
 */
void zd_file_punch(struct zd_file *file)
{
	unsigned int budget = ZD_FILE_PUNCH_WORDS - file->punching, words;
	struct zd_file_req *req;
	uint64_t nr;

	for (; budget && file->hole != ZD_HOLE_NONE; budget -= words) {
		req = req_get(file);
		if (!req)
			return;
		nr = zd_pool_take_idle(&file->pool, budget, &req->index);
		if (!nr) {
			req_put(file, req);
			return;
		}
		words = words_of(nr);
		req->io = NULL;
		req->nr = nr;
		file->punching += words;
		start(file, req);
	}
	/* Go on when these are done; io_uring says so by itself. */
	if (!budget && !file->punching && zd_pool_idle_words(&file->pool))
		zd_file_kick(file);
}
