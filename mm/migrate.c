/* SPDX-License-Identifier: MIT */
/* zd_migrate_to_device(), zd_migrate_to_ram(), zd_migrate_device_pfns(). */
#include <errno.h>
#include <string.h>

#include "core/alloc.h"
#include "mm/library.h"
#include "mm/maps.h"
#include "mm/migrate.h"

void zd_migrate_count(struct zd_migrate_result *r, const struct zd_library *lib,
		      const struct zd_mig_page *p)
{
	switch (p->error) {
	case 0:
		if (p->zero)
			r->zero++;
		else
			r->moved++;
		break;
	case -EBUSY:
		/* the kernel doesn't say which: a page that another address
		 * space maps is shared, any other is pinned */
		if (zd_page_exclusive(lib->pagemap_fd, p->addr))
			r->pinned++;
		else
			r->shared++;
		break;
	case -ENOENT:
		r->absent++;
		break;
	case -EINVAL:
	case -EPERM:
		r->protection++;
		break;
	case -EAGAIN:
	case -ECANCELED:
		r->busy++;
		break;
	default:
		r->device++;
	}
}

#define TRIES	64	/* for a page that answers EAGAIN: events come one by one */

struct migrate_cmd {
	struct zd_cmd cmd;
	uint64_t start, end, pos;
	struct zd_device *dev;
	struct zd_migrate_result result;
	struct zd_library *lib;
	unsigned int tries;
	bool in_flight;
	uint64_t device_before;
	struct zd_homing homing;
};

static void landed(struct zd_mig *mig)
{
	struct migrate_cmd *c = mig->landed_data;

	c->in_flight = false;
	for (unsigned int i = 0; i < mig->nr; i++) {
		const struct zd_mig_page *p = &mig->page[i];

		/* an event came between: go back to the first such page */
		if (p->error == -EAGAIN && c->tries < TRIES) {
			c->tries++;
			c->pos = p->addr;
			return;
		}
		zd_migrate_count(&c->result, c->lib, p);
		c->pos = p->addr + ZD_PAGE_SIZE;
	}
	c->tries = 0;
}

unsigned int zd_migrate_collect(struct zd_library *lib, uint64_t *from, uint64_t end,
				struct zd_migrate_result *result, uint64_t *addrs)
{
	struct zd_present present[64];
	unsigned int nr = 0;
	uint64_t pos = *from;
	int n = zd_present_scan(lib->pagemap_fd, &pos, end, present, 64, ZD_MIG_MAX);

	for (int i = 0; i < n; i++) {
		for (uint64_t a = present[i].start; a < present[i].end; a += ZD_PAGE_SIZE) {
			bool huge = present[i].huge && !(a & (ZD_STAGING_BYTES - 1)) &&
				    a + ZD_STAGING_BYTES <= end;
			zd_entry_t e = *zd_mm_entry(lib->mm, a);

			if (nr == ZD_MIG_MAX || (huge && nr))
				return nr;
			if (e & ZD_ENTRY_LOCK) {
				if (nr)
					return nr;
				result->busy++;
				*from = a + ZD_PAGE_SIZE;
				continue;
			}
			if (huge) {
				for (; nr < ZD_MIG_MAX; nr++)
					addrs[nr] = a + nr * ZD_PAGE_SIZE;
				return nr;
			}
			addrs[nr++] = a;
		}
	}
	if (!nr)
		*from = n < 0 ? end : pos;
	return nr;
}

static enum zd_cmd_result to_device_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct migrate_cmd *c = caa_container_of(cmd, struct migrate_cmd, cmd);
	struct zd_out_want want = { .dev = c->dev, .landed = landed, .data = c };
	uint64_t addrs[ZD_MIG_MAX];
	unsigned int nr;
	int rc;

	cmd->rc = 0;
	if (c->in_flight)
		return ZD_CMD_WAIT;
	if (!c->lib) {
		c->lib = lib;
		if (!zd_library_managed(lib->mm, c->start, c->end))
			cmd->rc = -EINVAL;
		else if (lib->server.dev && lib->server.dev != c->dev)
			cmd->rc = -EBUSY;
		else if (!lib->server.dev)
			cmd->rc = zd_server_attach(&lib->server, c->dev);
		if (cmd->rc)
			return ZD_CMD_DONE;
	}
	if (c->pos >= c->end)
		return ZD_CMD_DONE;
	nr = zd_migrate_collect(lib, &c->pos, c->end, &c->result, addrs);
	if (!nr)
		return ZD_CMD_AGAIN;
	c->in_flight = true;
	rc = zd_out_start(lib->mm, addrs, nr, &want);
	if (!rc)
		return ZD_CMD_AGAIN;
	c->in_flight = false;
	if (rc == -ENOSPC) {	/* no page of what is left can go */
		c->result.device += nr;
		c->pos = c->end;
		return ZD_CMD_DONE;
	}
	cmd->rc = rc;
	return ZD_CMD_DONE;
}

