/* SPDX-License-Identifier: MIT */
/*
 * Device vmas: stretches of the address space behind which lie the pages of a device
 * that the CPU can address (drivers/dax/mapping.c).  They are not managed: nothing migrates,
 * no userfaultfd is involved, the kernel serves their faults.  zonedev only knows which
 * page is where, so that GUP can hold it.
 *
 * Mechanism.  A device vma costs nothing a page.  When GUP meets an address for the
 * first time, the vma's ->hold takes a reference to the address's page and the entry
 * becomes DAX with the pfn; from then on GUP walks the entry as it walks any other,
 * without a lock.  Entries that were set are found again by a bit for each 512.
 *
 * Invariants.  A DAX entry holds one reference to its page.  The entries of [start, end)
 * are written under vma->lock only, and never by the server: the range can't be registered
 * while it is mapped here.
 *
 * Locks: the driver's, hmm->device_vma_lock (the list), vma->lock inside it, what ->hold
 * takes inside that.  A thread that finds a vma in the list takes the vma's lock before it
 * drops the list's.  So when zd_device_vma_remove() has marked the vma as dying under the
 * list's lock, and then has the vma's, no other thread is in the vma or will be.  The vma
 * leaves the list last: the address space can't be closed while the vma uses its table.
 *
 * Threads of the program, never the server's; each call may block for a moment.
 */
#ifndef ZD_HMM_DEVICE_VMA_H
#define ZD_HMM_DEVICE_VMA_H

#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"
#include "space/table.h"
#include "zonedev/page.h"

struct zd_hmm;
struct zd_mm;

/* Zero it, set the first six members; the rest is device_vma.c's. */
struct zd_device_vma {
	struct zd_mm *mm;
	uint64_t start, end;		/* page-aligned addresses, end exclusive */
	zd_pfn_t pfn;			/* of the page at @start; consecutive */
	zd_entry_t refuse;		/* ZD_ENTRY_NOWRITE, ZD_ENTRY_NOLONG */
	/* Take a reference to @page, whose count may be 0.  Under @vma's lock; may block for
	 * a moment.  0 or -errno. */
	int (*hold)(struct zd_device_vma *vma, struct zd_page *page);
	struct zd_hmm *hmm;
	struct zd_device_vma *next;
	bool dying;			/* device_vma_lock */
	struct zd_mutex lock;
	uint64_t *touched;		/* a bit for each 512 entries: some are set */
};

/* From now on GUP finds the vma.  Blocks for the server's thread.  0; -ENOMEM; -EINVAL:
 * zd_hmm_callable(). */
int zd_device_vma_add(struct zd_device_vma *vma);

/* GUP doesn't find the vma any more: its entries are empty, their references put.  A page
 * that is got or pinned stays so.  The caller has unmapped the pages. */
void zd_device_vma_remove(struct zd_device_vma *vma);

/*
 * Set the entries of [start, end) that belong to the vma around @start.  @refuse: what the
 * caller can't do without (ZD_ENTRY_NOLONG, ZD_ENTRY_NOWRITE).  0: the first is set, and some
 * more; -ENOENT: there is no vma; -EOPNOTSUPP, -EFAULT: it refuses that; -EINVAL: a forked
 * child; or what ->hold said of the first page.
 */
int zd_device_vma_install(struct zd_mm *mm, uint64_t start, uint64_t end, zd_entry_t refuse);

/* Does any part of a device vma lie in [start, end)?  Also the server's thread. */
bool zd_device_vma_overlaps(struct zd_mm *mm, uint64_t start, uint64_t end);

#endif
