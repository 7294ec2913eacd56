/* SPDX-License-Identifier: MIT */
/*
 * The shadow table: what zonedev knows of each page of an address space.
 *
 * Mechanism.  Flat arrays of 64-bit entries, one a page, reserved when a range
 * is first managed and committed by the kernel as they are written; a small
 * directory says where the array of each GiB of address space lies.  Finding an
 * entry is one load and an add: no tree, no lock, and a range that moves
 * (mremap) or is copied (fork) is a loop over those of its entries that were
 * touched: each page of entries has a byte that says so, and so has, for good, each
 * slot of the directory.  Arrays stay until the table is destroyed, so a reader never
 * sees one go.
 *
 * All-zero: "RAM or untouched: the kernel knows".
 *
 *   bits 0-2   state
 *   bit  3     LOCK: a migration owns the page.  Between "move this page out"
 *              and "its device page is recorded" the page is in neither place;
 *              a fault on a locked entry waits, and is never answered with
 *              zeros.
 *   bit  4     WAIT: a fault waits for the lock
 *   bit  5     HOT: came home soon after it went out; set in PRESENT
 *   bit  6     FOLIO: pins of the page are counted by its folio (ram_page.h); set in SYSTEM
 *   bit  7     UNSETTLED: the page was GOING, and may be yet; set in SYSTEM
 *   bits 8-43  DEVICE, SYSTEM, DAX: pfn.  PRESENT: number of the queue run it belongs to.
 *              GOING: since when
 *   bits 44-63 DEVICE: when it went out (see lru.h), for the refault distance
 *   bit  44    NOWRITE, bit 45 NOLONG: GUP refuses to hold the page for writing,
 *              for long; set in DAX
 *
 * Invariants.  A DEVICE entry holds one reference to its device page; so does
 * the entry of every forked child that shares it.  Only the server's thread
 * writes entries, but for those of device mappings, which are never in a managed
 * range (device_vma.h); other threads may read them (release/acquire on the entry:
 * a thread that sees a pfn sees a page whose count was raised before).
 */
#ifndef ZD_SPACE_TABLE_H
#define ZD_SPACE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "zonedev/page.h"

typedef uint64_t zd_entry_t;

enum zd_entry_state {
	ZD_ENTRY_NONE,		/* untouched, or RAM that isn't in a queue */
	ZD_ENTRY_PRESENT,	/* RAM, in an eviction queue */
	ZD_ENTRY_DEVICE,	/* on the device */
	ZD_ENTRY_POISON,	/* lost: the device could not read it back */
	/*
	 * Missing, and of no content: zeros that were moved out, or a page that was out and
	 * that a madvise() has given up.  A mark (uffd.h) may be left in the page table; the
	 * kernel refuses the zero page there, so a fault takes that mark off first.
	 */
	ZD_ENTRY_REMOVED,
	ZD_ENTRY_SYSTEM,	/* RAM with a descriptor, since GUP asked for the page */
	ZD_ENTRY_DAX,		/* a page of a device mapping (device_vma.h); never managed */
	/*
	 * RAM, and a madvise() takes its content away.  The kernel sends the event before it
	 * does so, and none after.  If the page moved out in between, and was put back for
	 * want of a mark, content that the madvise has given up would reappear.  So the page
	 * stays in RAM until a fault has shown that it was gone, or for ZD_GOING_SETTLE:
	 * after MADV_FREE a page may be written again without a fault.
	 */
	ZD_ENTRY_GOING,
};

#define ZD_ENTRY_STATE		UINT64_C(7)
#define ZD_ENTRY_LOCK		(UINT64_C(1) << 3)
#define ZD_ENTRY_WAIT		(UINT64_C(1) << 4)
#define ZD_ENTRY_HOT		(UINT64_C(1) << 5)
#define ZD_ENTRY_FOLIO		(UINT64_C(1) << 6)
#define ZD_ENTRY_UNSETTLED	(UINT64_C(1) << 7)
#define ZD_ENTRY_VAL_SHIFT	8
#define ZD_ENTRY_VAL_MASK	((UINT64_C(1) << ZD_PFN_BITS) - 1)
#define ZD_ENTRY_AGE_SHIFT	44
#define ZD_ENTRY_AGE_MASK	((UINT64_C(1) << 20) - 1)
#define ZD_ENTRY_NOWRITE	(UINT64_C(1) << 44)
#define ZD_ENTRY_NOLONG		(UINT64_C(1) << 45)

#define ZD_VA_BITS		47
#define ZD_TABLE_BYTES		((UINT64_C(1) << (ZD_VA_BITS - ZD_PAGE_SHIFT)) * sizeof(zd_entry_t))

static inline enum zd_entry_state zd_entry_state(zd_entry_t e)
{
	return (enum zd_entry_state)(e & ZD_ENTRY_STATE);
}

static inline uint64_t zd_entry_val(zd_entry_t e)
{
	return (e >> ZD_ENTRY_VAL_SHIFT) & ZD_ENTRY_VAL_MASK;
}

static inline uint32_t zd_entry_age(zd_entry_t e)
{
	return e >> ZD_ENTRY_AGE_SHIFT;
}

static inline zd_entry_t zd_entry_device(zd_pfn_t pfn, uint32_t age)
{
	return ZD_ENTRY_DEVICE | pfn << ZD_ENTRY_VAL_SHIFT |
	       (uint64_t)(age & ZD_ENTRY_AGE_MASK) << ZD_ENTRY_AGE_SHIFT;
}

