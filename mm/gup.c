/* SPDX-License-Identifier: MIT */
/*
 * Getting and pinning pages.
 *
 * The fast walk takes no lock and stores nothing but counts:
 *
 *	read the entry	SYSTEM, not locked: here is a pfn
 *	try to get	add unless zero; fails if the page is being let go
 *	read it again	changed: it was another page's life; put, slow path
 *
 * The slow path has the kernel bring the page in (MADV_POPULATE: also home from a
 * device, through a fault like any other), asks the server to give it a
 * descriptor, and walks again.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/trace.h"
#include "mm/library.h"
#include "mm/system.h"
#include "zonedev/gup.h"
#include "zonedev/log.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define FOLL_ALL	(ZD_FOLL_WRITE | ZD_FOLL_LONGTERM)
#define BATCH		512	/* pages made ready at a time */
#define TRIES		100	/* of catching a page that somebody keeps migrating */

/* The page at @addr with @refs more references, or NULL: the slow path. */
static struct zd_page *walk_one(const struct zd_mm *mm, uint64_t addr, uint32_t refs)
{
	const zd_entry_t *entry = zd_table_lookup(&mm->table, addr);
	struct zd_page *page;
	zd_entry_t e;

	if (!entry)
		return NULL;
	e = zd_entry_load(entry);
	if ((e & (ZD_ENTRY_STATE | ZD_ENTRY_LOCK)) != ZD_ENTRY_SYSTEM)
		return NULL;
	page = zd_pfn_to_page(zd_entry_val(e));
	if (!zd_try_get_page_refs(page, refs))
		return NULL;
	/* ordered after the get by its acquire; pairs with zd_system_release():
	 * count first, entry second */
	if (zd_entry_load(entry) == e)
		return page;
	zd_put_page_refs(page, refs);
	return NULL;
}

static unsigned long walk(const struct zd_mm *mm, uint64_t addr, unsigned long nr, uint32_t refs,
			  struct zd_page **pages)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		pages[i] = walk_one(mm, addr + i * ZD_PAGE_SIZE, refs);
		if (!pages[i])
			break;
	}
	return i;
}

struct install_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
};

/* Descriptors for as many of the pages as are in RAM, from the first on. */
static enum zd_cmd_result install_step(struct zd_library *lib, struct zd_cmd *cmd)
{
	struct install_cmd *c = caa_container_of(cmd, struct install_cmd, cmd);
	struct zd_mm *mm = lib->mm;

	for (uint64_t a = c->start; a < c->end; a += ZD_PAGE_SIZE) {
		zd_entry_t e;

		cmd->rc = a == c->start ? -EFAULT : 0;
		if (!zd_ranges_find(&mm->ranges, a))
			break;
		e = *zd_mm_entry(mm, a);
		cmd->rc = a == c->start && zd_entry_state(e) == ZD_ENTRY_POISON ? -EFAULT : 0;
		if (e & ZD_ENTRY_LOCK ||
		    (zd_entry_state(e) != ZD_ENTRY_NONE && zd_entry_state(e) != ZD_ENTRY_REMOVED &&
		     zd_entry_state(e) != ZD_ENTRY_SYSTEM))
			break;		/* moved again: the caller will see */
		if (zd_entry_state(e) == ZD_ENTRY_SYSTEM)
			continue;
		cmd->rc = zd_system_install(mm, a);
		if (cmd->rc)
			break;
	}
	return ZD_CMD_DONE;
}

static int install(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	struct install_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = install_step;
	c->start = start;
	c->end = end;
	rc = zd_library_call(zd_library_of(mm), &c->cmd);
	zd_free(c);
	return rc;
}

/* Make the page at @addr, and up to @nr - 1 after it, ready for the walk. */
static int make_ready(struct zd_mm *mm, uint64_t addr, unsigned long nr, unsigned int flags)
{
	int advice = flags & ZD_FOLL_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	if (nr > BATCH)
		nr = BATCH;
	if (!zd_table_lookup(&mm->table, addr))
		return -EFAULT;
	/* the whole batch, or if something is wrong with a later page, the first
	 * alone */
	if (madvise((void *)(uintptr_t)addr, nr * ZD_PAGE_SIZE, advice)) {
		nr = 1;
		if (madvise((void *)(uintptr_t)addr, ZD_PAGE_SIZE, advice))
			/* EINVAL: not accessible; ENOMEM: not mapped */
			return errno == EINTR ? -EAGAIN : -EFAULT;
	}
	return install(mm, addr, addr + nr * ZD_PAGE_SIZE);
}

static long gup(struct zd_mm *mm, uint64_t start, unsigned long nr, unsigned int flags,
		uint32_t refs, struct zd_page **pages)
{
	uint64_t addr = start & ZD_PAGE_MASK;
	unsigned long done = 0;
	int tries = 0, rc;

	if (!mm || !pages || flags & ~FOLL_ALL)
		return -EINVAL;
	if (addr + nr * ZD_PAGE_SIZE > UINT64_C(1) << ZD_VA_BITS)
		return -EFAULT;
	while (done < nr) {
		unsigned long n = walk(mm, addr + done * ZD_PAGE_SIZE, nr - done, refs,
				       pages + done);

		done += n;
		if (done == nr)
			break;
		tries = n ? 0 : tries + 1;
		rc = tries > TRIES ? -EAGAIN :
		     make_ready(mm, addr + done * ZD_PAGE_SIZE, nr - done, flags);
		if (rc)
			return done ? (long)done : rc;
	}
	return done;
}

long zd_get_user_pages_fast(struct zd_mm *mm, uint64_t start, unsigned long nr,
			    unsigned int flags, struct zd_page **pages)
{
	return gup(mm, start, nr, flags, 1, pages);
}

long zd_pin_user_pages_fast(struct zd_mm *mm, uint64_t start, unsigned long nr,
			    unsigned int flags, struct zd_page **pages)
{
	long n = gup(mm, start, nr, flags, ZD_PIN_BIAS, pages);

	if (n > 0)
		ZD_PROBE2(page_ref_pin, zd_page_to_pfn(pages[0]), n);
	return n;
}

void zd_unpin_user_page(struct zd_page *page)
{
	ZD_PROBE2(page_ref_unpin, zd_page_to_pfn(page), 1);
	zd_put_page_refs(page, ZD_PIN_BIAS);
}

void zd_unpin_user_pages(struct zd_page **pages, unsigned long nr)
{
	if (nr)
		ZD_PROBE2(page_ref_unpin, zd_page_to_pfn(pages[0]), nr);
	for (unsigned long i = 0; i < nr; i++)
		zd_put_page_refs(pages[i], ZD_PIN_BIAS);
}

void zd_unpin_user_pages_dirty_lock(struct zd_page **pages, unsigned long nr, bool make_dirty)
{
	/* RAM pages of the program are the kernel's to know as dirty; no other
	 * kind can be pinned yet */
	(void)make_dirty;
	zd_unpin_user_pages(pages, nr);
}
