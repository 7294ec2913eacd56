/* SPDX-License-Identifier: MIT */
/*
 * drivers/file/batch.c - batches, and holes, cut into requests.
 *
 * As many requests are started as there are; what is left of the batches waits in
 * file->queue for the next zd_file_pump().  A request is started by io_uring (uring.c),
 * or, where that isn't to be had, run here and now.
 */
#include "drivers/file/file.h"

static void start(struct zd_file *file, struct zd_file_req *req)
{
	if (file->uring)
		zd_file_uring_issue(file, req);
	else
		zd_file_req_run(file, req);
}

/* The longest run of consecutive pages from @req->first on. */
static void set_run(struct zd_file *file, struct zd_file_req *req)
{
	const struct zd_io_page *page = &req->io->pages[req->first];
	unsigned int left = req->io->nr - req->first, n = 1;

	while (n < left && n < ZD_FILE_REQ_PAGES && page[n].pfn == page[0].pfn + n)
		n++;
	req->nr = n;
	req->index = zd_device_page_index(&file->dev, page[0].pfn);
}

void zd_file_pump(struct zd_file *file)
{
	struct zd_device_io *io;
	struct zd_file_req *req;

	while ((io = file->queue.head)) {
		unsigned int next = (uintptr_t)io->driver;

		if (next == io->nr) {	/* an empty batch */
			zd_ioq_pop(&file->queue);
			zd_file_batch_finished(file, io);
			continue;
		}
		req = zd_file_req_get(file);
		if (!req)
			break;
		req->io = io;
		req->first = next;
		set_run(file, req);
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

/*
 * What is being punched can't be allocated, so it is little at a time, and takes as long as
 * the file system takes: by io_uring, beside the copies of the server.
 */
void zd_file_punch(struct zd_file *file)
{
	unsigned int budget = ZD_FILE_PUNCH_WORDS - file->punching, words;
	struct zd_file_req *req;
	uint64_t nr;

	for (; budget && file->hole != ZD_HOLE_NONE; budget -= words) {
		req = zd_file_req_get(file);
		if (!req)
			return;
		nr = zd_pool_take_idle(&file->pool, budget, &req->index);
		if (!nr) {
			zd_file_req_put(file, req);
			return;
		}
		words = zd_file_pool_words(nr);
		req->io = NULL;
		req->nr = nr;
		file->punching += words;
		start(file, req);
	}
	/* The rest is for the next ->reap; holes in flight cause one when they are done. */
	if (!budget && !file->punching && zd_pool_idle_words(&file->pool))
		zd_file_kick(file);
}
