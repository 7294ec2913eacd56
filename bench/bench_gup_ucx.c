/* SPDX-License-Identifier: MIT */
/*
 * UCX's registration cache with nothing behind it: registering costs nothing, and no munmap
 * is watched, so the time is that of the cache's lookup and counting.
 */
#include "bench.h"
#include "bench_gup.h"
#include "zonedev/page.h"

#ifndef HAVE_UCS

const char *bench_rcache_start(char *mem, size_t nr, size_t step, size_t len)
{
	(void)mem;
	(void)nr;
	(void)step;
	(void)len;
	return "built without libucx-dev";
}

void bench_rcache_get_put(char *addr, size_t len)
{
	(void)addr;
	(void)len;
}

void bench_rcache_stop(void)
{
}

#else

#include <stdint.h>
#include <sys/types.h>
#include <ucs/type/status.h>
#include <ucs/memory/rcache.h>

static ucs_rcache_t *cache;

static ucs_status_t mem_reg(void *context, ucs_rcache_t *rcache, void *arg,
			    ucs_rcache_region_t *region, uint16_t flags)
{
	(void)context;
	(void)rcache;
	(void)arg;
	(void)region;
	(void)flags;
	return UCS_OK;
}

static void mem_dereg(void *context, ucs_rcache_t *rcache, ucs_rcache_region_t *region)
{
	(void)context;
	(void)rcache;
	(void)region;
}

static void dump_region(void *context, ucs_rcache_t *rcache, ucs_rcache_region_t *region, char *buf,
			size_t max)
{
	(void)context;
	(void)rcache;
	(void)region;
	if (max)
		buf[0] = 0;
}

const char *bench_rcache_start(char *mem, size_t nr, size_t step, size_t len)
{
	static ucs_rcache_ops_t ops = { mem_reg, mem_dereg, dump_region };
	ucs_rcache_params_t params = {
		.region_struct_size = sizeof(ucs_rcache_region_t),
		.alignment = UCS_RCACHE_MIN_ALIGNMENT,
		.max_alignment = ZD_PAGE_SIZE,
		.ops = &ops,
		.flags = UCS_RCACHE_FLAG_NO_PFN_CHECK,
		.max_regions = SIZE_MAX,
		.max_size = SIZE_MAX,
		.max_unreleased = SIZE_MAX,
	};

	if (ucs_rcache_create(&params, "bench", NULL, &cache) != UCS_OK)
		return "ucs_rcache_create fails";
	for (size_t i = 0; i < nr; i++)
		bench_rcache_get_put(mem + i * step, len);
	return NULL;
}

void bench_rcache_get_put(char *addr, size_t len)
{
	ucs_rcache_region_t *region;

	if (ucs_rcache_get(cache, addr, len, PROT_READ | PROT_WRITE, NULL, &region) != UCS_OK)
		bench_die("ucs_rcache_get fails");
	ucs_rcache_region_put(cache, region);
}

void bench_rcache_stop(void)
{
	ucs_rcache_destroy(cache);
}

#endif
