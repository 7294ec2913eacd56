/* SPDX-License-Identifier: MIT */
/* drivers/nbd/device.c - what the server's thread sees of the device. */
#include "drivers/nbd/nbd.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/time.h"
#include "drivers/explain.h"
#include "zonedev/log.h"

#define KICK_WORDS	16	/* 4 MiB of freed words: trim them */

static int nbd_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct zd_nbd *nbd = zd_to_nbd(dev);
	int got;

	/* What would be written now would fail: another device may take it. */
	if (__atomic_load_n(&nbd->away, __ATOMIC_RELAXED))
		return -EAGAIN;
	got = zd_pool_alloc(&nbd->pool, nr < INT_MAX ? nr : INT_MAX, dev->pgmap.pfn, pfns);
	for (int i = 0; i < got; i++)
		__atomic_store_n(&nbd->sums[zd_device_page_index(dev, pfns[i])], 0,
				 __ATOMIC_RELAXED);
	return got;
}

static void free_index(struct zd_nbd *nbd, uint64_t index)
{
	if (!zd_nbd_is_retired(nbd, index) && zd_pool_free(&nbd->pool, index))
		zd_nbd_wake(nbd);
}

static void nbd_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	for (unsigned int i = 0; i < nr; i++)
		free_index(zd_to_nbd(dev), zd_device_page_index(dev, pfns[i]));
}

static void nbd_page_free(struct zd_device *dev, struct zd_page *page)
{
	free_index(zd_to_nbd(dev), zd_device_page_index(dev, zd_page_to_pfn(page)));
}

static void nbd_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct zd_nbd *nbd = zd_to_nbd(dev);
	bool asleep;
	int rc;

	if (!zd_nbd_thread_is_here(nbd)) {
		rc = zd_nbd_thread_restart(nbd);
		if (rc) {
			zd_warn_once("%s: no thread: %s", nbd->name, strerrordesc_np(-rc));
			io->driver = NULL;
			io->pending = 0;
			/* the next batch tries again: no page is lost */
			zd_nbd_batch_fail(nbd, io, -EAGAIN);
			return;
		}
	}
	zd_mutex_lock(&nbd->inbox_lock);
	zd_ioq_push(&nbd->inbox, io);
	__atomic_store_n(&nbd->has_mail, true, __ATOMIC_RELAXED);
	asleep = nbd->asleep;
	nbd->asleep = false;
	zd_mutex_unlock(&nbd->inbox_lock);
	if (asleep)
		zd_nbd_wake(nbd);
}

static int nbd_resize(struct zd_device *dev, uint64_t nr_pages)
{
	zd_pool_resize(&zd_to_nbd(dev)->pool, nr_pages);
	return 0;
}

static void release(struct zd_nbd *nbd)
{
	bool here = !nbd->stack || zd_nbd_thread_is_here(nbd);

	zd_nbd_thread_stop(nbd);
	for (unsigned int i = 0; i < ZD_NBD_MAX_CONNECTIONS && here; i++)
		zd_nbd_conn_close(&nbd->conn[i]);
	if (nbd->wake_fd >= 0)
		close(nbd->wake_fd);
	zd_pool_exit(&nbd->pool);
	if (nbd->retired)
		zd_unreserve(nbd->retired, nbd->dev.nr_pages / 8 + 8);
	if (nbd->sums)
		zd_unreserve(nbd->sums, nbd->dev.nr_pages * sizeof(*nbd->sums));
	if (nbd->cmds)
		zd_unreserve(nbd->cmds, ZD_NBD_CMDS * sizeof(*nbd->cmds));
	zd_free(nbd->uri);
	zd_free(nbd);
}

static void nbd_destroy(struct zd_device *dev)
{
	release(zd_to_nbd(dev));
}

