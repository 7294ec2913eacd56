/* SPDX-License-Identifier: MIT */
/* zd_migrate_to_device(), zd_migrate_to_ram(). */
#include <errno.h>

#include "base/alloc.h"
#include "base/sized.h"
#include "engine/out.h"
#include "hmm/hmm.h"
#include "hmm/malloc_rule.h"
#include "hmm/migrate.h"
#include "hmm/mover_self.h"
#include "hmm/span.h"

#define TRIES	64	/* for a page that answers EAGAIN: events come one by one */

struct migrate_cmd {
	struct zd_cmd cmd;
	uint64_t start, end, pos;
	struct zd_device *dev;
	struct zd_migrate_result result;
	bool begun;
	struct zd_ranges stay;		/* to_device: what must stay in RAM, */
	bool strict;			/* by which rule (malloc_rule.h) */
	unsigned int tries;		/* of the page at @pos */
	bool in_flight;			/* a batch is */
	uint64_t addrs[ZD_MIG_MAX];	/* of the batch's pages, when it was collected */
	struct zd_migrate_between between;	/* to_device: from other devices */
	struct zd_homing homing;	/* to_ram */
	uint64_t on_device, lost;	/* how many pages were, before */
};

/* --- to_device: the server's thread --- */

/* A batch of the command has landed. */
static void landed(struct zd_mig *mig)
{
	struct migrate_cmd *c = mig->data;
	uint64_t again = 0;

	c->in_flight = false;
	for (unsigned int i = 0; i < mig->nr; i++) {
		const struct zd_mig_page *p = &mig->page[i];

		/* An event came between: go back to the first such page.  The pages
		 * after it that did not go are met again as well. */
		if (!again && p->error == -EAGAIN && c->tries < TRIES)
			again = c->addrs[i];
		if (!again || !p->error)
			zd_migrate_count(&c->result, p);
	}
	/* not by p->addr, which an mremap may have changed */
	c->pos = again ? again : c->addrs[mig->nr - 1] + ZD_PAGE_SIZE;
	c->tries = again ? c->tries + 1 : 0;
}

/* 0; -EAGAIN: come back; else the migration has ended. */
static int to_device_begin(struct zd_hmm *hmm, struct migrate_cmd *c)
{
	int rc;

	if (!zd_is_managed(hmm->mm, c->start, c->end))
		return -EINVAL;
	c->result.already = zd_migrate_count_on(hmm->mm, c->start, c->end, c->dev);
	rc = zd_hmm_attach(hmm, c->dev);
	if (rc == -ENODEV)
		c->result.device = ((c->end - c->start) >> ZD_PAGE_SHIFT) - c->result.already;
	return rc;
}

static enum zd_cmd_result to_device_done(struct migrate_cmd *c)
{
	zd_migrate_count_rest(&c->result, (c->end - c->start) >> ZD_PAGE_SHIFT);
	return ZD_CMD_DONE;
}

/* Send out the first @nr of c->addrs; @whole: they are a huge page.  As zd_out_start(). */
static int start_batch(struct zd_hmm *hmm, struct migrate_cmd *c, unsigned int nr, bool whole)
{
	struct zd_out_want want = { .dev = c->dev, .landed = landed, .data = c };
	bool last = c->addrs[nr - 1] + ZD_PAGE_SIZE >= c->end;
	int rc;

	c->in_flight = true;
	/* The caller's thread may empty the staging area meanwhile.  But a huge page is given
	 * back sooner than a thread is woken for it, and after the last batch this thread has
	 * nothing else to do. */
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
	enum zd_cmd_result between;
	unsigned int nr;
	uint64_t end;
	bool whole;
	size_t i;

	cmd->rc = 0;
	if (c->in_flight || hmm->closing)
		return ZD_CMD_WAIT;
	if (zd_malloc_rule_changed(hmm, c->strict)) {
		cmd->rc = -ESTALE;	/* send_to_device() asks again */
		return ZD_CMD_DONE;
	}
	if (!c->begun) {
		cmd->rc = to_device_begin(hmm, c);
		if (cmd->rc == -EAGAIN)		/* a thread drives the device by itself */
			return ZD_CMD_AGAIN;
		if (cmd->rc) {
			/* the device's removal has begun: nothing goes, which is counted */
			cmd->rc = cmd->rc == -ENODEV ? 0 : cmd->rc;
			return ZD_CMD_DONE;
		}
		c->begun = true;
		c->between = (struct zd_migrate_between){
			c->start, c->end, c->dev, &c->stay, &c->result, false,
		};
	}
	between = zd_migrate_between_step(hmm, &c->between);
	if (between != ZD_CMD_DONE)
		return between;
	/* Parts of the range may have been unmapped since: memory that is not managed stays
	 * where it is. */
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

/* --- to_ram: the server's thread --- */

static enum zd_cmd_result to_ram_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct migrate_cmd *c = caa_container_of(cmd, struct migrate_cmd, cmd);
	struct zd_mm *mm = hmm->mm;
	enum zd_cmd_result r;
	uint64_t left;

	if (!c->begun) {
		c->begun = true;
		if (!zd_is_managed(mm, c->start, c->end)) {
			cmd->rc = -EINVAL;
			return ZD_CMD_DONE;
		}
		c->on_device = zd_migrate_count_entries(mm, c->start, c->end, ZD_ENTRY_DEVICE);
		c->lost = zd_migrate_count_entries(mm, c->start, c->end, ZD_ENTRY_POISON);
	}
	r = zd_homing_step(mm, &c->homing, &cmd->rc);
	if (r != ZD_CMD_DONE)
		return r;
	/* A page that came home by a fault meanwhile, or went with its mapping, counts as
	 * moved, since it is not on the device any more. */
	c->lost = zd_migrate_count_entries(mm, c->start, c->end, ZD_ENTRY_POISON) - c->lost;
	left = zd_migrate_count_entries(mm, c->start, c->end, ZD_ENTRY_DEVICE) + c->lost;
	c->result.already = ((c->end - c->start) >> ZD_PAGE_SHIFT) - c->on_device;
	c->result.moved = c->on_device > left ? c->on_device - left : 0;
	c->result.device = left;
	return r;
}

/* --- the caller's thread; blocks --- */

static int send(struct zd_mm *mm, struct migrate_cmd *c)
{
	int rc = zd_hmm_send(zd_hmm_of(mm), &c->cmd);

	if (rc)
		return rc;
	zd_mover_self_help(mm, &c->cmd.done);
	return c->cmd.rc;
}

/* Where the rule becomes stricter meanwhile, the rest goes by that. */
static int send_to_device(struct zd_mm *mm, struct migrate_cmd *c)
{
	int rc;

	do {
		zd_ranges_destroy(&c->stay);
		rc = zd_malloc_rule(zd_hmm_of(mm), c->start, c->end, c->dev, &c->stay, &c->strict);
		if (!rc)
			rc = send(mm, c);
	} while (rc == -ESTALE);
	zd_ranges_destroy(&c->stay);
	return rc;
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
	rc = dev ? send_to_device(mm, c) : send(mm, c);
	*result = c->result;
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
