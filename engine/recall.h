/* SPDX-License-Identifier: MIT */
/*
 * A page that is on its way out, and that a thread needs, is taken back from the batch's
 * buffer: what the device does, and how long for, is nothing to that thread.
 *
 * The page stays in its batch, without the owner that has it back, and the device page of one
 * that no owner is left for is given back when the write has ended (land.c).  Until then the
 * buffer is the device's to read; nothing writes to it.
 *
 * Batches whose pages the mover has yet aren't looked at: the mover is done in a moment.  Nor is
 * a zd_migrate_vma_setup()'s, whose caller has been promised the page.
 *
 * The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_RECALL_H
#define ZD_ENGINE_RECALL_H

#include "engine/mig.h"

/* The entry of @addr is locked.  1: the page is in place again, and its threads are woken; 0: it is
 * in no buffer; -EAGAIN: it is, and can't be put in place now. */
int zd_recall(struct zd_mm *mm, uint64_t addr);

/* Take back what is on its way out of every address space but @mm, as far as it can be now.  False:
 * some of it is on its way yet. */
bool zd_recall_others(struct zd_mm *mm);

/* @p is about to be given to the device.  Owners whose threads wait for it get it back; if none is
 * left its step is DONE. */
void zd_recall_waited(struct zd_mig *mig, struct zd_mig_page *p);

#endif
