/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/conn.c - a connection: made, polled, lost, made again.
 *
 *	DOWN		until retry_ns
 *	CONNECTING	until libnbd has shaken hands, or ZD_NBD_CONNECT_NS have passed
 *	UP		commands are sent
 *
 * Each attempt has a handle of its own.  libnbd looks a host's name up inside of
 * aio_connect_uri(), which blocks: other connections to the same host wait for that.
 *
 * When a connection ends libnbd answers its commands with errors, or forgets them; it touches
 * their buffers no more once the handle is closed.  Either way they are to be sent again.
 */
#include "drivers/nbd/nbd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/time.h"
#include "zonedev/log.h"

void zd_nbd_conn_init(struct zd_nbd *nbd, struct zd_nbd_conn *conn)
{
	conn->nbd = nbd;
	conn->state = ZD_NBD_DOWN;
	conn->handle = NULL;
	conn->fd = -1;
	conn->retry_ns = 0;
	conn->backoff_ns = ZD_NBD_BACKOFF_MIN_NS;
	CDS_INIT_LIST_HEAD(&conn->in_flight);
	CDS_INIT_LIST_HEAD(&conn->answered);
	conn->nr_in_flight = 0;
	conn->bytes = conn->write_bytes = 0;
}

/* 0 is libnbd's for an end of the stream.  Any other error is this side's: the kernel gave up
 * waiting (ETIMEDOUT, or what it last heard from the network, as EHOSTUNREACH), or libnbd did. */
static bool is_from_there(int error)
{
	return !error || error == ECONNRESET || error == EPIPE || error == ENOTCONN;
}

/* Where the stream ends between two answers libnbd has no error. */
static void note_error(struct zd_nbd_conn *conn)
{
	const struct zd_nbd_lib *lib = &conn->nbd->lib;
	bool closed = conn->handle && lib->aio_is_closed(conn->handle);
	const char *why = closed ? NULL : lib->get_error();
	int error = conn->error ? conn->error : closed ? 0 : lib->get_errno();

	/* Not the name of libnbd's function. */
	if (why && !strncmp(why, "nbd_aio_", strlen("nbd_aio_")) && strstr(why, ": "))
		why = strstr(why, ": ") + 2;
	if (conn->error)
		why = strerrordesc_np(conn->error);
	conn->ended_there = is_from_there(error);
	conn->noted = true;
	snprintf(conn->why, sizeof(conn->why), "%s", why ? why : "");
}

void zd_nbd_conn_close(struct zd_nbd_conn *conn)
{
	const struct zd_nbd_lib *lib = &conn->nbd->lib;

	if (!conn->handle)
		return;
	if (conn->state == ZD_NBD_UP)
		lib->aio_disconnect(conn->handle, 0);
	lib->close(conn->handle);
	conn->handle = NULL;
	conn->fd = -1;
	conn->state = ZD_NBD_DOWN;
}

/* All of the connection's commands wait to be sent again. */
static void lose_commands(struct zd_nbd_conn *conn, bool cut)
{
	struct zd_nbd_cmd *cmd, *tmp;

	cds_list_for_each_entry_safe(cmd, tmp, &conn->answered, node)
		zd_nbd_cmd_lost(conn->nbd, cmd, cut);
	cds_list_for_each_entry_safe(cmd, tmp, &conn->in_flight, node)
		zd_nbd_cmd_lost(conn->nbd, cmd, cut);
}

/* @since: when the server was there for the last time. */
static void lost(struct zd_nbd_conn *conn, uint64_t now, uint64_t since, bool cut)
{
	struct zd_nbd *nbd = conn->nbd;
	bool was_up = conn->state == ZD_NBD_UP;

	conn->state = ZD_NBD_DOWN;	/* without good manners */
	zd_nbd_conn_close(conn);
	lose_commands(conn, cut);
	conn->retry_ns = now + conn->backoff_ns;
	conn->backoff_ns = conn->backoff_ns * 2 < ZD_NBD_BACKOFF_MAX_NS ? conn->backoff_ns * 2 :
									  ZD_NBD_BACKOFF_MAX_NS;
	if (!was_up)
		return;
	zd_nbd_count(&nbd->stats.connections, -1);
	if (nbd->stats.connections)
		return;
	nbd->down_ns = since;
	nbd->told_timeout = false;
	nbd->told_loss = true;
	zd_log(ZD_LOG_WARN, "%s: lost the server (%s): what needs it waits for up to %g s",
	       nbd->name, *conn->why ? conn->why : "it has closed the connection",
	       nbd->timeout_ns / 1e9);
}

