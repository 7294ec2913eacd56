/* SPDX-License-Identifier: MIT */
/* Batches of pages in flight: their memory, and what events do to them. */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bug.h"
#include "base/time.h"
#include "engine/mig.h"
#include "engine/tier.h"
#include "space/uffd.h"

#define SPARES_MAX	8

/* A batch is 60 KiB and needs a buffer: landed ones are reused.  The server's thread. */
struct zd_mig *zd_mig_new(struct zd_server *server, struct zd_mm *mm, enum zd_io_dir dir)
{
	struct zd_mig *mig;
	char *buffer;

	if (!cds_list_empty(&server->spare_migs)) {
		mig = cds_list_first_entry(&server->spare_migs, struct zd_mig, node);
		cds_list_del(&mig->node);
		server->nr_spare_migs--;
	} else {
		mig = zd_alloc(sizeof(*mig));
		if (!mig)
			return NULL;
		mig->buffer = zd_reserve(ZD_STAGING_BYTES);
		if (!mig->buffer) {
			zd_free(mig);
			return NULL;
		}
	}
	buffer = mig->buffer;
	memset(mig, 0, offsetof(struct zd_mig, page));
	mig->buffer = buffer;
	mig->server = server;
	mig->mm = mm;
	mig->dir = dir;
	mig->start_ns = zd_now_ns();
	server->nr_migs[dir]++;
	cds_list_add_tail(&mig->node, &server->migs);
	return mig;
}

static void destroy(struct zd_mig *mig)
{
	zd_unreserve(mig->buffer, ZD_STAGING_BYTES);
	zd_free(mig);
}

/* The batch is kept, to be used again, if there are not many of these. */
static void spare(struct zd_server *server, struct zd_mig *mig)
{
	if (server->nr_spare_migs == SPARES_MAX) {
		destroy(mig);
		return;
	}
	server->nr_spare_migs++;
	cds_list_add(&mig->node, &server->spare_migs);
}

void zd_mig_free(struct zd_mig *mig)
{
	struct zd_server *server = mig->server;
	struct zd_mig_sharer *s;

	if (mig->landed)
		mig->landed(mig);
	for (unsigned int i = 0; i < mig->nr; i++) {
		while ((s = mig->page[i].sharers)) {
			mig->page[i].sharers = s->next;
			zd_free(s);
		}
	}
	/* from here on the device may be removed */
	if (mig->pgmap)
		zd_put_dev_pagemap(mig->pgmap);
	cds_list_del(&mig->node);
	server->nr_migs[mig->dir]--;
	if (mig->unanswered)
		return;		/* nobody else's, for ever */
	spare(server, mig);
}

unsigned int zd_migs_to(const struct zd_server *server, const struct zd_device *dev)
{
	const struct zd_mig *mig;
	unsigned int nr = 0;

	cds_list_for_each_entry(mig, &server->migs, node)
		nr += (mig->dir == ZD_TO_DEVICE && mig->dev == dev) ||
		      (mig->from && (mig->dev == dev || mig->from == dev));
	return nr;
}

bool zd_migs_have(const struct zd_server *server, const struct zd_device *dev, zd_pfn_t first)
{
	const struct zd_mig *mig;

	cds_list_for_each_entry(mig, &server->migs, node) {
		bool to = (mig->dir == ZD_TO_DEVICE || mig->from) && mig->dev == dev;

		for (unsigned int i = 0; (to || mig->from == dev) && i < mig->nr; i++) {
			const struct zd_mig_page *p = &mig->page[i];

			if (p->step != ZD_MIG_DONE && (to ? p->pfn >= first : p->from >= first))
				return true;
		}
	}
	return false;
}

void zd_migs_free_spares(struct zd_server *server)
{
	struct zd_mig *mig, *next;

	cds_list_for_each_entry_safe(mig, next, &server->spare_migs, node) {
		cds_list_del(&mig->node);
		server->nr_spare_migs--;
		destroy(mig);
	}
}

/* A page in flight loses the owner whose entry is at @addr.  A HOME entry's reference stays
 * with the batch, which puts it on landing.  A thread that waits for the page is woken here,
 * since the batch won't wake it, and faults again, behind the event. */
