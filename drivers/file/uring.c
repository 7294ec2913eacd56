/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/uring.c - running the file driver's requests by io_uring.
 *
 * There are as many submission entries as requests, and a request is in the
 * ring at most once, so there is always an entry to be had.
 *
 * The ring survives fork: no SQPOLL thread (it would belong to the parent), no
 * registered buffers or files, no IORING_SETUP_SINGLE_ISSUER.  A server may
 * therefore create the device, fork, and go on in the child.
 */
#include "drivers/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/bug.h"
#include "zonedev/log.h"

int zd_file_uring_init(struct zd_file *file)
{
	struct io_uring_params params = { .flags = IORING_SETUP_CLAMP };
	int ret;

	ret = io_uring_queue_init_params(ZD_FILE_DEPTH, &file->ring, &params);
	if (ret)
		return ret;
	if (params.sq_entries < ZD_FILE_DEPTH) {
		io_uring_queue_exit(&file->ring);
		return -ENOMEM;
	}
	ret = io_uring_register_eventfd(&file->ring, file->event);
	if (ret) {
		io_uring_queue_exit(&file->ring);
		return ret;
	}
	file->uring = true;
	return 0;
}

void zd_file_uring_exit(struct zd_file *file)
{
	while (file->reqs_busy)
		zd_file_uring_reap(file, true);
	io_uring_queue_exit(&file->ring);
	file->uring = false;
}

void zd_file_uring_issue(struct zd_file *file, struct zd_file_req *req)
{
	const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct io_uring_sqe *sqe;
	uint64_t off;

	/* io_uring has no discard before Linux 6.12. */
	if (!req->io && file->hole == ZD_HOLE_DISCARD) {
		zd_file_req_run(file, req);
		return;
	}
	sqe = io_uring_get_sqe(&file->ring);
	ZD_BUG_ON(!sqe, "%s: no submission entry for request %u of %u", file->dev.name,
		  file->reqs_busy, ZD_FILE_DEPTH);
	if (!req->io) {
		io_uring_prep_fallocate(sqe, file->target.fd, hole, req->index * ZD_PAGE_SIZE,
					(uint64_t)req->nr * ZD_PAGE_SIZE);
	} else {
		off = zd_file_req_prepare(req);
		if (req->io->dir == ZD_TO_DEVICE)
			io_uring_prep_writev(sqe, file->target.fd, req->iov, req->nr_iov, off);
		else
			io_uring_prep_readv(sqe, file->target.fd, req->iov, req->nr_iov, off);
	}
	io_uring_sqe_set_data(sqe, req);
}

/* What the kernel doesn't take now stays in the ring and goes with the next call: the event sees
 * to it that there is one. */
void zd_file_uring_flush(struct zd_file *file)
{
	int ret;

	if (!io_uring_sq_ready(&file->ring))
		return;
	ret = io_uring_submit(&file->ring);
	if (ret < 0 && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR)
		zd_warn_once("%s: io_uring_submit: %s", file->dev.name, strerrordesc_np(-ret));
	if (io_uring_sq_ready(&file->ring))
		zd_file_kick(file);
}

static void reap_ready(struct zd_file *file)
{
	struct io_uring_cqe *cqe;

	/* One at a time: a request that is not finished takes the submission
	 * entry that its completion has set free. */
	while (!io_uring_peek_cqe(&file->ring, &cqe)) {
		struct zd_file_req *req = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&file->ring, cqe);
		if (!zd_file_req_result(file, req, res))
			zd_file_uring_issue(file, req);
	}
}

void zd_file_uring_reap(struct zd_file *file, bool wait)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	int ret;

	if (wait && file->reqs_busy && !io_uring_cq_ready(&file->ring)) {
		ret = io_uring_submit_and_wait(&file->ring, 1);
		/* The kernel is out of memory for requests: give it time. */
		if (ret < 0 && ret != -EINTR)
			nanosleep(&moment, NULL);
	}
	reap_ready(file);
}