void zd_nbd_conn_cut(struct zd_nbd_conn *conn, uint64_t now)
{
	snprintf(conn->why, sizeof(conn->why), "no answer for %g s", conn->nbd->stall_ns / 1e9);
	lost(conn, now, now - conn->nbd->stall_ns, true);
}

/*
 * A machine that vanishes says nothing.  The kernel finds out well inside of timeout=, so that
 * there is time left for connecting anew.
 */
static void set_keepalive(const struct zd_nbd_conn *conn)
{
	int second = conn->nbd->stall_ns / 1000000000 / 6 ?: 1, on = 1;
	unsigned int ms = conn->nbd->stall_ns / 1000000 / 3;

	if (setsockopt(conn->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)))
		return;		/* no TCP */
	setsockopt(conn->fd, IPPROTO_TCP, TCP_KEEPIDLE, &second, sizeof(second));
	setsockopt(conn->fd, IPPROTO_TCP, TCP_KEEPINTVL, &second, sizeof(second));
	setsockopt(conn->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

void zd_nbd_conn_start(struct zd_nbd_conn *conn, uint64_t now)
{
	const struct zd_nbd_lib *lib = &conn->nbd->lib;

	conn->started_ns = now;
	conn->ended_there = false;
	conn->noted = false;
	conn->error = 0;
	conn->handle = lib->create();
	if (!conn->handle)
		goto err;
	conn->state = ZD_NBD_CONNECTING;
	/* The checksum tells, not zeros.  And whoever writes the URI may name a file of keys. */
	lib->set_pread_initialize(conn->handle, false);
	lib->set_uri_allow_local_file(conn->handle, true);
	if (lib->aio_connect_uri(conn->handle, conn->nbd->uri))
		goto err;
	conn->fd = lib->aio_get_fd(conn->handle);
	return;

err:
	note_error(conn);
	lost(conn, now, now, false);
}

short zd_nbd_conn_events(struct zd_nbd_conn *conn)
{
	unsigned int dir;

	if (!conn->handle)
		return 0;
	/* A host may have several addresses: libnbd has another socket for the next one. */
	conn->fd = conn->nbd->lib.aio_get_fd(conn->handle);
	conn->direction = dir = conn->nbd->lib.aio_get_direction(conn->handle);
	return (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
	       (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
}

static bool is_dead(const struct zd_nbd_conn *conn)
{
	const struct zd_nbd_lib *lib = &conn->nbd->lib;

	return conn->handle && (lib->aio_is_dead(conn->handle) || lib->aio_is_closed(conn->handle));
}

void zd_nbd_conn_look(struct zd_nbd_conn *conn)
{
	if (!conn->noted && is_dead(conn))
		note_error(conn);
}

/* One notification at a time: the first may change what libnbd waits for. */
void zd_nbd_conn_ready(struct zd_nbd_conn *conn, short revents)
{
	const struct zd_nbd_lib *lib = &conn->nbd->lib;
	const short trouble = POLLHUP | POLLERR;
	socklen_t len = sizeof(conn->error);
	int rc = 0;

	if (!conn->handle)
		return;
	/* Asked for here, since TLS libraries keep it to themselves; libnbd finds the end of the
	 * stream then.  While it connects the error is libnbd's, which may try another address. */
	if (conn->state == ZD_NBD_UP && revents & POLLERR)
		getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &conn->error, &len);
	if (conn->direction & LIBNBD_AIO_DIRECTION_READ && revents & (POLLIN | trouble))
		rc = lib->aio_notify_read(conn->handle);
	else if (conn->direction & LIBNBD_AIO_DIRECTION_WRITE && revents & (POLLOUT | trouble))
		rc = lib->aio_notify_write(conn->handle);
	if (rc)
		note_error(conn);
	else
		zd_nbd_conn_look(conn);
}

/* What the server exports now must be what the device was made of. */
static bool same_export(struct zd_nbd_conn *conn)
{
	struct zd_nbd *nbd = conn->nbd;
	struct zd_nbd_export export;

	if (!nbd->dev.nr_pages)
		return true;	/* the first connection: zd_nbd_device_create() looks */
	zd_nbd_export_read(nbd, conn->handle, &export);
	if (!zd_nbd_export_check(&export, nbd->uri, conn->why, sizeof(conn->why)) &&
	    export.bytes / ZD_PAGE_SIZE >= nbd->dev.nr_pages &&
	    export.max_bytes >= nbd->export.max_bytes && (export.fua || !nbd->fua) &&
	    (export.multi_conn || nbd->nr_conns == 1))
		return true;
	zd_warn_once(
		"%s: the server that answers exports something else than before: it isn't used",
		nbd->name);
	return false;
}

static void is_up(struct zd_nbd_conn *conn, uint64_t now)
{
	struct zd_nbd *nbd = conn->nbd;

	if (!same_export(conn)) {
		lost(conn, now, now, false);
		return;
	}
	conn->state = ZD_NBD_UP;
	conn->why[0] = '\0';
	conn->backoff_ns = ZD_NBD_BACKOFF_MIN_NS;
	set_keepalive(conn);
	if (conn->retry_ns)
		zd_nbd_count(&nbd->stats.reconnects, 1);
	zd_nbd_count(&nbd->stats.connections, 1);
	nbd->heard_ns = now;
	if (nbd->told_loss)
		zd_log(ZD_LOG_WARN, "%s: connected again after %.1f s", nbd->name,
		       (now - nbd->down_ns) / 1e9);
	nbd->told_loss = false;
	nbd->down_ns = 0;
}

bool zd_nbd_conn_has_news(struct zd_nbd_conn *conn)
{
	return !cds_list_empty(&conn->answered) || is_dead(conn);
}

/* While no connection is up one is tried at a time: each attempt may look a name up. */
static bool may_start(const struct zd_nbd_conn *conn)
{
	const struct zd_nbd *nbd = conn->nbd;

	for (unsigned int i = 0; i < nbd->nr_conns && !nbd->stats.connections; i++)
		if (nbd->conn[i].state == ZD_NBD_CONNECTING)
			return false;
	return true;
}

/* False: @conn is what it was. */
static bool check_state(struct zd_nbd_conn *conn, uint64_t now)
{
	if (conn->state == ZD_NBD_DOWN) {
		if (now < conn->retry_ns)
			return false;
		if (may_start(conn))
			zd_nbd_conn_start(conn, now);
		else
			conn->retry_ns = now + ZD_NBD_BACKOFF_MIN_NS;
		return true;
	}
	if (is_dead(conn)) {
		lost(conn, now, now, !conn->ended_there);
		return true;
	}
	if (conn->state == ZD_NBD_UP)
		return false;
	if (conn->nbd->lib.aio_is_ready(conn->handle)) {
		is_up(conn, now);
		return true;
	}
	if (now - conn->started_ns < ZD_NBD_CONNECT_NS)
		return false;
	snprintf(conn->why, sizeof(conn->why), "the server doesn't answer");
	lost(conn, now, now, false);
	return true;
}

bool zd_nbd_conn_check(struct zd_nbd_conn *conn, uint64_t now)
{
	struct zd_nbd_cmd *cmd, *tmp;
	bool dead = is_dead(conn), any = false;

	/* What libnbd answers when the connection ends was not answered by the server. */
	cds_list_for_each_entry_safe(cmd, tmp, &conn->answered, node) {
		if (dead && cmd->error)
			continue;
		conn->nbd->heard_ns = now;
		zd_nbd_cmd_result(conn->nbd, cmd, now);
		any = true;
	}
	return check_state(conn, now) || any;
}
