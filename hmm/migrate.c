/* SPDX-License-Identifier: MIT */
/* zd_migrate_to_device(), zd_migrate_to_ram(), zd_migrate_device_pfns(). */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "hmm/hmm.h"
#include "hmm/span.h"
#include "hmm/malloc_arenas.h"
#include "space/maps.h"
#include "hmm/migrate.h"
#include "hmm/mover_self.h"
#include "engine/out.h"
#include "engine/ram_page.h"
#include "zonedev/log.h"

void zd_migrate_count(struct zd_migrate_result *r, const struct zd_mig_page *p)
{
	switch (p->error) {
	case 0:
		if (p->zero)
			r->zero++;
		else
			r->moved++;
		break;
	case -EBUSY:
		r->pinned++;
		break;
	case -EMLINK:
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
	struct zd_hmm *hmm;
	unsigned int tries;
	bool in_flight;
	struct zd_ranges stay;		/* to_device: these do */
	uint64_t on_device, lost;	/* to_ram: before */
	struct zd_homing homing;
	uint64_t addrs[ZD_MIG_MAX];	/* of the batch, when it was collected */
};

static void landed(struct zd_mig *mig)
{
	struct migrate_cmd *c = mig->data;
	uint64_t again = 0;

	c->in_flight = false;
	for (unsigned int i = 0; i < mig->nr; i++) {
		const struct zd_mig_page *p = &mig->page[i];

		/* an event came between: go back to the first such page.  What
		 * comes behind it and did not go is met again as well. */
		if (!again && p->error == -EAGAIN && c->tries < TRIES)
			again = c->addrs[i];
		if (!again || !p->error)
			zd_migrate_count(&c->result, p);
	}
	/* not p->addr: an mremap may have moved it */
	c->pos = again ? again : c->addrs[mig->nr - 1] + ZD_PAGE_SIZE;
	c->tries = again ? c->tries + 1 : 0;
}

/* May the page, in RAM, be tried?  One that somebody holds may not. */
static bool may_leave(zd_entry_t *entry, uint64_t now)
{
	zd_entry_t e = *entry;

	if (zd_entry_state(e) == ZD_ENTRY_SYSTEM)
		return zd_ram_page_release(entry);
	return zd_entry_is_free(e, now) ||
	       (zd_entry_state(e) == ZD_ENTRY_PRESENT && !(e & ZD_ENTRY_LOCK));
}

/* A huge page, wholly in [@a, @end), that may leave as one. */
static bool whole_huge(struct zd_mm *mm, uint64_t a, uint64_t end, const struct zd_ranges *stay,
		       uint64_t now)
{
	uint64_t gap = a, gap_end;

	if (a & (ZD_STAGING_BYTES - 1) || a + ZD_STAGING_BYTES > end)
		return false;
	if (!zd_ranges_gap(stay, &gap, a + ZD_STAGING_BYTES, &gap_end) || gap != a ||
	    gap_end != a + ZD_STAGING_BYTES)
		return false;
	for (unsigned int i = 0; i < ZD_MIG_MAX; i++)
		if (!may_leave(zd_mm_entry(mm, a + i * ZD_PAGE_SIZE), now))
			return false;
	return true;
}

int zd_migrate_stay(uint64_t start, uint64_t end, const struct zd_device *dev,
		    struct zd_ranges *stay)
{
	int rc;

	if (dev->ops->flags & ZD_DEVICE_NO_MALLOC)
		return 0;
	rc = zd_malloc_arenas(start, end, stay);
	if (!rc && stay->nr)
		zd_warn_once("%s: its driver may call malloc() (no ZD_DEVICE_NO_MALLOC), so what is malloc's own stays in RAM",
			     dev->name);
	return rc;
}

unsigned int zd_migrate_collect(struct zd_hmm *hmm, uint64_t *from, uint64_t end,
				const struct zd_ranges *stay, struct zd_migrate_result *result,
				uint64_t *addrs, bool *whole)
{
	struct zd_present present[64];
	unsigned int nr = 0;
	uint64_t pos = *from, now = zd_now_ns();
	int n = zd_present_scan(hmm->pagemap_fd, &pos, end, present, 64, ZD_MIG_MAX);

	*whole = false;
	for (int i = 0; i < n; i++) {
		for (uint64_t a = present[i].start; a < present[i].end; a += ZD_PAGE_SIZE) {
			bool huge = present[i].huge && whole_huge(hmm->mm, a, end, stay, now);
			bool stays = zd_ranges_find(stay, a);

			if (nr == ZD_MIG_MAX || (huge && nr))
				return nr;
			if (stays || !may_leave(zd_mm_entry(hmm->mm, a), now)) {
				bool held = zd_entry_state(*zd_mm_entry(hmm->mm, a)) ==
					    ZD_ENTRY_SYSTEM;

				if (nr)
					return nr;
				result->protection += stays;
				result->pinned += held && !stays;
				result->busy += !held && !stays;
				*from = a + ZD_PAGE_SIZE;
				continue;
			}
			if (huge) {
				*whole = true;
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

/* Entries of [start, end), managed, that are in @state. */
static uint64_t count_entries(const struct zd_mm *mm, uint64_t start, uint64_t end,
			      enum zd_entry_state state)
{
	const struct zd_ranges *r = &mm->ranges;
	uint64_t nr = 0;

	for (size_t i = zd_ranges_first(r, start); i < r->nr && r->v[i].start < end; i++) {
		uint64_t to = r->v[i].end < end ? r->v[i].end : end;
		uint64_t a = r->v[i].start > start ? r->v[i].start : start;

		for (a = zd_table_next(&mm->table, a, to); a < to;
		     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, to))
			nr += zd_entry_state(*zd_mm_entry(mm, a)) == state;
	}
	return nr;
}

uint64_t zd_migrate_on_device(const struct zd_mm *mm, uint64_t start, uint64_t end)
{
	return count_entries(mm, start, end, ZD_ENTRY_DEVICE);
}

static int to_device_begin(struct zd_hmm *hmm, struct migrate_cmd *c)
{
	int rc;

	if (!zd_is_managed(hmm->mm, c->start, c->end))
		return -EINVAL;
	c->result.already = zd_migrate_on_device(hmm->mm, c->start, c->end);
	rc = zd_hmm_attach(hmm, c->dev);
	if (rc == -ENODEV)
		c->result.device = ((c->end - c->start) >> ZD_PAGE_SHIFT) - c->result.already;
	return rc;
}

void zd_migrate_count_rest(struct zd_migrate_result *r, uint64_t nr)
{
	uint64_t seen = r->moved + r->zero + r->already + r->pinned + r->shared + r->protection +
			r->busy + r->device + r->absent;

	r->absent += nr > seen ? nr - seen : 0;
}

static enum zd_cmd_result to_device_done(struct migrate_cmd *c)
{
	zd_migrate_count_rest(&c->result, (c->end - c->start) >> ZD_PAGE_SHIFT);
	return ZD_CMD_DONE;
}

/* @nr of c->addrs; @whole: a huge page.  As zd_out_start(). */
static int start_batch(struct zd_hmm *hmm, struct migrate_cmd *c, unsigned int nr, bool whole)
{
	struct zd_out_want want = { .dev = c->dev, .landed = landed, .data = c };
	bool last = c->addrs[nr - 1] + ZD_PAGE_SIZE >= c->end;
	int rc;

	c->in_flight = true;
	/* A huge page is given back sooner than anybody is woken for it; and after the
	 * last batch there is nothing to do meanwhile. */
	zd_mover_self_help_by(hmm->mm, whole || last ? NULL : &c->cmd.done);
	rc = zd_out_start(hmm->mm, c->addrs, nr, &want);
	zd_mover_self_help_by(hmm->mm, NULL);
	if (rc < 0)
		c->in_flight = false;
	return rc;
}

static enum zd_cmd_result to_device_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct migrate_cmd *c = caa_container_of(cmd, struct migrate_cmd, cmd);
	const struct zd_ranges *ranges = &hmm->mm->ranges;
	unsigned int nr;
	uint64_t end;
	bool whole;
	size_t i;

	cmd->rc = 0;
	if (c->in_flight || hmm->closing)
		return ZD_CMD_WAIT;
	if (!c->hmm) {
		c->hmm = hmm;
		cmd->rc = to_device_begin(hmm, c);
		if (cmd->rc == -EAGAIN) {	/* somebody is still using the device */
			c->hmm = NULL;
			return ZD_CMD_AGAIN;
		}
		if (cmd->rc) {
			/* its removal has begun: nothing goes, and it is counted */
			cmd->rc = cmd->rc == -ENODEV ? 0 : cmd->rc;
			return ZD_CMD_DONE;
		}
	}
	/* Some of it may have been unmapped since: what is there now is not
	 * ours to take. */
	i = zd_ranges_first(ranges, c->pos);
	if (c->pos >= c->end || i == ranges->nr || ranges->v[i].start >= c->end)
		return to_device_done(c);
	if (c->pos < ranges->v[i].start)
		c->pos = ranges->v[i].start;
	end = ranges->v[i].end < c->end ? ranges->v[i].end : c->end;
	nr = zd_migrate_collect(hmm, &c->pos, end, &c->stay, &c->result, c->addrs, &whole);
	if (!nr)
		return ZD_CMD_AGAIN;
	cmd->rc = start_batch(hmm, c, nr, whole);
	if (cmd->rc > 0)
		return ZD_CMD_AGAIN;
	if (cmd->rc != -ENOSPC && cmd->rc != -ENODEV)
		return ZD_CMD_DONE;
	/* the device is full, or its removal has begun: the rest is only counted */
	c->result.device += nr;
	hmm->server.stats.c.refused_device += nr;
	c->pos = c->addrs[nr - 1] + ZD_PAGE_SIZE;
	return ZD_CMD_AGAIN;
}

static enum zd_cmd_result to_ram_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct migrate_cmd *c = caa_container_of(cmd, struct migrate_cmd, cmd);
	struct zd_mm *mm = hmm->mm;
	enum zd_cmd_result r;
	uint64_t left;

	if (!c->hmm) {
		c->hmm = hmm;
		if (!zd_is_managed(mm, c->start, c->end)) {
			cmd->rc = -EINVAL;
			return ZD_CMD_DONE;
		}
		c->on_device = count_entries(mm, c->start, c->end, ZD_ENTRY_DEVICE);
		c->lost = count_entries(mm, c->start, c->end, ZD_ENTRY_POISON);
	}
	r = zd_homing_step(mm, &c->homing, &cmd->rc);
	if (r != ZD_CMD_DONE)
		return r;
	/* Came home by a fault meanwhile, or went away with its mapping: counts
	 * as moved, since it is not on the device any more. */
	c->lost = count_entries(mm, c->start, c->end, ZD_ENTRY_POISON) - c->lost;
	left = count_entries(mm, c->start, c->end, ZD_ENTRY_DEVICE) + c->lost;
	c->result.already = ((c->end - c->start) >> ZD_PAGE_SHIFT) - c->on_device;
	c->result.moved = c->on_device > left ? c->on_device - left : 0;
	c->result.device = left;
	return r;
}

static int migrate_call(struct zd_mm *mm, void *addr, size_t len, struct zd_device *dev,
			struct zd_migrate_result *result,
			enum zd_cmd_result (*step)(struct zd_hmm *, struct zd_cmd *))
{
	struct migrate_cmd *c;
	uint64_t start, end;
	int rc;

	if (!mm)
		return -EINVAL;
	rc = zd_whole_pages(addr, len, &start, &end);
	if (rc)
		return rc;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->cmd.step = step;
	c->start = c->pos = c->homing.start = start;
	c->end = c->homing.end = end;
	c->dev = dev;
	rc = dev ? zd_migrate_stay(start, end, dev, &c->stay) : 0;
	if (!rc)
		rc = zd_hmm_send(zd_hmm_of(mm), &c->cmd);
	if (!rc) {
		zd_mover_self_help(mm, &c->cmd.done);
		rc = c->cmd.rc;
	}
	*result = c->result;
	zd_ranges_destroy(&c->stay);
	zd_free(c);
	return rc;
}

int zd_migrate_to_device_sized(struct zd_mm *mm, void *addr, size_t len, struct zd_device *dev,
			       struct zd_migrate_result *result, size_t size)
{
	struct zd_migrate_result r = { 0 };
	int rc = dev ? migrate_call(mm, addr, len, dev, &r, to_device_step) : -EINVAL;

	if (result)
		zd_fill(result, size, &r, sizeof(r));
	return rc;
}

int zd_migrate_to_ram_sized(struct zd_mm *mm, void *addr, size_t len,
			    struct zd_migrate_result *result, size_t size)
{
	struct zd_migrate_result r = { 0 };
	int rc = migrate_call(mm, addr, len, NULL, &r, to_ram_step);

	if (result)
		zd_fill(result, size, &r, sizeof(r));
	return rc;
}

/* --- which device pages --- */

struct pfns_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
	zd_pfn_t pfn[];
};

static enum zd_cmd_result pfns_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct pfns_cmd *c = caa_container_of(cmd, struct pfns_cmd, cmd);
	size_t i = 0;

	if (!zd_is_managed(hmm->mm, c->start, c->end)) {
		cmd->rc = -EINVAL;
		return ZD_CMD_DONE;
	}
	for (uint64_t a = c->start; a < c->end; a += ZD_PAGE_SIZE, i++) {
		zd_entry_t e = *zd_mm_entry(hmm->mm, a);

		if (zd_entry_state(e) == ZD_ENTRY_DEVICE)
			c->pfn[i] = zd_entry_val(e);
	}
	return ZD_CMD_DONE;
}

int zd_migrate_device_pfns(struct zd_mm *mm, const void *addr, size_t len, zd_pfn_t *pfns,
			   size_t nr)
{
	struct pfns_cmd *c;
	uint64_t start, end;
	int rc;

	if (!mm || !pfns)
		return -EINVAL;
	rc = zd_whole_pages(addr, len, &start, &end);
	if (rc || nr != (end - start) / ZD_PAGE_SIZE)
		return -EINVAL;
	c = zd_alloc(sizeof(*c) + nr * sizeof(c->pfn[0]));
	if (!c)
		return -ENOMEM;
	c->cmd.step = pfns_step;
	c->start = start;
	c->end = end;
	rc = zd_hmm_call(zd_hmm_of(mm), &c->cmd);
	if (!rc)
		memcpy(pfns, c->pfn, nr * sizeof(c->pfn[0]));
	zd_free(c);
	return rc;
}
