/* SPDX-License-Identifier: MIT */
/* zd_mm_register() and zd_mm_unregister(): which memory is managed. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/own.h"
#include "engine/changes.h"
#include "engine/entries.h"
#include "hmm/device_vma.h"
#include "hmm/hmm.h"
#include "hmm/span.h"
#include "space/maps.h"
#include "space/uffd.h"
#include "zonedev/log.h"

struct range_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
	struct zd_homing homing;
};

/* --- the server's thread --- */

static enum zd_cmd_result register_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct range_cmd *c = caa_container_of(cmd, struct range_cmd, cmd);

	if (!zd_mm_catch_up(hmm->mm))
		return ZD_CMD_AGAIN;
	cmd->rc = zd_mm_manage(hmm->mm, c->start, c->end);
	/* the address space began to change: look again what is registered */
	return cmd->rc == -EAGAIN ? ZD_CMD_AGAIN : ZD_CMD_DONE;
}

/* Is a page of [start, end) on the device, or on its way?  Homing looks ahead only, and
 * another thread may have sent pages out behind it. */
static bool is_away(const struct zd_mm *mm, uint64_t start, uint64_t end)
{
	size_t i = zd_ranges_first(&mm->ranges, start);

	for (; i < mm->ranges.nr && mm->ranges.v[i].start < end; i++) {
		uint64_t to = mm->ranges.v[i].end < end ? mm->ranges.v[i].end : end;
		uint64_t a = mm->ranges.v[i].start > start ? mm->ranges.v[i].start : start;

		for (a = zd_table_next(&mm->table, a, to); a < to;
		     a = zd_table_next(&mm->table, a + ZD_PAGE_SIZE, to)) {
			zd_entry_t e = *zd_mm_entry(mm, a);

			if (e & ZD_ENTRY_LOCK || zd_entry_state(e) == ZD_ENTRY_DEVICE)
				return true;
		}
	}
	return false;
}

static enum zd_cmd_result bring_home_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct range_cmd *c = caa_container_of(cmd, struct range_cmd, cmd);
	enum zd_cmd_result r = zd_homing_step(hmm->mm, &c->homing, &cmd->rc);

	if (r != ZD_CMD_DONE || cmd->rc || !is_away(hmm->mm, c->start, c->end))
		return r;
	c->homing.pos = c->start;
	return ZD_CMD_AGAIN;
}

/* Pages between zd_migrate_vma_setup() and finalize may be the caller's own, who would wait for
 * itself. */
static enum zd_cmd_result bring_home_now_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct range_cmd *c = caa_container_of(cmd, struct range_cmd, cmd);
	enum zd_cmd_result r = bring_home_step(hmm, cmd);

	if (r == ZD_CMD_DONE || !hmm->nr_steps || !is_away(hmm->mm, c->start, c->end))
		return r;
	cmd->rc = -EBUSY;
	return ZD_CMD_DONE;
}

static enum zd_cmd_result unregister_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct range_cmd *c = caa_container_of(cmd, struct range_cmd, cmd);
	enum zd_cmd_result r = bring_home_step(hmm, cmd);

	if (r != ZD_CMD_DONE || cmd->rc)
		return r;
	cmd->rc = zd_uffd_unregister(zd_mm_uffd(hmm->mm), c->start, c->end - c->start);
	if (!cmd->rc || cmd->rc == -EINVAL || cmd->rc == -ENOMEM) {
		/* EINVAL, ENOMEM: the range has been unmapped already */
		zd_mm_forget(hmm->mm, c->start, c->end);
		cmd->rc = 0;
	}
	return ZD_CMD_DONE;
}

/* --- the caller's thread --- */

struct check {
	uint64_t at, end;	/* [at, end) is still to be met */
	bool ok;
};

static bool check_vma(const struct zd_vma *vma, void *ctx)
{
	struct check *c = ctx;

	if (vma->end <= c->at)
		return true;
	c->ok = vma->start <= c->at && vma->anon && !vma->stack;
	c->at = vma->end;
	return c->ok && c->at < c->end;
}

/* -EINVAL: a part of [start, end) is zonedev's own memory.  0, -ENOMEM. */
static int check_own(uint64_t start, uint64_t end)
{
	unsigned int n = zd_own_ranges(NULL, 0), max = 0;
	struct zd_own_range *own = NULL;
	int rc = 0;

	while (n > max) {	/* other threads may add some meanwhile */
		zd_free(own);
		max = n + 16;
		own = zd_alloc(max * sizeof(*own));
		if (!own)
			return -ENOMEM;
		n = zd_own_ranges(own, max);
	}
	for (unsigned int i = 0; i < n; i++)
		if ((uintptr_t)own[i].start < end && (uintptr_t)own[i].start + own[i].len > start)
			rc = -EINVAL;
	zd_free(own);
	return rc;
}

/* 0: [start, end) is private anonymous memory all through, and none of zonedev's own.  -EINVAL:
 * it isn't; or -errno. */
static int check_range(uint64_t start, uint64_t end)
{
	struct check c = { start, end, false };
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = zd_maps_walk(fd, check_vma, &c);
	close(fd);
	if (rc)
		return rc;
	return c.ok && c.at >= end ? check_own(start, end) : -EINVAL;
}

/* Have the server's thread do @step for [start, end).  Blocks. */
static int range_call(struct zd_mm *mm, uint64_t start, uint64_t end,
		      enum zd_cmd_result (*step)(struct zd_hmm *, struct zd_cmd *))
{
	struct range_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = step;
	c->start = start;
	c->end = end;
	c->homing.start = start;
	c->homing.end = end;
	rc = zd_hmm_call(zd_hmm_of(mm), &c->cmd);
	zd_free(c);
	return rc;
}

int zd_mm_register(struct zd_mm *mm, void *addr, size_t len)
{
	uint64_t start, end;
	int rc;

	if (!mm)
		return -EINVAL;
	rc = zd_whole_pages(addr, len, &start, &end);
	if (!rc)
		rc = check_range(start, end);
	/* A device vma there has been unmapped behind its driver's back. */
	if (!rc && zd_device_vma_overlaps(mm, start, end))
		rc = -EINVAL;
	return rc ? rc : range_call(mm, start, end, register_step);
}

int zd_mm_unregister(struct zd_mm *mm, void *addr, size_t len)
{
	uint64_t start, end;
	int rc;

	if (!mm)
		return -EINVAL;
	rc = zd_whole_pages(addr, len, &start, &end);
	return rc ? rc : range_call(mm, start, end, unregister_step);
}

int zd_hmm_bring_home(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	return range_call(mm, start, end, bring_home_now_step);
}
