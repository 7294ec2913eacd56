/* SPDX-License-Identifier: MIT */
/*
 * Copies between memory of a device that the CPU can address and other devices.
 *
 * A transfer is direct when the peer's memory itself is the buffer of the device's
 * batch.  Only the device's driver can know whether that is possible, and says so in
 * ->p2p_distance.  If it isn't, ordinary memory stands in, and the bytes are counted.  RAM
 * of a managed range is never a buffer: the server's thread must not touch it.
 *
 * Every access to peer memory from here is guarded: a page that was truncated is -EIO.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "pages/device_host.h"
#include "base/fault_guard.h"
#include "base/sized.h"
#include "pages/ioq.h"
#include "drivers/p2p/p2pdma.h"
#include "zonedev/gup.h"
#include "zonedev/log.h"

#define BATCH	64	/* pages */

static struct zd_p2pdma_stats totals;

static void count(bool bounced, uint64_t pages)
{
	__atomic_fetch_add(bounced ? &totals.bounced : &totals.direct, pages * ZD_PAGE_SIZE,
			   __ATOMIC_RELAXED);
}

int zd_p2pdma_get_stats_sized(struct zd_p2pdma_stats *stats, size_t size)
{
	struct zd_p2pdma_stats now;

	if (!stats || !size || size > ZD_SIZED_MAX)
		return -EINVAL;
	now.direct = __atomic_load_n(&totals.direct, __ATOMIC_RELAXED);
	now.bounced = __atomic_load_n(&totals.bounced, __ATOMIC_RELAXED);
	zd_fill(stats, size, &now, sizeof(now));
	return 0;
}

/* --- distance --- */

static int distance(struct zd_device *client, void *addr, uint64_t len)
{
	return client->ops->p2p_distance ? client->ops->p2p_distance(client, addr, len) : -1;
}

int zd_p2pdma_distance(struct zd_p2pdma *provider, struct zd_device *const *clients, int nr,
		       bool verbose)
{
	bool reached = true;
	int sum = 0;

	if (!provider || !clients || nr <= 0)
		return -1;
	for (int i = 0; i < nr; i++) {
		int d = distance(clients[i], provider->dax.base, zd_dax_bytes(&provider->dax));

		if (d >= 0) {
			sum += d;
			continue;
		}
		reached = false;
		if (verbose)
			zd_log(ZD_LOG_INFO,
			       "%s can't reach peer memory (%s): data takes a detour by RAM",
			       clients[i]->name,
			       clients[i]->ops->p2p_distance ?
				       "not in its mode" :
				       "its driver doesn't say that it can");
	}
	return reached ? sum : -1;
}

/* --- scatter lists --- */

/* Pages of a device follow each other in memory as their descriptors do; those of a
 * managed range need not. */
static bool all_have_address(const struct zd_p2pdma_sg *sg)
{
	for (unsigned int i = 0; i < sg->nr_pages; i++)
		if (!zd_dax_address_of(sg->page + i))
			return false;
	return sg->nr_pages;
}

/* Copy page @i of the entry to the memory that stands in for it (ZD_TO_DEVICE), or back. */
static int copy_page(struct zd_p2pdma_sg *sg, unsigned int i, enum zd_io_dir dir)
{
	char *mem = zd_page_address(sg->page + i), *addr = (char *)sg->addr + i * ZD_PAGE_SIZE;

	if (!mem)
		return -EIO;
	return (dir == ZD_TO_DEVICE ? zd_fault_copy(addr, mem, ZD_PAGE_SIZE) :
				      zd_fault_copy(mem, addr, ZD_PAGE_SIZE))
			       .left ?
		       -EIO :
		       0;
}

static int map_one(struct zd_device *client, struct zd_p2pdma_sg *sg, enum zd_io_dir dir)
{
	size_t len = (size_t)sg->nr_pages * ZD_PAGE_SIZE;
	int rc = 0;

	if (!all_have_address(sg))
		return -EINVAL;
	sg->addr = zd_page_address(sg->page);
	sg->bounced = zd_page_pagemap(sg->page)->type == ZD_MEMORY_SYSTEM ||
		      distance(client, sg->addr, len) < 0;
	if (!sg->bounced)
		return 0;
	sg->addr = zd_alloc(len);
	if (!sg->addr)
		return -ENOMEM;
	for (unsigned int i = 0; dir == ZD_TO_DEVICE && i < sg->nr_pages && !rc; i++)
		rc = copy_page(sg, i, dir);
	if (rc)
		zd_free(sg->addr);
	return rc;
}