static inline zd_entry_t zd_entry_dax(zd_pfn_t pfn, zd_entry_t refuse)
{
	return ZD_ENTRY_DAX | refuse | pfn << ZD_ENTRY_VAL_SHIFT;
}

static inline zd_entry_t zd_entry_present(uint64_t run, bool hot)
{
	return ZD_ENTRY_PRESENT | (hot ? ZD_ENTRY_HOT : 0) |
	       (run & ZD_ENTRY_VAL_MASK) << ZD_ENTRY_VAL_SHIFT;
}

/* GOING: time in units of 2^28 ns.  Between the reading of the event and the zapping of the
 * pages the thread of the madvise() is in the kernel, where it can't be stopped: it takes
 * no longer than it has to wait for a CPU. */
#define ZD_GOING_SHIFT	28
#define ZD_GOING_SETTLE	40	/* 10.7 s */

static inline zd_entry_t zd_entry_going(uint64_t now_ns)
{
	return ZD_ENTRY_GOING | ((now_ns >> ZD_GOING_SHIFT) & ZD_ENTRY_VAL_MASK)
					<< ZD_ENTRY_VAL_SHIFT;
}

/* May a page in RAM that has this entry, and is in no queue, be taken out? */
static inline bool zd_entry_is_free(zd_entry_t e, uint64_t now_ns)
{
	if (e & ZD_ENTRY_LOCK)
		return false;
	if (zd_entry_state(e) == ZD_ENTRY_NONE)
		return true;
	return zd_entry_state(e) == ZD_ENTRY_GOING &&
	       (now_ns >> ZD_GOING_SHIFT) - zd_entry_val(e) >= ZD_GOING_SETTLE;
}

#define ZD_TABLE_SHIFT		30	/* what one directory slot spans */
#define ZD_TABLE_SLOTS		(UINT64_C(1) << (ZD_VA_BITS - ZD_TABLE_SHIFT))
#define ZD_TABLE_SPAN		(UINT64_C(1) << ZD_TABLE_SHIFT)
#define ZD_TABLE_LEAF_ENTRIES	(ZD_TABLE_SPAN >> ZD_PAGE_SHIFT)

#define ZD_TABLE_PAGE_ENTRIES	(ZD_PAGE_SIZE / sizeof(zd_entry_t))
#define ZD_TABLE_PAGE_SPAN	(ZD_TABLE_PAGE_ENTRIES * ZD_PAGE_SIZE)

/* Which entry of its leaf. */
static inline uint64_t zd_table_index(uint64_t addr)
{
	return (addr & (ZD_TABLE_SPAN - 1)) >> ZD_PAGE_SHIFT;
}

/* A byte for each page of the leaf's entries: may an entry of that page be other than zero? */
static inline unsigned char *zd_table_touched(const zd_entry_t *leaf)
{
	return (unsigned char *)leaf - ZD_PAGE_SIZE;
}

struct zd_table_chunk;

struct zd_table {
	zd_entry_t **dir;
	unsigned char *touched;		/* a byte for each slot: has a page of its leaf been touched? */
	struct zd_table_chunk *chunks;	/* what to unreserve at the end */
};

/* -ENOMEM where the address space is limited (ulimit -v). */
int zd_table_init(struct zd_table *table);
void zd_table_destroy(struct zd_table *table);

/* Make entries of [start, end) addressable; -ENOMEM, -ERANGE. */
int zd_table_reserve(struct zd_table *table, uint64_t start, uint64_t end);

/* The entry of any address below 1 << ZD_VA_BITS, or NULL; any thread. */
static inline const zd_entry_t *zd_table_lookup(const struct zd_table *table, uint64_t addr)
{
	/* pairs with the release in reserve_slots() */
	const zd_entry_t *leaf = __atomic_load_n(&table->dir[addr >> ZD_TABLE_SHIFT],
						 __ATOMIC_ACQUIRE);

	return leaf ? &leaf[zd_table_index(addr)] : NULL;
}

/*
 * @addr must have been reserved; the server's thread, which alone writes entries that
 * zd_table_next() finds.  The page of the table that the entry is on counts as touched
 * from now on, until it is trimmed.
 */
static inline zd_entry_t *zd_table_entry(const struct zd_table *table, uint64_t addr)
{
	zd_entry_t *leaf = __atomic_load_n(&table->dir[addr >> ZD_TABLE_SHIFT], __ATOMIC_ACQUIRE);
	uint64_t i = zd_table_index(addr);
	unsigned char *touched = &zd_table_touched(leaf)[i / ZD_TABLE_PAGE_ENTRIES];

	/* atomic: threads that map device memory (device_vma.c) get here, too */
	if (!__atomic_load_n(touched, __ATOMIC_RELAXED)) {
		__atomic_store_n(touched, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&table->touched[addr >> ZD_TABLE_SHIFT], 1, __ATOMIC_RELAXED);
	}
	return &leaf[i];
}

static inline zd_entry_t zd_entry_load(const zd_entry_t *entry)
{
	/* pairs with the release in zd_entry_store() */
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static inline void zd_entry_store(zd_entry_t *entry, zd_entry_t value)
{
	/* pairs with the acquire in zd_entry_load() */
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

/* The next non-zero entry's address in [addr, end), or end.  The cost depends on how much was
 * touched, not on how much is reserved. */
uint64_t zd_table_next(const struct zd_table *table, uint64_t addr, uint64_t end);

/* Give the memory of the entries of [start, end), all zero, back to the kernel. */
void zd_table_trim(struct zd_table *table, uint64_t start, uint64_t end);

#endif
