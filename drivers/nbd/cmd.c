/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/cmd.c - a command: cut from a batch, sent, answered, tried again.
 *
 * A run of pages that are consecutive on the device and in memory is one command.  A command
 * that the server answers with an error may have better luck a moment later (another machine's
 * memory has more ways to fail than a disk, and most of them pass), so it is sent again, a few
 * times, with longer pauses.  Then a command of many pages goes on page by page, so that one bad
 * block costs the pages that it must and no other.
 */
#include "drivers/nbd/nbd.h"

#include <errno.h>

#include "base/bug.h"
#include "base/time.h"
#include "drivers/media/crc32c.h"
#include "zonedev/log.h"

void zd_nbd_cmds_init(struct zd_nbd *nbd)
{
	CDS_INIT_LIST_HEAD(&nbd->free_cmds);
	for (unsigned int i = 0; i < ZD_NBD_CMDS; i++)
		cds_list_add_tail(&nbd->cmds[i].node, &nbd->free_cmds);
	for (int dir = 0; dir < ZD_NBD_DIRS; dir++) {
		CDS_INIT_LIST_HEAD(&nbd->again[dir]);
		nbd->queue[dir].head = NULL;
	}
	nbd->nr_reads = nbd->nr_trims = 0;
	nbd->stats.in_flight = 0;
}

static enum zd_nbd_dir dir_of(const struct zd_nbd_cmd *cmd)
{
	return cmd->io->dir == ZD_TO_DEVICE ? ZD_NBD_WRITE : ZD_NBD_READ;
}

/* Complete the batch if none of its pages is waited for. */
static void batch_check(struct zd_nbd *nbd, struct zd_device_io *io)
{
	if (!io->pending && (uintptr_t)io->driver == io->nr)
		zd_io_complete_any(&nbd->dev, io);
}

static void release(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd)
{
	struct zd_device_io *io = cmd->io;

	cds_list_add(&cmd->node, &nbd->free_cmds);
	io->pending--;
	batch_check(nbd, io);
}

void zd_nbd_batch_fail(struct zd_nbd *nbd, struct zd_device_io *io, int error)
{
	for (unsigned int i = (uintptr_t)io->driver; i < io->nr; i++)
		io->pages[i].error = error;
	io->driver = (void *)(uintptr_t)io->nr;
	batch_check(nbd, io);
}

struct zd_nbd_cmd *zd_nbd_cmd_cut(struct zd_nbd *nbd, enum zd_nbd_dir dir)
{
	struct zd_ioq *queue = &nbd->queue[dir];
	struct zd_device_io *io = queue->head;
	unsigned int first, n = 1, most = nbd->export.max_bytes / ZD_PAGE_SIZE;
	const struct zd_io_page *page;
	struct zd_nbd_cmd *cmd;

	if (!io || cds_list_empty(&nbd->free_cmds))
		return NULL;
	first = (uintptr_t)io->driver;
	page = &io->pages[first];
	while (first + n < io->nr && n < most && page[n].pfn == page[0].pfn + n &&
	       (char *)page[n].buf == (char *)page[0].buf + n * ZD_PAGE_SIZE)
		n++;
	cmd = cds_list_first_entry(&nbd->free_cmds, struct zd_nbd_cmd, node);
	cds_list_del(&cmd->node);
	*cmd = (struct zd_nbd_cmd){
		.io = io,
		.first = first,
		.nr = n,
		.index = zd_device_page_index(&nbd->dev, page[0].pfn),
	};
	io->pending++;
	io->driver = (void *)(uintptr_t)(first + n);
	if (first + n == io->nr)
		zd_ioq_pop(queue);
	if (dir == ZD_NBD_WRITE)
		for (unsigned int i = 0; i < n; i++) {
			uint32_t sum = zd_crc32c_x4(page[i].buf, ZD_PAGE_SIZE);

			__atomic_store_n(&nbd->sums[cmd->index + i], sum ? sum : 1,
					 __ATOMIC_RELAXED);
		}
	return cmd;
}

/* libnbd's answer: noted only, since libnbd is in the middle of something.  1: libnbd may
 * forget the command. */
