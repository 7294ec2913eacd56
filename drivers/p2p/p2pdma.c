/* SPDX-License-Identifier: MIT */
/*
 * Providers of peer-to-peer memory.
 *
 * A provider is a region (drivers/dax/dax.h) whose pages live from allocation to their
 * last put.  So the pool and the counts can't disagree: a page is in the pool exactly
 * while its count is 0 and zd_alloc_p2pmem() isn't about to make it live; page_free returns
 * it to the pool, in the thread that put the last reference.
 */
#include "drivers/p2p/p2pdma.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/sized.h"
#include "zonedev/log.h"

static struct zd_p2pdma *of_dax(struct zd_dax *dax)
{
	return caa_container_of(dax, struct zd_p2pdma, dax);
}

static void page_free(struct zd_dax *dax, struct zd_page *page)
{
	zd_pool_free(&of_dax(dax)->pool, zd_page_to_pfn(page) - dax->pgmap.pfn);
}

/* --- add and remove --- */

static void destroy(struct zd_dax *dax)
{
	struct zd_p2pdma *p = of_dax(dax);

	zd_pool_exit(&p->pool);
	close(dax->cfg.fd);
	if (p->parent)
		zd_put_dev_pagemap(p->parent);
	if (p->release)
		p->release(p->data);
	zd_free(p);
}

/* The provider's own descriptor of the memory, which it needs until it is destroyed. */
static int take_fd(int fd)
{
	int flags = fcntl(fd, F_GETFL), mine;

	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) != O_RDWR)
		return -EACCES;
	mine = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return mine < 0 ? -errno : mine;
}

static int add(struct zd_devm *devm, const struct zd_p2pdma_resource *res,
	       struct zd_pagemap *parent, int map_flags, struct zd_p2pdma **provider)
{
	struct zd_p2pdma *p = zd_alloc(sizeof(*p));
	struct zd_dax_config cfg = {
		.type = ZD_MEMORY_P2PDMA,
		.offset = res->offset,
		.nr_pages = res->length / ZD_PAGE_SIZE,
		.align = ZD_PAGE_SIZE,
		.map_flags = map_flags,
		.by_owner = true,
		.base = res->addr,
		.page_free = page_free,
		.destroy = destroy,
	};
	int rc = -ENOMEM;

	if (!p)
		return rc;
	cfg.fd = take_fd(res->fd);
	rc = cfg.fd;
	if (rc < 0)
		goto err_free;
	rc = zd_pool_init(&p->pool, cfg.nr_pages, ZD_POOL_RUNS, UINT64_MAX, false);
	if (rc)
		goto err_fd;
	rc = zd_dax_setup(&p->dax, &cfg);
	if (rc)
		goto err_pool;
	rc = zd_dax_add_steps(&p->dax, devm);
	if (rc)
		return rc;
	/* from here on the provider ends by destroy() */
	p->parent = parent;
	p->release = res->release;
	p->data = res->data;
	*provider = p;
	return 0;

err_pool:
	zd_pool_exit(&p->pool);
err_fd:
	close(cfg.fd);
err_free:
	zd_free(p);
	return rc;
}

static int check_numbers(uint64_t offset, uint64_t length)
{
	if (!length || (offset | length) & ~ZD_PAGE_MASK || offset > INT64_MAX ||
	    length > INT64_MAX - offset)
		return -EINVAL;
	return 0;
}

static int add_resource(struct zd_devm *devm, const struct zd_p2pdma_resource *res,
			struct zd_p2pdma **provider)
{
	int rc;

	if (!res || !provider || res->size < sizeof(*res) ||
	    !zd_tail_is_zero(res, sizeof(*res), res->size) || (uintptr_t)res->addr & ~ZD_PAGE_MASK)
		return -EINVAL;
	rc = check_numbers(res->offset, res->length);
	return rc ? rc : add(devm, res, NULL, 0, provider);
}

int zd_p2pdma_add_resource(const struct zd_p2pdma_resource *res, struct zd_p2pdma **provider)
{
	return add_resource(NULL, res, provider);
}

int zd_devm_p2pdma_add_resource(struct zd_devm *devm, const struct zd_p2pdma_resource *res,
				struct zd_p2pdma **provider)
{
	return devm ? add_resource(devm, res, provider) : -EINVAL;
}

int zd_p2pdma_add_dax(struct zd_dax *dax, uint64_t offset, uint64_t length,
		      struct zd_p2pdma **provider)
{
	struct zd_p2pdma_resource res = { .size = sizeof(res), .length = length };
	struct zd_pagemap *parent;
	int rc;

