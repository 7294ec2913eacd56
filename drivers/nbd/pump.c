/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/pump.c - which command goes next, and on which connection.
 *
 * Reads go first: a thread waits for a read, and nobody for a write.  A command goes to the
 * connection with the fewest bytes in flight, so that a read seldom stands behind a write that
 * is on its way into the same socket; the bytes of writes in flight are bounded for the same
 * reason.
 */
#include "drivers/nbd/nbd.h"

#include <errno.h>

static bool has_room(const struct zd_nbd_conn *conn, bool write)
{
	return conn->state == ZD_NBD_UP && conn->nr_in_flight < ZD_NBD_CONN_CMDS &&
	       (!write || conn->write_bytes < ZD_NBD_CONN_WRITES);
}

static struct zd_nbd_conn *pick(struct zd_nbd *nbd, bool write)
{
	struct zd_nbd_conn *best = NULL;

	for (unsigned int i = 0; i < nbd->nr_conns; i++) {
		struct zd_nbd_conn *conn = &nbd->conn[i];

		if (has_room(conn, write) && (!best || conn->bytes < best->bytes))
			best = conn;
	}
	return best;
}

static struct zd_nbd_cmd *next_again(struct zd_nbd *nbd, enum zd_nbd_dir dir, uint64_t now)
{
	struct zd_nbd_cmd *cmd;

	cds_list_for_each_entry(cmd, &nbd->again[dir], node) {
		if (cmd->due_ns > now)
			continue;
		cds_list_del(&cmd->node);
		return cmd;
	}
	return NULL;
}

/* False: libnbd doesn't take commands now; what has become of the connection is seen later. */
static bool send_on(struct zd_nbd *nbd, struct zd_nbd_cmd *cmd, struct zd_nbd_conn *conn,
		    uint64_t now)
{
	bool taken = zd_nbd_cmd_send(nbd, cmd, conn, now);

	/* libnbd takes a command, too, whose connection dies while that is sent. */
	zd_nbd_conn_look(conn);
	if (taken)
		return true;
	zd_nbd_cmd_lost(nbd, cmd, false);
	return false;
}

static bool pump_dir(struct zd_nbd *nbd, enum zd_nbd_dir dir, uint64_t now)
{
	struct zd_nbd_conn *conn;
	struct zd_nbd_cmd *cmd;

	while ((conn = pick(nbd, dir == ZD_NBD_WRITE))) {
		cmd = next_again(nbd, dir, now);
		if (!cmd)
			cmd = zd_nbd_cmd_cut(nbd, dir);
		if (!cmd)
			return true;
		if (!send_on(nbd, cmd, conn, now))
			return false;
	}
	return true;
}

void zd_nbd_pump(struct zd_nbd *nbd, uint64_t now)
{
	struct zd_nbd_conn *conn;
	struct zd_nbd_cmd *cmd;

	if (!pump_dir(nbd, ZD_NBD_READ, now) || !pump_dir(nbd, ZD_NBD_WRITE, now))
		return;
	while ((conn = pick(nbd, false)) && (cmd = zd_nbd_trim_next(nbd)))
		if (!send_on(nbd, cmd, conn, now))
			return;
}

void zd_nbd_fail_waiting(struct zd_nbd *nbd, enum zd_nbd_dir dir, int error)
{
	struct zd_nbd_cmd *cmd, *tmp;
	struct zd_device_io *io;

	cds_list_for_each_entry_safe(cmd, tmp, &nbd->again[dir], node) {
		cds_list_del(&cmd->node);
		zd_nbd_cmd_end(nbd, cmd, error);
	}
	while ((io = zd_ioq_pop(&nbd->queue[dir])))
		zd_nbd_batch_fail(nbd, io, error);
}

void zd_nbd_fail_late(struct zd_nbd *nbd, uint64_t now)
{
	static const int errors[] = { [ZD_NBD_READ] = -ETIMEDOUT, [ZD_NBD_WRITE] = -EAGAIN };
	struct zd_nbd_cmd *cmd, *tmp;

	for (int dir = 0; dir < ZD_NBD_DIRS; dir++)
		cds_list_for_each_entry_safe(cmd, tmp, &nbd->again[dir], node) {
			if (!cmd->deadline_ns || now < cmd->deadline_ns)
				continue;
			cds_list_del(&cmd->node);
			zd_nbd_cmd_end(nbd, cmd, errors[dir]);
		}
}

uint64_t zd_nbd_next_due(const struct zd_nbd *nbd, uint64_t now)
{
	const struct zd_nbd_cmd *cmd;
	uint64_t due = UINT64_MAX;

	for (int dir = 0; dir < ZD_NBD_DIRS; dir++)
		cds_list_for_each_entry(cmd, &nbd->again[dir], node)
			if (cmd->due_ns > now && cmd->due_ns < due)
				due = cmd->due_ns;
	return due;
}
