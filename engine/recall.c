/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "engine/land.h"
#include "engine/recall.h"
#include "engine/write.h"
#include "space/uffd.h"

/* The owner of @p whose entry is at @addr of *@mm gets the page back.  False: not now. */
static bool recall_one(struct zd_mig *mig, struct zd_mig_page *p, struct zd_mm **mm, uint64_t addr)
{
	zd_entry_t *entry = zd_mm_entry(*mm, addr);

	/* woken with the entry's unlocking, also where there is nothing to put in place */
	zd_entry_store(entry, *entry | ZD_ENTRY_WAIT);
	if (!zd_out_back_one(mig, p, mm, addr, true))
		return false;
	p->recalled = true;
	return true;
}

static int recall_from(struct zd_mig *mig, struct zd_mm *mm, uint64_t addr)
{
	for (unsigned int i = 0; i < mig->nr; i++) {
		struct zd_mig_page *p = &mig->page[i];
		struct zd_mig_sharer *s;

		if (p->step != ZD_MIG_WRITE)
			continue;
		if (p->mm == mm && p->addr == addr)
			return recall_one(mig, p, &p->mm, addr) ? 1 : -EAGAIN;
		for (s = p->sharers; s; s = s->next)
			if (s->mm == mm && s->addr == addr)
				return recall_one(mig, p, &s->mm, addr) ? 1 : -EAGAIN;
	}
	return 0;
}

int zd_recall(struct zd_mm *mm, uint64_t addr)
{
	struct zd_mig *mig;
	int rc = 0;

	cds_list_for_each_entry(mig, &mm->server->migs, node) {
		if (mig->dir == ZD_TO_DEVICE)
			rc = recall_from(mig, mm, addr);
		if (rc)
			break;
	}
	return rc;
}

/* The owner of @p at @addr of *@mm, which may be none, has the page back, or is @but. */
static bool recall_other(struct zd_mig *mig, struct zd_mig_page *p, struct zd_mm **mm,
			 uint64_t addr, const struct zd_mm *but)
{
	if (!*mm || *mm == but)
		return true;
	return p->step == ZD_MIG_WRITE && recall_one(mig, p, mm, addr);
}

bool zd_recall_others(struct zd_mm *mm)
{
	bool all = true;
	struct zd_mig *mig;

	cds_list_for_each_entry(mig, &mm->server->migs, node) {
		if (mig->dir != ZD_TO_DEVICE)
			continue;
		for (unsigned int i = 0; i < mig->nr; i++) {
			struct zd_mig_page *p = &mig->page[i];

			if (p->step == ZD_MIG_DONE)
				continue;
			all &= recall_other(mig, p, &p->mm, p->addr, mm);
			for (struct zd_mig_sharer *s = p->sharers; s; s = s->next)
				all &= recall_other(mig, p, &s->mm, s->addr, mm);
		}
	}
	return all;
}

static void recall_if_waited(struct zd_mig *mig, struct zd_mig_page *p, struct zd_mm **mm,
			     uint64_t addr)
{
	struct zd_mm *owner = *mm;
	zd_entry_t *entry;

	if (!owner)
		return;
	entry = zd_mm_entry(owner, addr);
	if (!(*entry & ZD_ENTRY_WAIT) || recall_one(mig, p, mm, addr))
		return;
	/* an event comes first: the thread faults again behind it */
	zd_entry_store(entry, *entry & ~ZD_ENTRY_WAIT);
	owner->event_due = true;
	zd_uffd_wake(zd_mm_uffd(owner), addr, ZD_PAGE_SIZE);
}

void zd_recall_waited(struct zd_mig *mig, struct zd_mig_page *p)
{
	recall_if_waited(mig, p, &p->mm, p->addr);
	for (struct zd_mig_sharer *s = p->sharers; s; s = s->next)
		recall_if_waited(mig, p, &s->mm, s->addr);
	if (zd_mig_has_owner(p))
		return;
	p->error = -ECANCELED;
	zd_out_dropped(mig, p);
}
