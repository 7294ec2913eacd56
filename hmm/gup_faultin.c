/* SPDX-License-Identifier: MIT */
/*
 * GUP's slow path: pages that the walk didn't find ready are made so.
 *
 * The kernel brings a page in (MADV_POPULATE: also home from a device, by a fault as any
 * other).  Then the page's entry needs a descriptor: a device vma sets the entries of its
 * own pages, in the caller's thread; those of managed memory the server's thread sets.
 *
 * Huge pages: an aligned request for all of one makes its descriptors a folio's, which counts
 * their pins in one place (engine/ram_page.h).
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/changes.h"
#include "engine/ram_page.h"
#include "hmm/device_vma.h"
#include "hmm/gup.h"
#include "hmm/hmm.h"
#include "hmm/span.h"
#include "space/maps.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

/* --- the server's thread --- */

struct install_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
	uint32_t refs;
};

/* Can the descriptor that counts @refs of the page take no more? */
static bool is_full(zd_entry_t e, uint32_t refs)
{
	struct zd_page *page = zd_pfn_to_page(zd_entry_val(e));

	if (e & ZD_ENTRY_FOLIO && refs == ZD_PIN_BIAS)
		page = zd_page_folio_(page);
	/* a whole folio's pins are as much as one page's */
	return zd_page_is_full(page);
}

/* Is the memory at @addr, a huge page's worth, one huge page now? */
static bool is_huge(struct zd_hmm *hmm, uint64_t addr)
{
	uint64_t pos = addr, end = addr + ZD_GUP_HUGE_BYTES;
	struct zd_present p;

	return zd_is_managed(hmm->mm, addr, end) &&
	       zd_present_scan(hmm->pagemap_fd, &pos, end, &p, 1, 0) == 1 && p.huge &&
	       p.start == addr && p.end == end;
}

/* If there is a huge page at @addr it has a folio now.  False: there is none, or it can't
 * have a folio. */
static bool install_huge(struct zd_hmm *hmm, uint64_t addr)
{
	const zd_entry_t *entry = zd_mm_entry(hmm->mm, addr);

	if (*entry & ZD_ENTRY_FOLIO &&
	    zd_folio_run(entry, *entry, ZD_FOLIO_PAGES) == ZD_FOLIO_PAGES)
		return true;
	return is_huge(hmm, addr) && !zd_ram_page_install_folio(hmm->mm, addr);
}

/* Is the page at @addr still in RAM?  The caller's thread has populated it a moment ago, but
 * a page of zeros that migrates is just dropped, and so is one that another thread gives
 * back with madvise(). */
static bool is_present(uint64_t addr)
{
	unsigned char there = 0;

	return !mincore((void *)(uintptr_t)addr, ZD_PAGE_SIZE, &there) && there & 1;
}

/* The page at @addr gets a descriptor.  -EAGAIN: the page has moved again. */
static int install_one(struct zd_mm *mm, uint64_t addr, uint32_t refs)
{
	zd_entry_t e = *zd_mm_entry(mm, addr);

	if (e & ZD_ENTRY_LOCK || !is_present(addr))
		return -EAGAIN;
	switch (zd_entry_state(e)) {
	case ZD_ENTRY_NONE:
	case ZD_ENTRY_GOING:
		return zd_ram_page_install(mm, addr);
	case ZD_ENTRY_SYSTEM:
		return is_full(e, refs) ? -ENOMEM : 0;
	case ZD_ENTRY_POISON:
		return -EFAULT;
	default:
		return -EAGAIN;
	}
}

/* Descriptors for as many of the pages as are in RAM, from the first on. */
static enum zd_cmd_result install_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct install_cmd *c = caa_container_of(cmd, struct install_cmd, cmd);
	uint64_t a = c->start, next;
	int rc = 0;

	for (; !rc && a < c->end; a = next) {
		bool whole = !(a % ZD_GUP_HUGE_BYTES) && a + ZD_GUP_HUGE_BYTES <= c->end;

		next = a + ZD_PAGE_SIZE;
		if (!zd_ranges_find(&hmm->mm->ranges, a)) {
			rc = -EFAULT;
		} else {
			if (whole && install_huge(hmm, a))
				next = a + ZD_GUP_HUGE_BYTES;
			rc = install_one(hmm->mm, a, c->refs);
		}
		if (rc && a == c->start && rc != -EAGAIN)
			cmd->rc = rc;	/* else the walk stops there, and tells */
	}
	return ZD_CMD_DONE;
}

/* A device vma has set the entries, but the walk looks at none while the server is behind:
 * done when the server no longer is. */
static enum zd_cmd_result catch_up_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	(void)cmd;
	return zd_mm_catch_up(hmm->mm) ? ZD_CMD_DONE : ZD_CMD_AGAIN;
}

/* --- the caller's thread --- */

/* The pages of [start, end) are in RAM, or were: set their entries. */
static int install(struct zd_mm *mm, uint64_t start, uint64_t end, unsigned int flags,
		   uint32_t refs)
{
	int rc = zd_device_vma_install(mm, start, end, zd_gup_refusals(flags));
	struct install_cmd *c;

	if (rc && rc != -ENOENT)
		return rc;
	if (!rc && !zd_mm_is_behind(mm))
		return 0;
	c = zd_alloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->cmd.step = rc ? install_step : catch_up_step;
	c->start = start;
	c->end = end;
	c->refs = refs;
	rc = zd_hmm_call(zd_hmm_of(mm), &c->cmd);
	zd_free(c);
	return rc;
}

int zd_gup_faultin(struct zd_mm *mm, uint64_t addr, unsigned long nr, unsigned int flags,
		   uint32_t refs)
{
	int advice = flags & ZD_FOLL_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	if (!zd_table_lookup(&mm->table, addr))
		return -EFAULT;
	/* All @nr, or if something is wrong with a later page, the first alone. */
	if (madvise((void *)(uintptr_t)addr, nr * ZD_PAGE_SIZE, advice)) {
		nr = 1;
		if (madvise((void *)(uintptr_t)addr, ZD_PAGE_SIZE, advice))
			/* EINVAL: not accessible; ENOMEM: not mapped */
			return errno == EINTR ? -EAGAIN : -EFAULT;
	}
	return install(mm, addr, addr + nr * ZD_PAGE_SIZE, flags, refs);
}
