/* SPDX-License-Identifier: MIT */
/*
 * Reading a BTT's blocks, beside its writers.
 *
 * A reader takes a slot, says there which data block it is about to read, and looks at the
 * map again: if that still says the same, the data block is the block's, and will not be
 * written before the slot is empty: a writer that gets it as its free one looks at all slots
 * before its step 1.  Store, then load, on both sides: the reader's slot and then the map;
 * the map (when the data block became free) and then the slots.  Hence the fences, which
 * are each other's partners: announce() and zd_btt_wait_readers().
 *
 * So a reader waits for no writer, and a writer only for those who still read what its
 * free data block had, at most for one copy each.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <string.h>

#include "base/tls.h"
#include "drivers/btt/btt.h"
#include "zonedev/log.h"

/* --- slots --- */

static uint32_t *take_slot(struct zd_btt *btt)
{
	static uint32_t threads;
	static ZD_TLS uint32_t mine;	/* where to look first, plus one */

	if (!mine)
		mine = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED) % ZD_BTT_READERS + 1;
	for (;;) {
		for (uint32_t i = 0; i < ZD_BTT_READERS; i++) {
			uint32_t *word = &btt->readers[(mine + i) % ZD_BTT_READERS].word;
			uint32_t nobody = 0;

			if (!__atomic_load_n(word, __ATOMIC_RELAXED) &&
			    __atomic_compare_exchange_n(word, &nobody, ZD_BTT_READER_TAKEN, false,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
				return word;
		}
		/* more readers than slots: one of them will be done */
		sched_yield();
	}
}

/* Sequentially consistent: a full fence between it and what follows. */
static void set_slot(uint32_t *word, uint32_t value)
{
	if (__atomic_exchange_n(word, value, __ATOMIC_SEQ_CST) & ZD_BTT_READER_WAITER)
		zd_futex_wake(word, INT_MAX);
}

static bool is_one_of(uint32_t value, const uint32_t *at, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if ((value & ~ZD_BTT_READER_WAITER) == at[i] + 1)
			return true;
	return false;
}

void zd_btt_wait_readers(struct zd_btt *btt, const uint32_t *at, uint32_t nr)
{
	/* the map was changed before; pairs with set_slot() in announce() */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < ZD_BTT_READERS; i++) {
		uint32_t *word = &btt->readers[i].word, value;

		/* acquire: what the reader has read it has read before */
		while ((value = __atomic_load_n(word, __ATOMIC_ACQUIRE)) && is_one_of(value, at, nr)) {
			uint32_t waited = value | ZD_BTT_READER_WAITER;

			if (value == waited ||
			    __atomic_compare_exchange_n(word, &value, waited, false,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
				zd_futex_wait(word, waited, -1);
		}
	}
}

/* The block's entry, whose data block stays as it is until the slot is empty. */
static int announce(struct zd_btt *btt, uint64_t block, uint32_t *slot, uint64_t *entry)
{
	uint64_t off = zd_btt_map_off(btt, block), again;
	int rc = zd_media_get64(btt->m, off, entry);

	while (!rc) {
		set_slot(slot, zd_btt_data_block(*entry) + 1);
		rc = zd_media_get64(btt->m, off, &again);
		if (again == *entry)
			break;
		*entry = again;
	}
	return rc || zd_btt_is_entry(btt, *entry) ? rc : -EIO;
}

/* --- content --- */

/* What says that there is none. */
static int check_kind(struct zd_btt *btt, uint64_t block, uint64_t entry)
{
	struct zd_btt_owner o;
	uint64_t off = zd_btt_owner_off(btt, zd_btt_data_block(entry));
	int rc = zd_media_get64(btt->m, off, &o.what);

	if (!rc)
		rc = zd_media_get64(btt->m, off + sizeof(o.what), &o.gen);
	if (rc)
		return rc;
	return zd_btt_agree(btt, block, entry, &o) == ZD_BTT_ZERO ? 0 : -EIO;
}

int zd_btt_fetch(struct zd_btt *btt, uint64_t block, uint64_t entry, void *buf)
{
	struct iovec iov = { buf, btt->block };
	struct zd_iter it = { .iov = &iov, .nr = 1 };
	uint32_t at = zd_btt_data_block(entry);
	uint64_t bad;
	int rc;

	switch (zd_btt_kind(entry)) {
	case ZD_BTT_ZERO:
		memset(buf, 0, btt->block);
		return check_kind(btt, block, entry);
	case ZD_BTT_DATA:
		rc = zd_media_read(btt->m, zd_btt_data_off(btt, at), &it, btt->block, &bad);
		if (rc || zd_btt_data_entry(btt, block, at, buf) == entry)
			return rc;
		zd_warn_once("pmem: a block of a BTT isn't what was written there: reads of it fail until it is written anew (zonedev check --data names all such blocks)");
		return -EIO;
	default:
		return -EIO;
	}
}

void zd_btt_part_of(const struct zd_btt *btt, uint64_t block, uint64_t off, uint64_t end,
		    uint64_t *start, uint64_t *len)
{
	uint64_t block_off = block * btt->block;

	*start = off > block_off ? off - block_off : 0;
	*len = (end < block_off + btt->block ? end - block_off : btt->block) - *start;
}

/* By way of a buffer: what was checked is what is given out. */
static int read_block(struct zd_btt *btt, uint64_t block, uint32_t *slot, uint64_t off,
		      uint64_t end, struct zd_iter *to, uint64_t *bad)
{
	uint64_t start, len, entry;
	_Alignas(64) char buf[4096];
	int rc = announce(btt, block, slot, &entry);

	zd_btt_part_of(btt, block, off, end, &start, &len);
	*bad = block * btt->block + start;
	if (!rc)
		rc = zd_btt_fetch(btt, block, entry, buf);
	return rc ? rc : zd_iter_write(to, buf + start, len);
}

int zd_btt_check_media(struct zd_btt *btt, uint64_t off, uint64_t *bad)
{
	uint64_t where;

	if (!zd_media_check_end(btt->m, 0, btt->m->bytes, &where))
		return 0;
	*bad = off;
	return -EIO;
}

int zd_btt_read(struct zd_btt *btt, uint64_t off, struct zd_iter *to, uint64_t len,
		uint64_t *bad)
{
	uint64_t end = off + len;
	uint32_t *slot = take_slot(btt);
	int rc = 0;

	for (uint64_t block = off / btt->block; block * btt->block < end && !rc; block++)
		rc = read_block(btt, block, slot, off, end, to, bad);
	set_slot(slot, 0);
	return rc ? rc : zd_btt_check_media(btt, off, bad);
}