	if (!dax || !provider || check_numbers(offset, length) || !zd_dax_opened_here(dax) ||
	    offset > zd_dax_bytes(dax) || length > zd_dax_bytes(dax) - offset)
		return -EINVAL;
	if (dax->cfg.rdonly)
		return -EACCES;
	parent = zd_get_dev_pagemap(dax->pgmap.pfn);
	if (!parent)
		return -ENODEV;
	res.fd = dax->cfg.fd;
	res.offset = dax->cfg.offset + offset;
	res.addr = dax->base + offset;
	rc = add(NULL, &res, parent, dax->cfg.map_flags, provider);
	if (rc)
		zd_put_dev_pagemap(parent);
	return rc;
}

int zd_p2pdma_remove(struct zd_p2pdma *provider)
{
	return provider ? zd_dax_teardown(&provider->dax, -1, NULL) : -EINVAL;
}

int zd_p2pdma_remove_timeout_sized(struct zd_p2pdma *provider, unsigned int ms,
				   struct zd_pagemap_holders *out, size_t size)
{
	struct zd_pagemap_holders holders = { 0 };
	int err = provider ? zd_dax_teardown(&provider->dax, ms < INT_MAX ? (int)ms : INT_MAX,
					     &holders) :
			     -EINVAL;

	if (out)
		zd_fill(out, size, &holders, sizeof(holders));
	return err;
}

uint64_t zd_p2pdma_size(const struct zd_p2pdma *provider)
{
	return zd_dax_bytes(&provider->dax);
}

uint64_t zd_p2pdma_available(struct zd_p2pdma *provider)
{
	return zd_pool_free_pages(&provider->pool) * ZD_PAGE_SIZE;
}

const struct zd_pagemap *zd_p2pdma_pagemap(const struct zd_p2pdma *provider)
{
	return &provider->dax.pgmap;
}

/* --- memory --- */

static uint64_t pages_of(size_t size)
{
	return size / ZD_PAGE_SIZE + (size % ZD_PAGE_SIZE != 0);
}

/* Pages [0, live) of the run have become live; the rest of the @nr pages never did. */
static void undo_alloc(struct zd_p2pdma *p, uint64_t first, uint64_t live, uint64_t nr)
{
	for (uint64_t i = 0; i < live; i++)
		zd_put_page(zd_dax_page(&p->dax, first + i));
	for (uint64_t i = live; i < nr; i++)
		zd_pool_free(&p->pool, first + i);
}

int zd_alloc_p2pmem(struct zd_p2pdma *provider, size_t size, void **mem)
{
	uint64_t first, nr = pages_of(size);
	int rc;

	if (!provider || !mem || !size || !zd_dax_opened_here(&provider->dax))
		return -EINVAL;
	if (!zd_pool_alloc_run(&provider->pool, nr, &first))
		return -ENOMEM;
	for (uint64_t i = 0; i < nr; i++) {
		struct zd_page *page = zd_dax_page(&provider->dax, first + i);

		rc = zd_page_init(page);
		if (rc) {
			undo_alloc(provider, first, i, nr);
			return rc;
		}
		page->word = (uintptr_t)zd_dax_page_addr(&provider->dax, page);
	}
	*mem = provider->dax.base + first * ZD_PAGE_SIZE;
	return 0;
}

struct zd_page *zd_p2pmem_page(const struct zd_p2pdma *provider, const void *mem)
{
	uint64_t at = (const char *)mem - provider->dax.base;

	return at < zd_dax_bytes(&provider->dax) ? zd_dax_page(&provider->dax, at / ZD_PAGE_SIZE) :
						   NULL;
}

/* Is @mem, of @size bytes, the provider's?  *nr: its pages. */
static bool is_piece(const struct zd_p2pdma *p, const void *mem, size_t size, uint64_t *nr)
{
	uint64_t at = p ? (uint64_t)((const char *)mem - p->dax.base) : 0;

	*nr = pages_of(size);
	return p && zd_dax_opened_here(&p->dax) && *nr && !(at & ~ZD_PAGE_MASK) &&
	       at < zd_dax_bytes(&p->dax) && *nr <= (zd_dax_bytes(&p->dax) - at) / ZD_PAGE_SIZE;
}

void zd_free_p2pmem(struct zd_p2pdma *provider, void *mem, size_t size)
{
	struct zd_page *page;
	uint64_t nr;

	if (!is_piece(provider, mem, size, &nr)) {
		zd_warn_once("zd_free_p2pmem: not memory of this provider");
		return;
	}
	page = zd_p2pmem_page(provider, mem);
	while (nr--)
		zd_put_page(page++);
}

int zd_p2pdma_mmap(struct zd_p2pdma *provider, struct zd_mm *mm, void *mem, size_t size, int prot,
		   unsigned int flags, struct zd_dax_mapping **map)
{
	uint64_t nr;

	if (!is_piece(provider, mem, size, &nr))
		return -EINVAL;
	return zd_dax_mmap(&provider->dax, mm, NULL, (char *)mem - provider->dax.base,
			   nr * ZD_PAGE_SIZE, prot, flags, map);
}