/* @pages: the result of each page; NULL: all are good. */
static int unmap_one(struct zd_p2pdma_sg *sg, enum zd_io_dir dir, const struct zd_io_page *pages)
{
	int rc = 0;

	if (!sg->bounced)
		return 0;
	for (unsigned int i = 0; dir == ZD_FROM_DEVICE && i < sg->nr_pages; i++) {
		if (pages && pages[i].error)
			continue;	/* nothing came: leave what is there */
		if (copy_page(sg, i, dir))
			rc = -EIO;
	}
	zd_free(sg->addr);
	return rc;
}

static int map_all(struct zd_device *client, struct zd_p2pdma_sg *sg, unsigned int nents,
		   enum zd_io_dir dir)
{
	unsigned int i;
	int rc = 0;

	for (i = 0; i < nents; i++) {
		rc = map_one(client, &sg[i], dir);
		if (rc)
			break;
	}
	while (rc && i--)
		unmap_one(&sg[i], ZD_TO_DEVICE, NULL);
	return rc;
}

int zd_p2pdma_map_sg(struct zd_device *client, struct zd_p2pdma_sg *sg, unsigned int nents,
		     enum zd_io_dir dir)
{
	int rc;

	if (!client || !sg || !zd_io_dir_is_known(dir))
		return -EINVAL;
	rc = map_all(client, sg, nents, dir);
	for (unsigned int i = 0; !rc && i < nents; i++)
		count(sg[i].bounced, sg[i].nr_pages);
	return rc;
}

int zd_p2pdma_unmap_sg(struct zd_device *client, struct zd_p2pdma_sg *sg, unsigned int nents,
		       enum zd_io_dir dir)
{
	int rc = 0;

	if (!client || !sg || !zd_io_dir_is_known(dir))
		return -EINVAL;
	for (unsigned int i = 0; i < nents; i++)
		rc = unmap_one(&sg[i], dir, NULL) ? -EIO : rc;
	return rc;
}

/* --- copies --- */

/* Of zd_alloc(): the device's server reads it, and must not touch the program's memory. */
struct work {
	struct zd_device_io io;
	struct zd_io_page pages[BATCH];
	struct zd_p2pdma_sg sg[BATCH];
};

static void count_page(struct zd_p2pdma_result *r, int error, bool bounced, int *rc)
{
	r->direct += !error && !bounced;
	r->bounced += !error && bounced;
	r->failed += error != 0;
	if (!*rc)
		*rc = error;
}

static int fail_all(struct zd_p2pdma_result *r, unsigned int nr, int error)
{
	r->failed += nr;
	return error;
}

static int copy_memory(struct zd_page *const *dst, struct zd_page *const *src, unsigned int nr,
		       struct zd_p2pdma_result *r)
{
	int rc = 0;

	for (unsigned int i = 0; i < nr; i++) {
		void *to = zd_dax_address_of(dst[i]), *from = zd_dax_address_of(src[i]);
		int error = -EINVAL;

		if (to && from)
			error = zd_fault_copy(to, from, ZD_PAGE_SIZE).left ? -EIO : 0;
		if (!error)
			count(false, 1);
		count_page(r, error, false, &rc);
	}
	return rc;
}

/* Runs of pages that follow each other are one entry. */
static unsigned int make_sg(struct zd_p2pdma_sg *sg, struct zd_page *const *mem, unsigned int nr)
{
	unsigned int nents = 0;

	for (unsigned int i = 0; i < nr; i++) {
		if (i && mem[i] == mem[i - 1] + 1 &&
		    zd_page_pagemap(mem[i]) == zd_page_pagemap(mem[i - 1]) &&
		    zd_page_pagemap(mem[i])->type != ZD_MEMORY_SYSTEM) {
			sg[nents - 1].nr_pages++;
			continue;
		}
		sg[nents++] = (struct zd_p2pdma_sg){ .page = mem[i], .nr_pages = 1 };
	}
	return nents;
}

static int transfer(struct work *w, struct zd_device *dev, enum zd_io_dir dir, unsigned int nr)
{
	w->io = (struct zd_device_io){ .dir = dir, .nr = nr, .pages = w->pages };
	return zd_device_run(dev, &w->io);
}

/* Copy between @dev's pages @dev_pages and memory @mem, and add the results to @r.  Blocks. */
static int copy_device(struct work *w, struct zd_device *dev, struct zd_page *const *dev_pages,
		       struct zd_page *const *mem, unsigned int nr, enum zd_io_dir dir,
		       struct zd_p2pdma_result *r)
{
	unsigned int nents = make_sg(w->sg, mem, nr), at = 0;
	int rc = map_all(dev, w->sg, nents, dir), error;

