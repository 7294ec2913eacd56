/* SPDX-License-Identifier: MIT */
/*
 * drivers/lz4/objects.h - compressed pages, packed into few pages of RAM.
 *
 * An object is up to ZD_LZ4_OBJECT_MAX bytes and lies in a slot of its size class.  The
 * slots of a class are cut from spans: 1 to 8 pages in a row, so many that little is left
 * over at their end.  (zsmalloc of the kernel does the same; a span is its zspage.)  Spans of
 * as many pages have a region of address space for themselves, so none is ever too short.
 *
 * A place is where an object lies: the number of its 16 bytes in the regions.  An object may be
 * moved (zd_lz4_objects_compact()), so its owner, a number of 32 bits, is kept in front of it.
 *
 * Nothing here has a lock: the caller has one, and holds it in each call but zd_lz4_object()
 * and zd_lz4_objects_release().
 */
#ifndef ZD_DRIVERS_LZ4_OBJECTS_H
#define ZD_DRIVERS_LZ4_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "drivers/pool.h"
#include "zonedev/page.h"

#define ZD_LZ4_ALIGN		16
#define ZD_LZ4_SPAN_PAGES	8	/* in a span, at most */
#define ZD_LZ4_SPAN_SLOTS	128	/* in a span, at most */
#define ZD_LZ4_CLASSES		80
#define ZD_LZ4_SLOT_MIN		32
#define ZD_LZ4_SLOT_MAX		3584	/* the largest class: an eighth of a page is saved */
#define ZD_LZ4_OBJECT_MAX	(ZD_LZ4_SLOT_MAX - (int)sizeof(uint32_t))
#define ZD_LZ4_GROUPS		4	/* of spans with free slots: up to 1/4 used, ... */
#define ZD_LZ4_NO_PLACE		UINT64_MAX

/* A size class.  @group: lists of its spans that have free slots, the fullest last. */
struct zd_lz4_class {
	uint16_t size;		/* bytes of a slot */
	uint16_t slots;		/* in a span */
	uint8_t pages;		/* in a span */
	uint32_t group[ZD_LZ4_GROUPS];
	uint64_t spans;
	uint64_t used;		/* slots */
};

/* A span.  @next and @prev: a span's number in its region + 1, or 0. */
struct zd_lz4_span {
	uint64_t map[ZD_LZ4_SPAN_SLOTS / 64];	/* slots in use */
	uint32_t next, prev;
	uint16_t used;		/* slots */
	uint8_t class;		/* index + 1; 0: it is of none */
	uint8_t list;		/* which one it is in (spans.c) */
	bool exists;
};

/* The spans of so many pages. */
struct zd_lz4_region {
	struct zd_pool numbers;		/* the free ones are of no span */
	struct zd_lz4_span *span;
	uint64_t nr;
	uint64_t top;			/* numbers below were used once */
	uint32_t empty;			/* a list of those that are of no class */
};

struct zd_lz4_objects {
	char *arena;			/* the regions, one after the other */
	unsigned int region_shift;	/* of a region's bytes */
	struct zd_lz4_region region[ZD_LZ4_SPAN_PAGES];	/* of spans of index + 1 pages */
	uint64_t max_pages;		/* that spans may have */
	uint64_t pages;			/* that spans have, empty ones too */
	uint64_t empty_pages;		/* in spans of no class */
	uint64_t sparse_pages;		/* what compaction would make empty */
	uint64_t moves;
	unsigned int nr_classes;
	struct zd_lz4_class class[ZD_LZ4_CLASSES];
	uint8_t class_of[ZD_LZ4_SLOT_MAX / ZD_LZ4_ALIGN + 1];	/* by size in units, rounded up */
};

/* What the tables take of RAM, in bytes; the objects take o->pages. */
uint64_t zd_lz4_objects_tables(const struct zd_lz4_objects *o);

/* Spans of at most @max_pages pages.  0, -EINVAL or -ENOMEM; _exit() may follow a failed init. */
int zd_lz4_objects_init(struct zd_lz4_objects *o, uint64_t max_pages);
void zd_lz4_objects_exit(struct zd_lz4_objects *o);

