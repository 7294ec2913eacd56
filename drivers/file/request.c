/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/request.c - one transfer, from its buffers to the results of its pages.
 *
 * A request is a run of consecutive pages of one batch, one readv or writev.  It
 * lives until each of its pages has a result:
 *
 *	- a transfer that stops short is continued where it stopped;
 *	- a transfer of many pages that fails is repeated page by page, so that
 *	  one bad sector, or a file system with room for three more pages, costs
 *	  exactly the pages that it must;
 *	- the end of the file inside the device is an error of the page.  The file
 *	  was made as long as the device, so another program has truncated it.
 *
 * Never zeros.  A truncated file reads as zeros again as soon as a later write of
 * the device makes it grow.  So the size is looked at after each batch and
 * before its pages are reported good: once it is wrong, the file is lost and
 * every page is an error from then on.
 *
 * Who starts a transfer, and tells its result here, is batch.c or uring.c.  All of
 * it runs in the server's thread.
 */
#include "drivers/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bug.h"
#include "zonedev/log.h"

#define MAX_STALLS 8

struct zd_file_req *zd_file_req_get(struct zd_file *file)
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

void zd_file_req_put(struct zd_file *file, struct zd_file_req *req)
{
	req->next = file->free_reqs;
	file->free_reqs = req;
	file->reqs_busy--;
}

/* Compare the file's size with the device's, and remember that it was truncated.  A block device
 * can't be. */
static bool check_truncated(struct zd_file *file)
{
	struct stat st;

	if (file->target.block || file->truncated)
		return file->truncated;
	if (fstat(file->target.fd, &st) || (uint64_t)st.st_size < file->target.size) {
		zd_log(ZD_LOG_ERR,
		       "%s: the file was truncated by somebody else: what it held is lost",
		       file->dev.name);
		file->truncated = true;
	}
	return file->truncated;
}

void zd_file_batch_finished(struct zd_file *file, struct zd_device_io *io)
{
	unsigned int i;

	if (check_truncated(file))
		for (i = 0; i < io->nr; i++)
			io->pages[i].error = -EIO;
	file->batches--;
	zd_ioq_push(&file->finisher.done, io);
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

/* The medium has no holes of the kind that was tried: try the next kind, or none any more. */
static void hole_unsupported(struct zd_file *file)
{
	if (file->target.block && file->hole == ZD_HOLE_FALLOCATE)
		file->hole = ZD_HOLE_DISCARD;
	else
		file->hole = ZD_HOLE_NONE;
}

static void hole_result(struct zd_file *file, struct zd_file_req *req, int res)
{
	if (res == -EOPNOTSUPP || res == -ENOSYS || res == -EINVAL || res == -ENOTTY)
		hole_unsupported(file);
	else if (res < 0)
		zd_warn_once("%s: can't punch holes where pages were freed: %s", file->dev.name,
			     strerrordesc_np(-res));
	file->punching -= zd_file_pool_words(req->nr);
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
	/* O_DIRECT can only be continued at a multiple of the alignment. */
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

	/* ECANCELED: the process that started the transfer has ended, and this one, a forked
	 * child of it, goes on with its ring. */
	if (res == -EINTR || res == -EAGAIN || res == -ECANCELED)
		return false;
	if (!io) {
		hole_result(file, req, res);
		zd_file_req_put(file, req);
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

	zd_file_req_put(file, req);
	if (!--io->pending && (uintptr_t)io->driver == io->nr)
		zd_file_batch_finished(file, io);
	return true;
}

/* One transfer, or hole, in the calling thread; the result as io_uring would give it. */
static int run_once(struct zd_file *file, struct zd_file_req *req)
{
	int fd = file->target.fd;
	uint64_t range[2] = { req->index * ZD_PAGE_SIZE, req->nr * ZD_PAGE_SIZE };
	uint64_t off;
	ssize_t res;

	if (!req->io) {
		if (file->hole == ZD_HOLE_FALLOCATE)
			res = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range[0],
					range[1]);
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

void zd_file_req_run(struct zd_file *file, struct zd_file_req *req)
{
	while (!zd_file_req_result(file, req, run_once(file, req)))
		;
}