	if (rc)
		return fail_all(r, nr, rc);
	for (unsigned int s = 0; s < nents; s++)
		for (unsigned int i = 0; i < w->sg[s].nr_pages; i++, at++)
			w->pages[at] = (struct zd_io_page){
				.pfn = zd_page_to_pfn(dev_pages[at]),
				.buf = (char *)w->sg[s].addr + i * ZD_PAGE_SIZE,
			};
	error = transfer(w, dev, dir, nr);
	at = 0;
	for (unsigned int s = 0; s < nents; s++) {
		unsigned int first = at;
		int back = unmap_one(&w->sg[s], error ? ZD_TO_DEVICE : dir, w->pages + first);

		for (; at < first + w->sg[s].nr_pages; at++) {
			int e = error ? error : w->pages[at].error ? w->pages[at].error : back;

			if (!e)
				count(w->sg[s].bounced, 1);
			count_page(r, e, w->sg[s].bounced, &rc);
		}
	}
	return rc;
}

/* The same; a page that has been truncated doesn't fail those beside it. */
static int copy_device_each(struct work *w, struct zd_device *dev, struct zd_page *const *dev_pages,
			    struct zd_page *const *mem, unsigned int nr, enum zd_io_dir dir,
			    struct zd_p2pdma_result *r)
{
	struct zd_p2pdma_result before = *r;
	int rc = copy_device(w, dev, dev_pages, mem, nr, dir, r);

	if (!rc || nr == 1 || r->failed - before.failed < nr)
		return rc;
	*r = before;
	rc = 0;
	for (unsigned int i = 0; i < nr; i++) {
		int error = copy_device(w, dev, dev_pages + i, mem + i, 1, dir, r);

		rc = rc ? rc : error;
	}
	return rc;
}

/* From device to device, by way of RAM: neither can address the other's pages. */
static int copy_devices(struct work *w, struct zd_device *to, struct zd_page *const *dst,
			struct zd_device *from, struct zd_page *const *src, unsigned int nr,
			struct zd_p2pdma_result *r)
{
	char *buf = zd_alloc(nr * ZD_PAGE_SIZE);
	unsigned int came = 0;
	int rc, result = 0;

	if (!buf)
		return fail_all(r, nr, -ENOMEM);
	for (unsigned int i = 0; i < nr; i++)
		w->pages[i] = (struct zd_io_page){ .pfn = zd_page_to_pfn(src[i]),
						   .buf = buf + i * ZD_PAGE_SIZE };
	rc = transfer(w, from, ZD_FROM_DEVICE, nr);
	/* the pages that were read, and only those, are written */
	for (unsigned int i = 0; i < nr; i++) {
		int error = rc ? rc : w->pages[i].error;

		if (error)
			count_page(r, error, true, &result);
		else
			w->pages[came++] = (struct zd_io_page){ .pfn = zd_page_to_pfn(dst[i]),
								.buf = w->pages[i].buf };
	}
	rc = came ? transfer(w, to, ZD_TO_DEVICE, came) : 0;
	for (unsigned int i = 0; i < came; i++) {
		int error = rc ? rc : w->pages[i].error;

		if (!error)
			count(true, 1);
		count_page(r, error, true, &result);
	}
	zd_free(buf);
	return result;
}

/* How many pages from here on have the same two devices (or none) as the first. */
static unsigned int same_ends(struct zd_page *const *dst, struct zd_page *const *src,
			      unsigned long nr)
{
	struct zd_device *to = zd_page_device(dst[0]), *from = zd_page_device(src[0]);
	unsigned int n = 1;

	while (n < nr && n < BATCH && zd_page_device(dst[n]) == to &&
	       zd_page_device(src[n]) == from)
		n++;
	return n;
}

static int copy_run(struct work *w, struct zd_page *const *dst, struct zd_page *const *src,
		    unsigned int nr, struct zd_p2pdma_result *r)
{
	struct zd_device *to = zd_page_device(dst[0]), *from = zd_page_device(src[0]);

	if (to && from)
		return copy_devices(w, to, dst, from, src, nr, r);
	if (to)
		return copy_device_each(w, to, dst, src, nr, ZD_TO_DEVICE, r);
	if (from)
		return copy_device_each(w, from, src, dst, nr, ZD_FROM_DEVICE, r);
	return copy_memory(dst, src, nr, r);
}

int zd_p2pdma_copy_sized(struct zd_page *const *dst, struct zd_page *const *src, unsigned long nr,
			 struct zd_p2pdma_result *result, size_t size)
{
	struct zd_p2pdma_result r = { 0 };
	struct work *w;
	int rc = 0;

	if (result)
		zd_fill(result, size, &r, sizeof(r));
	if (!dst || !src)
		return -EINVAL;
	w = zd_alloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	for (unsigned long i = 0, n; i < nr; i += n) {
		int error;

		n = same_ends(dst + i, src + i, nr - i);
		error = copy_run(w, dst + i, src + i, n, &r);
		rc = rc ? rc : error;
	}
	zd_free(w);
	if (result)
		zd_fill(result, size, &r, sizeof(r));
	return rc;
}
