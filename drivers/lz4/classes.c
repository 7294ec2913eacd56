/* SPDX-License-Identifier: MIT */
/*
 * The size classes.
 *
 * Each is about a twenty-fourth larger than the one before, so of an object's slot some 2 % are
 * left on average.  A class takes the number of pages of whose bytes the least is left over, and
 * then as much of the rest as its slots can share.
 */
#include "drivers/lz4/objects.h"

#include "base/bug.h"
#include "zonedev/page.h"

/* Parts of a thousand: a span of one page more has to save that much.  A span of a class is
 * half empty on average, so small ones are worth something. */
#define PAGE_COST	10

static unsigned int slots_of(unsigned int pages, unsigned int size)
{
	unsigned int slots = pages * ZD_PAGE_SIZE / size;

	return slots < ZD_LZ4_SPAN_SLOTS ? slots : ZD_LZ4_SPAN_SLOTS;
}

static unsigned int best_pages(unsigned int size)
{
	unsigned int best = 1, least = UINT32_MAX;

	for (unsigned int pages = 1; pages <= ZD_LZ4_SPAN_PAGES; pages++) {
		unsigned int bytes = pages * ZD_PAGE_SIZE;
		unsigned int cost = (bytes - slots_of(pages, size) * size) * 1000 / bytes +
				    pages * PAGE_COST;

		if (cost < least) {
			least = cost;
			best = pages;
		}
	}
	return best;
}

void zd_lz4_classes_init(struct zd_lz4_objects *o)
{
	unsigned int size = ZD_LZ4_SLOT_MIN, unit = 0;

	while (size <= ZD_LZ4_SLOT_MAX) {
		unsigned int pages = best_pages(size), slots = slots_of(pages, size);
		struct zd_lz4_class *class = &o->class[o->nr_classes++];

		ZD_BUG_ON(o->nr_classes > ZD_LZ4_CLASSES, "lz4: more than %d classes",
			  ZD_LZ4_CLASSES);
		size = pages * ZD_PAGE_SIZE / slots / ZD_LZ4_ALIGN * ZD_LZ4_ALIGN;
		if (size > ZD_LZ4_SLOT_MAX)
			size = ZD_LZ4_SLOT_MAX;
		*class = (struct zd_lz4_class){ .size = size, .slots = slots, .pages = pages };
		for (; unit * ZD_LZ4_ALIGN <= size; unit++)
			o->class_of[unit] = o->nr_classes - 1;
		size += size / 24 / ZD_LZ4_ALIGN * ZD_LZ4_ALIGN;
		if (size == class->size)
			size += ZD_LZ4_ALIGN;
	}
}
