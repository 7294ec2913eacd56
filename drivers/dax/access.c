/* SPDX-License-Identifier: MIT */
/* What a program asks of its mapping, and guarded access to it. */
#include <errno.h>
#include <sys/mman.h>

#include "base/fault_guard.h"
#include "drivers/dax/mapping.h"

void *zd_dax_mapping_addr(const struct zd_dax_mapping *mapping)
{
	return mapping->addr;
}

uint64_t zd_dax_mapping_len(const struct zd_dax_mapping *mapping)
{
	return mapping->len;
}

bool zd_dax_mapping_revoked(const struct zd_dax_mapping *mapping)
{
	return zd_dax_mapping_is_revoked(mapping);
}

struct guarded {
	int (*fn)(void *ctx);
	void *ctx;
	int result;
};

static void call(void *arg)
{
	struct guarded *g = arg;

	g->result = g->fn(g->ctx);
}

int zd_dax_access_guard(struct zd_dax_mapping *mapping, int (*fn)(void *ctx), void *ctx)
{
	struct guarded g = { .fn = fn, .ctx = ctx };

	if (!mapping || !fn)
		return -EINVAL;
	if (zd_dax_mapping_is_revoked(mapping))
		return -ENODEV;
	if (zd_fault_guard_call(call, &g, mapping->addr, mapping->len, NULL))
		return zd_dax_mapping_error(mapping);
	return g.result;
}

static int copy(struct zd_dax_mapping *mapping, void *dst, const void *src, size_t len)
{
	struct zd_fault_result r = zd_fault_copy(dst, src, len);

	if (!r.left)
		return 0;
	if (r.addr - (uintptr_t)mapping->addr >= mapping->len)
		return -EFAULT;		/* the other side of the copy */
	return zd_dax_mapping_error(mapping);
}

static bool inside(const struct zd_dax_mapping *mapping, uint64_t offset, size_t len)
{
	return mapping && offset <= mapping->len && len <= mapping->len - offset;
}

int zd_dax_read(struct zd_dax_mapping *mapping, uint64_t offset, void *buf, size_t len)
{
	if (!inside(mapping, offset, len))
		return -EINVAL;
	return copy(mapping, buf, mapping->addr + offset, len);
}

int zd_dax_write(struct zd_dax_mapping *mapping, uint64_t offset, const void *buf, size_t len)
{
	if (!inside(mapping, offset, len))
		return -EINVAL;
	if (!(mapping->prot & PROT_WRITE))
		return -EACCES;
	return copy(mapping, mapping->addr + offset, buf, len);
}