static int answered(void *data, int *error)
{
	struct zd_nbd_cmd *cmd = data;

	cmd->error = -*error;
	cds_list_del(&cmd->node);
	cds_list_add_tail(&cmd->node, &cmd->conn->answered);
	return 1;
}

bool zd_nbd_cmd_send(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, struct zd_nbd_conn *conn,
		     uint64_t now)
{
	const nbd_completion_callback callback = { .callback = answered, .user_data = cmd };
	uint64_t offset = (cmd->index + cmd->at) * ZD_PAGE_SIZE;
	uint32_t fua = nbd->fua ? LIBNBD_CMD_FLAG_FUA : 0;
	int64_t cookie;
	void *buf;

	cmd->conn = conn;
	cmd->bytes = (uint64_t)(cmd->single ? 1 : cmd->nr) * ZD_PAGE_SIZE;
	cmd->sent_ns = now;
	if (!cmd->deadline_ns)
		cmd->deadline_ns = now + nbd->stall_ns;
	cds_list_add_tail(&cmd->node, &conn->in_flight);
	conn->nr_in_flight++;
	zd_nbd_count(&nbd->stats.in_flight, 1);
	if (!cmd->io) {
		cookie = nbd->lib.aio_trim(conn->handle, cmd->bytes, offset, callback, 0);
	} else {
		conn->bytes += cmd->bytes;
		buf = cmd->io->pages[cmd->first + cmd->at].buf;
		if (dir_of(cmd) == ZD_NBD_WRITE) {
			conn->write_bytes += cmd->bytes;
			cookie = nbd->lib.aio_pwrite(conn->handle, buf, cmd->bytes, offset,
						     callback, fua);
		} else {
			nbd->nr_reads++;
			cookie = nbd->lib.aio_pread(conn->handle, buf, cmd->bytes, offset, callback,
						    0);
		}
	}
	zd_nbd_count(&nbd->stats.commands, 1);
	return cookie >= 0;
}

/* @cmd is off its connection. */
static void take_off(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd)
{
	struct zd_nbd_conn *conn = cmd->conn;

	cds_list_del(&cmd->node);
	conn->nr_in_flight--;
	if (cmd->io) {
		conn->bytes -= cmd->bytes;
		if (dir_of(cmd) == ZD_NBD_WRITE)
			conn->write_bytes -= cmd->bytes;
		else
			nbd->nr_reads--;
	}
	cmd->conn = NULL;
	zd_nbd_count(&nbd->stats.in_flight, -1);
}

static void again(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, uint64_t due_ns)
{
	cmd->due_ns = due_ns;
	zd_nbd_count(&nbd->stats.retries, 1);
	cds_list_add_tail(&cmd->node, &nbd->again[dir_of(cmd)]);
}

static void retire(struct zd_nbd *nbd, const struct zd_nbd_cmd *cmd)
{
	for (uint64_t i = cmd->index, end = i + cmd->nr; i < end; i++) {
		if (zd_nbd_is_retired(nbd, i))
			continue;
		__atomic_fetch_or(&nbd->retired[i / 64], UINT64_C(1) << i % 64, __ATOMIC_RELAXED);
		zd_nbd_count(&nbd->stats.retired, 1);
	}
}

void zd_nbd_cmd_lost(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, bool cut)
{
	take_off(nbd, cmd);
	if (cut && (!cmd->io || dir_of(cmd) == ZD_NBD_WRITE))
		retire(nbd, cmd);
	if (cmd->io) {
		again(nbd, cmd, 0);
		return;
	}
	cmd->error = 0;
	if (!cut) {
		zd_nbd_trim_done(nbd, cmd, false);
		return;
	}
	/* The words of a retired trim stay out of circulation. */
	nbd->nr_trims--;
	cds_list_add(&cmd->node, &nbd->free_cmds);
}

void zd_nbd_cmd_end(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, int error)
{
	for (unsigned int i = cmd->at; i < cmd->nr; i++)
		cmd->io->pages[cmd->first + i].error = error;
	release(nbd, cmd);
}