/* No ZD_DEVICE_NO_MALLOC: libnbd mallocs in the I/O thread. */
static const struct zd_device_ops nbd_ops = {
	.size = sizeof(nbd_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.flags = ZD_DEVICE_ASYNC,
	.alloc_pages = nbd_alloc_pages,
	.unalloc_pages = nbd_unalloc_pages,
	.page_free = nbd_page_free,
	.submit = nbd_submit,
	.destroy = nbd_destroy,
	.stats = zd_nbd_stats,
	.resize = nbd_resize,
};

/* The first connection, in the calling thread: it tells what the export is. */
static int connect_first(struct zd_nbd *nbd, char *err, size_t errlen)
{
	struct zd_nbd_conn *conn = &nbd->conn[0];

	zd_nbd_conn_start(conn, zd_now_ns());
	while (conn->state == ZD_NBD_CONNECTING) {
		struct pollfd fd = { .events = zd_nbd_conn_events(conn) };

		fd.fd = conn->fd;
		if (poll(&fd, 1, 100) > 0)
			zd_nbd_conn_ready(conn, fd.revents);
		zd_nbd_conn_check(conn, zd_now_ns());
	}
	if (conn->state == ZD_NBD_UP)
		return 0;
	return zd_explain(err, errlen, -ECONNREFUSED,
			  "can't connect to %s: %s: start the server, or correct the URI", nbd->uri,
			  *conn->why ? conn->why : "the server has closed the connection");
}

static int set_size(struct zd_nbd *nbd, const struct zd_nbd_options *options, char *err,
		    size_t errlen)
{
	uint64_t bytes = nbd->export.bytes, nr;
	int rc;

	if (options->size > bytes)
		return zd_explain(err, errlen, -ENOSPC,
				  "%s has %llu bytes only: give a smaller size, or none", nbd->uri,
				  (unsigned long long)bytes);
	if (options->size)
		bytes = options->size;
	nr = bytes >> ZD_PAGE_SHIFT;
	nbd->sums = zd_reserve(nr * sizeof(*nbd->sums));
	if (nbd->sums)
		nbd->retired = zd_reserve(nr / 8 + 8);
	rc = nbd->retired ? zd_pool_init(&nbd->pool, nr, ZD_POOL_RUNS, KICK_WORDS, false) : -ENOMEM;
	/* release() goes by it */
	nbd->dev.nr_pages = nr;
	return rc ? zd_explain(err, errlen, rc, "%s: no memory for the tables of %llu pages",
			       nbd->uri, (unsigned long long)nr) :
		    0;
}

static int set_up(struct zd_nbd *nbd, const struct zd_nbd_options *options, char *err,
		  size_t errlen)
{
	int rc;

	if (zd_nbd_load(&nbd->lib))
		return zd_explain(err, errlen, -ENOENT,
				  "nbd needs libnbd 1.12 or newer: install it (Debian: libnbd0)");
	rc = connect_first(nbd, err, errlen);
	if (rc)
		return rc;
	zd_nbd_export_read(nbd, nbd->conn[0].handle, &nbd->export);
	rc = zd_nbd_export_check(&nbd->export, nbd->uri, err, errlen);
	if (!rc)
		rc = set_size(nbd, options, err, errlen);
	if (rc)
		return rc;
	nbd->fua = nbd->export.fua && !options->no_fua;
	nbd->nr_conns = nbd->export.multi_conn ? options->connections : 1;
	nbd->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = nbd->wake_fd < 0 ? -errno : zd_nbd_thread_start(nbd);
	if (!rc)
		rc = zd_device_register(&nbd->dev);
	return rc ? zd_explain(err, errlen, rc, "%s: %s", nbd->uri, strerrordesc_np(-rc)) : 0;
}

int zd_nbd_device_create(const struct zd_nbd_options *options, struct zd_device **dev, char *err,
			 size_t errlen)
{
	struct zd_nbd *nbd = zd_alloc(sizeof(*nbd));
	size_t len = strlen(options->uri) + 1;
	int rc;

	if (!nbd)
		return zd_explain(err, errlen, -ENOMEM, "no memory");
	nbd->wake_fd = -1;
	nbd->nr_conns = 1;
	nbd->timeout_ns = options->timeout_ms * ZD_NBD_MS;
	nbd->stall_ns = nbd->timeout_ns > ZD_NBD_STALL_MIN_NS ? nbd->timeout_ns :
								ZD_NBD_STALL_MIN_NS;
	nbd->dev.ops = &nbd_ops;
	nbd->dev.name = nbd->name;
	nbd->dev.private_data = nbd;
	for (unsigned int i = 0; i < ZD_NBD_MAX_CONNECTIONS; i++)
		zd_nbd_conn_init(nbd, &nbd->conn[i]);
	nbd->uri = zd_alloc(len);
	nbd->cmds = zd_reserve(ZD_NBD_CMDS * sizeof(*nbd->cmds));
	if (!nbd->uri || !nbd->cmds) {
		release(nbd);
		return zd_explain(err, errlen, -ENOMEM, "no memory");
	}
	memcpy(nbd->uri, options->uri, len);
	snprintf(nbd->name, sizeof(nbd->name), "%s", options->uri);
	zd_nbd_cmds_init(nbd);
	rc = set_up(nbd, options, err, errlen);
	if (rc) {
		release(nbd);
		return rc;
	}
	*dev = &nbd->dev;
	return 0;
}
