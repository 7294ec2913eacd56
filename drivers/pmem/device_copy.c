/* SPDX-License-Identifier: MIT */
/*
 * Pages of a medium that is device memory, copied.
 *
 * Nothing is flushed or synced: the pages are worth nothing without the process whose memory
 * they hold.  So a bad page isn't healed by a write either, which would have to be durable to
 * be believed by the next opener; there are other pages.
 */
#include <errno.h>

#include "drivers/empty_file.h"
#include "drivers/pmem/device_medium.h"
#include "zonedev/log.h"

bool zd_device_medium_is_bad(void *medium, uint64_t index)
{
	struct zd_media *m = &((struct zd_device_medium *)medium)->media;

	return zd_badblocks_check(&m->bad, index * ZD_PAGE_SECTORS, ZD_PAGE_SECTORS, NULL, NULL);
}

static bool is_cut(const struct zd_device_medium *medium)
{
	return __atomic_load_n(&medium->told_cut, __ATOMIC_RELAXED);
}

/* A page was lost: because the file was cut?  Told once. */
static void look_for_cut(struct zd_device_medium *medium)
{
	struct zd_media *m = &medium->media;
	uint64_t bad;

	if (is_cut(medium) || !zd_media_check_end(m, 0, m->bytes, &bad) ||
	    __atomic_exchange_n(&medium->told_cut, true, __ATOMIC_RELAXED))
		return;
	zd_log(ZD_LOG_ERR, "%s: truncated by somebody else: what it held from byte %llu on is lost",
	       medium->name, (unsigned long long)bad);
}

int zd_device_medium_read(struct zd_device_medium *medium, uint64_t index, void *buf)
{
	int rc = zd_media_get(&medium->media, index * ZD_PAGE_SIZE, buf, ZD_PAGE_SIZE);

	if (rc == -EIO)
		look_for_cut(medium);
	return rc;
}

int zd_device_medium_write(struct zd_device_medium *medium, uint64_t index, const void *buf)
{
	struct iovec iov = { (void *)buf, ZD_PAGE_SIZE };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint64_t at = index * ZD_PAGE_SIZE, bad;
	int rc = zd_media_write(&medium->media, at, &it, ZD_PAGE_SIZE, &bad);

	if (!rc)
		rc = zd_media_check_end(&medium->media, at, ZD_PAGE_SIZE, &bad);
	if (rc == -EIO)
		look_for_cut(medium);
	/* one page of the medium is broken: this page finds no room there, the next one does */
	if (!is_cut(medium) && (rc == -EIO || !rc) && zd_device_medium_is_bad(medium, index))
		return -ENOSPC;
	return rc;
}

int zd_device_medium_poison(struct zd_device_medium *medium, uint64_t first, uint64_t nr)
{
	struct zd_media *m = &medium->media;
	int fd;

	zd_mutex_lock(&medium->empty_lock);
	fd = medium->empty_fd < 0 ? zd_make_empty_file() : medium->empty_fd;
	if (fd >= 0)
		medium->empty_fd = m->pages.sigbus_fd = fd;
	zd_mutex_unlock(&medium->empty_lock);
	return fd < 0 ? fd : zd_media_inject_poison(m, first, nr);
}