static void disown(struct zd_mig *mig, struct zd_mm *mm, uint64_t addr, zd_entry_t next)
{
	/* the fault that brings a page home waits without setting WAIT */
	zd_entry_t e = *zd_mm_entry(mm, addr);
	bool wait = e & ZD_ENTRY_WAIT || mig->dir == ZD_FROM_DEVICE;

	zd_entry_store(zd_mm_entry(mm, addr), next);
	if (wait)
		zd_uffd_wake(zd_mm_uffd(mm), addr, ZD_PAGE_SIZE);
	if (mig->dir == ZD_FROM_DEVICE)
		zd_mm_count_device(mm, zd_entry_val(e), -1);
	mm->server->stats.c.pages_freed++;
}

void zd_migs_drop(struct zd_mm *mm, uint64_t start, uint64_t end, zd_entry_t next)
{
	struct zd_mig_sharer *s;
	struct zd_mig *mig;

	cds_list_for_each_entry(mig, &mm->server->migs, node) {
		for (unsigned int i = 0; i < mig->nr; i++) {
			struct zd_mig_page *p = &mig->page[i];

			if (p->step == ZD_MIG_DONE)
				continue;
			if (p->mm == mm && p->addr >= start && p->addr < end) {
				disown(mig, mm, p->addr, next);
				p->mm = NULL;
			}
			for (s = p->sharers; s; s = s->next) {
				if (s->mm != mm || s->addr < start || s->addr >= end)
					continue;
				disown(mig, mm, s->addr, next);
				s->mm = NULL;
			}
		}
	}
}

void zd_migs_remap(struct zd_mm *mm, uint64_t from, uint64_t to, uint64_t len)
{
	struct zd_mig_sharer *s;
	struct zd_mig *mig;

	cds_list_for_each_entry(mig, &mm->server->migs, node) {
		for (unsigned int i = 0; i < mig->nr; i++) {
			struct zd_mig_page *p = &mig->page[i];

			if (p->mm == mm && p->addr - from < len)
				p->addr += to - from;
			for (s = p->sharers; s; s = s->next)
				if (s->mm == mm && s->addr - from < len)
					s->addr += to - from;
		}
	}
}

static int add_sharer(struct zd_mig_page *p, struct zd_mm *child, uint64_t addr)
{
	struct zd_mig_sharer *s;

	/* MADV_DONTFORK; or the child has unmapped the place by now */
	if (!zd_ranges_find(&child->ranges, addr))
		return 0;
	s = zd_alloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct zd_mig_sharer){ p->sharers, child, addr };
	p->sharers = s;
	zd_entry_store(zd_mm_entry(child, addr), ZD_ENTRY_LOCK);
	return 0;
}

int zd_migs_fork(struct zd_mm *parent, struct zd_mm *child)
{
	struct zd_mig_sharer *s;
	struct zd_mig *mig;
	int rc = 0;

	cds_list_for_each_entry(mig, &parent->server->migs, node) {
		if (mig->dir != ZD_TO_DEVICE)
			continue;
		for (unsigned int i = 0; !rc && i < mig->nr; i++) {
			struct zd_mig_page *p = &mig->page[i];

			/* not moved: the child has it in RAM, like the parent.  An
			 * error of a later step is the device's: the page is away. */
			if (p->step == ZD_MIG_DONE || (p->step == ZD_MIG_MOVING && p->error))
				continue;
			if (p->mm == parent)
				rc = add_sharer(p, child, p->addr);
			for (s = p->sharers; !rc && s; s = s->next)
				if (s->mm == parent)
					rc = add_sharer(p, child, s->addr);
		}
	}
	return rc;
}

void zd_migs_forget_mm(struct zd_mm *mm)
{
	struct zd_mig *mig;

	cds_list_for_each_entry(mig, &mm->server->migs, node)
		if (mig->mm == mm)
			mig->mm = NULL;
}

void zd_migs_retry(struct zd_server *server)
{
	struct zd_mig *mig, *next;

	cds_list_for_each_entry_safe(mig, next, &server->migs, node)
		if (mig->retry)
			mig->land(mig);
}
