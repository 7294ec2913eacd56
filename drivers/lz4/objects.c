/* SPDX-License-Identifier: MIT */
/*
 * drivers/lz4/objects.c - objects in slots of spans.
 *
 * A new object goes to the fullest span of its class that has room, so that the others have a
 * chance to become empty.  Where they don't, since what is freed lies anywhere,
 * zd_lz4_objects_compact() helps.
 *
 * Invariants, while the caller's lock is free:
 *	span->used	== bits in span->map, and > 0 in a span of a class
 *	class->used	== the sum of that over the class's spans
 *	sparse_pages	== what spans.c computes of all classes
 * so of a class less than one span's slots are free when sparse_pages is 0.
 *
 * What is left unused of o->pages is therefore known: the ends of slots and spans (classes.c),
 * a span a class, sparse_pages and empty_pages.  The driver keeps the last two small.
 */
#include "drivers/lz4/objects.h"

#include <errno.h>
#include <string.h>

#include "base/bug.h"

#define MAX_PAGES	(UINT64_C(1) << 28)	/* 1 TiB: a place is a number of 40 bits */

int zd_lz4_objects_init(struct zd_lz4_objects *o, uint64_t max_pages)
{
	memset(o, 0, sizeof(*o));
	if (max_pages < ZD_LZ4_SPAN_PAGES || max_pages > MAX_PAGES)
		return -EINVAL;
	o->max_pages = max_pages;
	zd_lz4_classes_init(o);
	return zd_lz4_spans_init(o);
}

void zd_lz4_objects_exit(struct zd_lz4_objects *o)
{
	zd_lz4_spans_exit(o);
}

static uint64_t place_of(struct zd_lz4_objects *o, const struct zd_lz4_span *span,
			 unsigned int slot)
{
	const struct zd_lz4_class *class = zd_lz4_span_class(o, span);

	return zd_lz4_span_place(o, span, class->pages) + slot * class->size / ZD_LZ4_ALIGN;
}

static uint32_t *owner_at(const struct zd_lz4_objects *o, uint64_t place)
{
	return (uint32_t *)(o->arena + place * ZD_LZ4_ALIGN);
}

/* A slot of @span, which has a free one, for @owner. */
static uint64_t slot_get(struct zd_lz4_objects *o, struct zd_lz4_span *span, uint32_t owner)
{
	struct zd_lz4_class *class = zd_lz4_span_class(o, span);
	unsigned int w = ~span->map[0] ? 0 : 1, slot = w * 64 + __builtin_ctzll(~span->map[w]);
	uint64_t place = place_of(o, span, slot);

	ZD_BUG_ON(slot >= class->slots, "lz4: span of %u slots: %u in use, slot %u is free",
		  class->slots, span->used, slot);
	span->map[w] |= 1ULL << (slot % 64);
	span->used++;
	zd_lz4_class_count(o, class, 1, 0);
	zd_lz4_span_link(o, span);
	/* A reader of an object that was moved away from here sees the move if it sees any of the
	 * bytes that are stored from now on.  Pairs with the acquire fence in
	 * zd_lz4_store_get(). */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	*owner_at(o, place) = owner;
	return place;
}

static void slot_put(struct zd_lz4_objects *o, struct zd_lz4_span *span, unsigned int slot)
{
	uint64_t bit = 1ULL << (slot % 64);

	ZD_BUG_ON(!(span->map[slot / 64] & bit), "lz4: slot %u of %u is free already", slot,
		  zd_lz4_span_class(o, span)->slots);
	span->map[slot / 64] &= ~bit;
	span->used--;
	zd_lz4_class_count(o, zd_lz4_span_class(o, span), -1, 0);
}

uint64_t zd_lz4_object_get(struct zd_lz4_objects *o, unsigned int bytes, uint32_t owner)
{
	unsigned int units = (bytes + sizeof(owner) + ZD_LZ4_ALIGN - 1) / ZD_LZ4_ALIGN;
	struct zd_lz4_class *class = &o->class[o->class_of[units]];
	struct zd_lz4_span *span = zd_lz4_class_fullest(o, class);

	if (!span)
		span = zd_lz4_span_new(o, class);
	return span ? slot_get(o, span, owner) : ZD_LZ4_NO_PLACE;
}

void zd_lz4_object_put(struct zd_lz4_objects *o, uint64_t place)
{
	unsigned int offset;
	struct zd_lz4_span *span = zd_lz4_span_of(o, place, &offset);

	slot_put(o, span, offset / zd_lz4_span_class(o, span)->size);
	if (span->used)
		zd_lz4_span_link(o, span);
	else
		zd_lz4_span_empty(o, span);
}

/* The class of which most can be gained; NULL: of none anything. */
static struct zd_lz4_class *sparsest(struct zd_lz4_objects *o)
{
	struct zd_lz4_class *most = NULL;
	uint64_t gain, best = 0;

	for (unsigned int i = 0; i < o->nr_classes; i++) {
		struct zd_lz4_class *class = &o->class[i];

		gain = zd_lz4_class_sparse(class);
		if (gain > best) {
			best = gain;
			most = class;
		}
	}
	return most;
}

/* The first used slot. */
static unsigned int first_slot(const struct zd_lz4_span *span)
{
	unsigned int w = span->map[0] ? 0 : 1;

	return w * 64 + __builtin_ctzll(span->map[w]);
}

bool zd_lz4_objects_compact(struct zd_lz4_objects *o, unsigned int max,
			    void (*moved)(void *arg, uint32_t owner, uint64_t place), void *arg)
{
	struct zd_lz4_class *class = sparsest(o);
	struct zd_lz4_span *from, *to;

	if (!class)
		return false;
	from = zd_lz4_class_emptiest(o, class);
	zd_lz4_span_unlink(o, from);
	/* More slots are free than a span has, so the other spans have room for all of this one. */
	while (from->used && max--) {
		unsigned int slot = first_slot(from);
		uint64_t old = place_of(o, from, slot), place;

		to = zd_lz4_class_fullest(o, class);
		ZD_BUG_ON(!to, "lz4: class of %u bytes: no room for %u objects", class->size,
			  from->used);
		place = slot_get(o, to, *owner_at(o, old));
		memcpy(zd_lz4_object(o, place), zd_lz4_object(o, old),
		       class->size - sizeof(uint32_t));
		moved(arg, *owner_at(o, old), place);
		slot_put(o, from, slot);
		o->moves++;
	}
	if (from->used)
		zd_lz4_span_link(o, from);
	else
		zd_lz4_span_empty(o, from);
	return true;
}

void zd_lz4_objects_keep(struct zd_lz4_objects *o, uint64_t place)
{
	unsigned int offset, slot;
	struct zd_lz4_span *span = zd_lz4_span_of(o, place, &offset);

	slot = offset / zd_lz4_span_class(o, span)->size;
	span->map[slot / 64] |= 1ULL << (slot % 64);
	span->used++;
}