/* Are the pages of the transfer, which has gone well, what was written? */
static int check_sums(struct zd_nbd *nbd, const struct zd_nbd_cmd *cmd)
{
	unsigned int nr = cmd->bytes / ZD_PAGE_SIZE;
	int error = 0;

	for (unsigned int i = cmd->at; i < cmd->at + nr; i++) {
		uint32_t want = __atomic_load_n(&nbd->sums[cmd->index + i], __ATOMIC_RELAXED);
		uint32_t sum;

		if (!want)
			continue;
		sum = zd_crc32c_x4(cmd->io->pages[cmd->first + i].buf, ZD_PAGE_SIZE);
		if ((sum ? sum : 1) == want)
			continue;
		error = -EBADMSG;
		zd_nbd_count(&nbd->stats.checksum_errors, 1);
	}
	return error;
}

/* The error of a page for good. */
static int final_error(struct zd_nbd *nbd, const struct zd_nbd_cmd *cmd)
{
	switch (cmd->error) {
	case -EBADMSG:
		zd_warn_once("%s: the server has other data than it was given: "
			     "was it started again with an empty memory?",
			     nbd->name);
		return -EIO;
	case -ENOSPC:
		return dir_of(cmd) == ZD_NBD_WRITE ? -ENOSPC : -EIO;
	case -EPERM:
		zd_warn_once("%s: the server refuses to %s", nbd->name,
			     dir_of(cmd) == ZD_NBD_WRITE ? "write" : "read");
		return -EIO;
	default:
		return -EIO;
	}
}

/* Is another try of any use?  Content that is wrong is read once more. */
static bool may_pass(struct zd_nbd_cmd *cmd)
{
	switch (cmd->error) {
	case -ENOSPC:
	case -EPERM:
	case -EINVAL:
	case -EOVERFLOW:
		cmd->tries = ZD_NBD_MAX_TRIES;
		return false;
	case -ESHUTDOWN:	/* the connection is about to end */
		return true;
	case -EBADMSG:
		cmd->tries = cmd->tries < ZD_NBD_MAX_TRIES - 1 ? ZD_NBD_MAX_TRIES - 1 :
								 ZD_NBD_MAX_TRIES;
		break;
	default:
		cmd->tries++;
	}
	return cmd->tries < ZD_NBD_MAX_TRIES;
}

/* One page has its result.  True: it was the command's last one. */
static bool page_done(struct zd_nbd_cmd *cmd, int error)
{
	cmd->io->pages[cmd->first + cmd->at++].error = error;
	cmd->tries = ZD_NBD_MAX_TRIES - 1;	/* one for each of the others */
	cmd->deadline_ns = 0;
	return cmd->at == cmd->nr;
}

static void failed(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, uint64_t now)
{
	if (may_pass(cmd)) {
		unsigned int n = (cmd->tries ? cmd->tries : ZD_NBD_MAX_TRIES) - 1;

		again(nbd, cmd, now + (ZD_NBD_RETRY_NS << n));
		return;
	}
	if (!cmd->single && cmd->nr > 1) {
		cmd->single = true;
		cmd->tries = ZD_NBD_MAX_TRIES - 1;
		again(nbd, cmd, now);
	} else if (!cmd->single) {
		zd_nbd_cmd_end(nbd, cmd, final_error(nbd, cmd));
	} else if (page_done(cmd, final_error(nbd, cmd))) {
		release(nbd, cmd);
	} else {
		again(nbd, cmd, now);
	}
}

static void succeeded(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, uint64_t now)
{
	zd_nbd_count(&nbd->stats.pages, cmd->bytes / ZD_PAGE_SIZE);
	if (dir_of(cmd) == ZD_NBD_READ) {
		nbd->read_ns = now - cmd->sent_ns;
		zd_nbd_count_latency(nbd, nbd->read_ns);
	}
	if (!cmd->single) {
		zd_nbd_cmd_end(nbd, cmd, 0);
	} else if (page_done(cmd, 0)) {
		release(nbd, cmd);
	} else {
		again(nbd, cmd, now);
	}
}

void zd_nbd_cmd_result(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, uint64_t now)
{
	take_off(nbd, cmd);
	if (!cmd->io) {
		zd_nbd_trim_done(nbd, cmd, !cmd->error);
		return;
	}
	if (!cmd->error && dir_of(cmd) == ZD_NBD_READ)
		cmd->error = check_sums(nbd, cmd);
	if (cmd->error)
		failed(nbd, cmd, now);
	else
		succeeded(nbd, cmd, now);
}
