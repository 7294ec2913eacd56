/* SPDX-License-Identifier: MIT */
/*
 * Device mappings: stretches of the address space behind which lie the pages of
 * a device that the CPU can address (drivers/dax/dax.c).  They are not managed:
 * nothing migrates, no userfaultfd is involved, the kernel serves their faults.
 * zonedev only knows which page is where, so that GUP can hold it.
 *
 * Mechanism.  A mapping costs nothing a page.  When GUP meets an address for the
 * first time, the mapping's ->hold takes a reference to its page and the entry
 * becomes DAX with the pfn; from then on GUP walks it as it walks any other,
 * without a lock.  Entries that were set are found again by a bit for each 512.
 *
 * Invariants.  A DAX entry holds one reference to its page.  Only who holds
 * vma->lock writes the entries of [start, end), and the server never does: the
 * range can't be registered while it is mapped here.
 *
 * Locks: mm->device_vma_lock (the list), vma->lock inside it, what ->hold takes
 * inside that.  zd_device_vma_remove() takes them one after the other: who found
 * the mapping in the list has its lock before the list's is dropped, so once it is
 * marked as dying and its lock taken nobody is in it.  It leaves the list last: the
 * address space can't be closed while it uses its table.
 */
#ifndef ZD_HMM_DEVICE_VMA_H
#define ZD_HMM_DEVICE_VMA_H

#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"
#include "space/table.h"
#include "zonedev/page.h"

struct zd_mm;

/* Zero it, set the first six members; the rest is ours. */
struct zd_device_vma {
	struct zd_mm *mm;
	uint64_t start, end;		/* page-aligned addresses, end exclusive */
	zd_pfn_t pfn;			/* of the page at @start; consecutive */
	zd_entry_t refuse;		/* ZD_ENTRY_NOWRITE, ZD_ENTRY_NOLONG */
	/* One more reference to @page, whose count may be 0.  0 or -errno.  May
	 * sleep for a moment. */
	int (*hold)(struct zd_device_vma *vma, struct zd_page *page);
	struct zd_device_vma *next;
	bool dying;			/* device_vma_lock */
	struct zd_mutex lock;
	uint64_t *touched;		/* a bit for each 512 entries: some are set */
};

/* From now on GUP finds it.  0; -ENOMEM; -EINVAL: a forked child.  Any thread but
 * the server's. */
int zd_device_vma_add(struct zd_device_vma *vma);

/* GUP doesn't any more: its entries are empty, their references put.  Whoever
 * holds a page keeps it.  The pages are mapped no longer when this is called. */
void zd_device_vma_remove(struct zd_device_vma *vma);

/*
 * Set the entries of [start, end) that belong to the mapping around @start.
 * 0: the first is set, and some more; -ENOENT: no mapping there; -EOPNOTSUPP or
 * -EFAULT: @refuse is not for this one; what ->hold said of the first page.
 */
int zd_device_vma_install(struct zd_mm *mm, uint64_t start, uint64_t end, zd_entry_t refuse);

/* Does any lie in [start, end)? */
bool zd_device_vma_overlaps(struct zd_mm *mm, uint64_t start, uint64_t end);

#endif