static enum zd_cmd_result to_ram_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct migrate_cmd *c = caa_container_of(cmd, struct migrate_cmd, cmd);
	enum zd_cmd_result r;

	if (!c->lib) {
		c->lib = lib;
		c->device_before = lib->server.stats.c.pages_home;
		if (!zd_library_managed(lib->mm, c->start, c->end)) {
			cmd->rc = -EINVAL;
			return ZD_CMD_DONE;
		}
	}
	r = zd_homing_step(lib->mm, &c->homing, &cmd->rc);
	c->result.moved = lib->server.stats.c.pages_home - c->device_before;
	return r;
}

static int migrate_call(struct zd_mm *mm, void *addr, size_t len, struct zd_device *dev,
			struct zd_migrate_result *result,
			enum zd_cmd_result (*step)(struct zd_library *, struct zd_cmd *))
{
	struct migrate_cmd *c;
	uint64_t start, end;
	int rc;

	if (!mm)
		return -EINVAL;
	rc = zd_library_pages(addr, len, &start, &end);
	if (rc)
		return rc;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->cmd.step = step;
	c->start = c->pos = c->homing.start = start;
	c->end = c->homing.end = end;
	c->dev = dev;
	rc = zd_library_call(zd_library_of(mm), &c->cmd);
	if (result)
		*result = c->result;
	zd_free(c);
	return rc;
}

int zd_migrate_to_device(struct zd_mm *mm, void *addr, size_t len, struct zd_device *dev,
			 struct zd_migrate_result *result)
{
	if (!dev)
		return -EINVAL;
	return migrate_call(mm, addr, len, dev, result, to_device_step);
}

int zd_migrate_to_ram(struct zd_mm *mm, void *addr, size_t len, struct zd_migrate_result *result)
{
	return migrate_call(mm, addr, len, NULL, result, to_ram_step);
}

/* --- which device pages --- */

struct pfns_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
	zd_pfn_t pfn[];
};

static enum zd_cmd_result pfns_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct pfns_cmd *c = caa_container_of(cmd, struct pfns_cmd, cmd);
	size_t i = 0;

	if (!zd_library_managed(lib->mm, c->start, c->end)) {
		cmd->rc = -EINVAL;
		return ZD_CMD_DONE;
	}
	for (uint64_t a = c->start; a < c->end; a += ZD_PAGE_SIZE, i++) {
		zd_entry_t e = *zd_mm_entry(lib->mm, a);

		if (zd_entry_state(e) == ZD_ENTRY_DEVICE)
			c->pfn[i] = zd_entry_val(e);
	}
	return ZD_CMD_DONE;
}

int zd_migrate_device_pfns(struct zd_mm *mm, void *addr, size_t len, zd_pfn_t *pfns, size_t nr)
{
	struct pfns_cmd *c;
	uint64_t start, end;
	int rc;

	if (!mm || !pfns)
		return -EINVAL;
	rc = zd_library_pages(addr, len, &start, &end);
	if (rc || nr != (end - start) / ZD_PAGE_SIZE)
		return -EINVAL;
	c = zd_alloc(sizeof(*c) + nr * sizeof(c->pfn[0]));
	if (!c)
		return -ENOMEM;
	c->cmd.step = pfns_step;
	c->start = start;
	c->end = end;
	rc = zd_library_call(zd_library_of(mm), &c->cmd);
	if (!rc)
		memcpy(pfns, c->pfn, nr * sizeof(c->pfn[0]));
	zd_free(c);
	return rc;
}