/* A place for @bytes (1 to ZD_LZ4_OBJECT_MAX) of @owner's; ZD_LZ4_NO_PLACE: max_pages are in use. */
uint64_t zd_lz4_object_get(struct zd_lz4_objects *o, unsigned int bytes, uint32_t owner);
void zd_lz4_object_put(struct zd_lz4_objects *o, uint64_t place);

/* The object's bytes.  A place that has been given back reads as anything. */
static inline void *zd_lz4_object(const struct zd_lz4_objects *o, uint64_t place)
{
	return o->arena + place * ZD_LZ4_ALIGN + sizeof(uint32_t);
}

/*
 * zd_lz4_objects_compact - move at most @max objects from the emptiest span of a class that
 * has more free slots than one span to its fuller ones.  @moved: the object of @owner is at
 * @place now; its old place is not used again before the next call of object_get().
 * False: there is nothing to move.
 */
bool zd_lz4_objects_compact(struct zd_lz4_objects *o, unsigned int max,
			    void (*moved)(void *arg, uint32_t owner, uint64_t place), void *arg);

/* Take an empty span, which is then nobody's; @pages 0: there is none. */
struct zd_lz4_run {
	unsigned int pages;
	uint64_t number;
};
struct zd_lz4_run zd_lz4_objects_take_empty(struct zd_lz4_objects *o);
/* Give its memory back; then its number may be used again.  Without the lock. */
void zd_lz4_objects_release(struct zd_lz4_objects *o, struct zd_lz4_run run);

/*
 * Begin anew in the child of a fork that lost the thread in a call of the above: forget all
 * objects, then keep each one that has an owner, then sort the spans.
 */
void zd_lz4_objects_forget(struct zd_lz4_objects *o);
void zd_lz4_objects_keep(struct zd_lz4_objects *o, uint64_t place);
void zd_lz4_objects_sort(struct zd_lz4_objects *o);

/* --- classes.c --- */
void zd_lz4_classes_init(struct zd_lz4_objects *o);

/* --- spans.c, for objects.c --- */

/* Make the spans' regions for o->max_pages. */
int zd_lz4_spans_init(struct zd_lz4_objects *o);
void zd_lz4_spans_exit(struct zd_lz4_objects *o);
/* Into the list that is right for it; one that is in that list already stays where it is. */
void zd_lz4_span_link(struct zd_lz4_objects *o, struct zd_lz4_span *span);
void zd_lz4_span_unlink(struct zd_lz4_objects *o, struct zd_lz4_span *span);
/* @slots more (or less) of the class are in use, and @spans more are its. */
void zd_lz4_class_count(struct zd_lz4_objects *o, struct zd_lz4_class *class, int slots, int spans);
/* The span of the class that has the fewest free slots, or the most; NULL: all are full. */
struct zd_lz4_span *zd_lz4_class_fullest(struct zd_lz4_objects *o, struct zd_lz4_class *class);
struct zd_lz4_span *zd_lz4_class_emptiest(struct zd_lz4_objects *o, struct zd_lz4_class *class);
/* An empty span for the class, linked; NULL: max_pages are in use. */
struct zd_lz4_span *zd_lz4_span_new(struct zd_lz4_objects *o, struct zd_lz4_class *class);
/* The span has no object any more, and its class no use for it. */
void zd_lz4_span_empty(struct zd_lz4_objects *o, struct zd_lz4_span *span);
/* The span that @place lies in, which is of a class; @offset: of @place in it, in bytes. */
struct zd_lz4_span *zd_lz4_span_of(struct zd_lz4_objects *o, uint64_t place, unsigned int *offset);
/* The place at the span's start. */
uint64_t zd_lz4_span_place(const struct zd_lz4_objects *o, const struct zd_lz4_span *span,
			   unsigned int pages);

static inline struct zd_lz4_class *zd_lz4_span_class(struct zd_lz4_objects *o,
						     const struct zd_lz4_span *span)
{
	return &o->class[span->class - 1];
}

/* What compaction can make empty of the class. */
static inline uint64_t zd_lz4_class_sparse(const struct zd_lz4_class *class)
{
	return (class->spans * class->slots - class->used) / class->slots * class->pages;
}

#endif
