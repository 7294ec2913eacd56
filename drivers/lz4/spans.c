/* SPDX-License-Identifier: MIT */
/*
 * Spans: their regions, and the lists that they are in.
 *
 *	of a class	in class->group[], by the share of slots in use; in none when all are
 *	of no class	in region->empty: the next class that needs as many pages takes it
 *
 * o->pages counts the pages of all of them.  All of a span's pages count from the moment that
 * a class has it, though the kernel commits each at its first write.
 */
#include "drivers/lz4/objects.h"

#include <errno.h>

#include "base/alloc.h"

/* span->list */
enum { LIST_NONE, LIST_EMPTY, LIST_GROUP };	/* LIST_GROUP + i: class->group[i] */

int zd_lz4_spans_init(struct zd_lz4_objects *o)
{
	int ret = 0;

	o->region_shift = ZD_PAGE_SHIFT;
	while ((1ULL << o->region_shift >> ZD_PAGE_SHIFT) < o->max_pages)
		o->region_shift++;
	o->arena = zd_reserve((size_t)ZD_LZ4_SPAN_PAGES << o->region_shift);
	if (!o->arena)
		return -ENOMEM;
	for (unsigned int i = 0; !ret && i < ZD_LZ4_SPAN_PAGES; i++) {
		struct zd_lz4_region *region = &o->region[i];

		region->nr = o->max_pages / (i + 1);
		/* the lowest first: then few pages of the tables are used */
		ret = zd_pool_init(&region->numbers, region->nr, ZD_POOL_COMPACT, UINT64_MAX,
				   false);
		if (ret)
			break;
		region->span = zd_reserve(region->nr * sizeof(*region->span));
		if (!region->span)
			ret = -ENOMEM;
	}
	return ret;
}

void zd_lz4_spans_exit(struct zd_lz4_objects *o)
{
	for (unsigned int i = 0; i < ZD_LZ4_SPAN_PAGES; i++) {
		struct zd_lz4_region *region = &o->region[i];

		zd_unreserve(region->span, region->nr * sizeof(*region->span));
		zd_pool_exit(&region->numbers);
	}
	zd_unreserve(o->arena, (size_t)ZD_LZ4_SPAN_PAGES << o->region_shift);
}

uint64_t zd_lz4_objects_tables(const struct zd_lz4_objects *o)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < ZD_LZ4_SPAN_PAGES; i++)
		bytes += (o->region[i].top * sizeof(struct zd_lz4_span) + ZD_PAGE_SIZE - 1) &
			 ZD_PAGE_MASK;
	return bytes;
}

static struct zd_lz4_region *region_of(struct zd_lz4_objects *o, unsigned int pages)
{
	return &o->region[pages - 1];
}

/* The first byte of a span. */
static uint64_t offset_of(const struct zd_lz4_objects *o, unsigned int pages, uint64_t number)
{
	return ((uint64_t)(pages - 1) << o->region_shift) + number * pages * ZD_PAGE_SIZE;
}

uint64_t zd_lz4_span_place(const struct zd_lz4_objects *o, const struct zd_lz4_span *span,
			   unsigned int pages)
{
	return offset_of(o, pages, span - o->region[pages - 1].span) / ZD_LZ4_ALIGN;
}

struct zd_lz4_span *zd_lz4_span_of(struct zd_lz4_objects *o, uint64_t place, unsigned int *offset)
{
	uint64_t byte = place * ZD_LZ4_ALIGN;
	unsigned int pages = (byte >> o->region_shift) + 1;
	uint64_t in_region = byte & ((1ULL << o->region_shift) - 1);

	*offset = in_region % (pages * ZD_PAGE_SIZE);
	return &region_of(o, pages)->span[in_region / (pages * ZD_PAGE_SIZE)];
}

/* --- lists --- */

static void list_add(struct zd_lz4_span *spans, uint32_t *head, struct zd_lz4_span *span)
{
	span->prev = 0;
	span->next = *head;
	*head = span - spans + 1;
	if (span->next)
		spans[span->next - 1].prev = *head;
}

static void list_del(struct zd_lz4_span *spans, uint32_t *head, struct zd_lz4_span *span)
{
	if (span->prev)
		spans[span->prev - 1].next = span->next;
	else
		*head = span->next;
	if (span->next)
		spans[span->next - 1].prev = span->prev;
	span->list = LIST_NONE;
}

void zd_lz4_span_unlink(struct zd_lz4_objects *o, struct zd_lz4_span *span)
{
	struct zd_lz4_class *class = zd_lz4_span_class(o, span);

	if (span->list >= LIST_GROUP)
		list_del(region_of(o, class->pages)->span, &class->group[span->list - LIST_GROUP],
			 span);
}

void zd_lz4_span_link(struct zd_lz4_objects *o, struct zd_lz4_span *span)
{
	struct zd_lz4_class *class = zd_lz4_span_class(o, span);
	unsigned int group = span->used * ZD_LZ4_GROUPS / class->slots;

	if (group == ZD_LZ4_GROUPS) {
		zd_lz4_span_unlink(o, span);
	} else if (span->list != LIST_GROUP + group) {
		zd_lz4_span_unlink(o, span);
		list_add(region_of(o, class->pages)->span, &class->group[group], span);
		span->list = LIST_GROUP + group;
	}
}

void zd_lz4_class_count(struct zd_lz4_objects *o, struct zd_lz4_class *class, int slots, int spans)
{
	o->sparse_pages -= zd_lz4_class_sparse(class);
	class->used += slots;
	class->spans += spans;
	o->sparse_pages += zd_lz4_class_sparse(class);
}

static struct zd_lz4_span *first_of(struct zd_lz4_objects *o, struct zd_lz4_class *class, int group)
{
	return &region_of(o, class->pages)->span[class->group[group] - 1];
}

struct zd_lz4_span *zd_lz4_class_fullest(struct zd_lz4_objects *o, struct zd_lz4_class *class)
{
	for (int i = ZD_LZ4_GROUPS - 1; i >= 0; i--)
		if (class->group[i])
			return first_of(o, class, i);
	return NULL;
}

struct zd_lz4_span *zd_lz4_class_emptiest(struct zd_lz4_objects *o, struct zd_lz4_class *class)
{
	for (int i = 0; i < ZD_LZ4_GROUPS; i++)
		if (class->group[i])
			return first_of(o, class, i);
	return NULL;
}

/* --- spans that come and go --- */

/* Of new pages; NULL: max_pages are in use. */
static struct zd_lz4_span *span_make(struct zd_lz4_objects *o, unsigned int pages)
{
	struct zd_lz4_region *region = region_of(o, pages);
	struct zd_lz4_span *span;
	uint64_t number;

	if (o->pages + pages > o->max_pages || !zd_pool_alloc(&region->numbers, 1, 0, &number))
		return NULL;
	if (number >= region->top)
		region->top = number + 1;
	span = &region->span[number];
	span->exists = true;
	o->pages += pages;
	return span;
}

static struct zd_lz4_span *empty_get(struct zd_lz4_objects *o, unsigned int pages)
{
	struct zd_lz4_region *region = region_of(o, pages);
	struct zd_lz4_span *span;

	if (!region->empty)
		return NULL;
	span = &region->span[region->empty - 1];
	list_del(region->span, &region->empty, span);
	o->empty_pages -= pages;
	return span;
}

static void empty_put(struct zd_lz4_objects *o, struct zd_lz4_span *span, unsigned int pages)
{
	struct zd_lz4_region *region = region_of(o, pages);

	span->class = 0;
	list_add(region->span, &region->empty, span);
	span->list = LIST_EMPTY;
	o->empty_pages += pages;
}

struct zd_lz4_span *zd_lz4_span_new(struct zd_lz4_objects *o, struct zd_lz4_class *class)
{
	struct zd_lz4_span *span = empty_get(o, class->pages);

	if (!span)
		span = span_make(o, class->pages);
	if (!span)
		return NULL;
	span->class = class - o->class + 1;
	zd_lz4_class_count(o, class, 0, 1);
	zd_lz4_span_link(o, span);
	return span;
}

void zd_lz4_span_empty(struct zd_lz4_objects *o, struct zd_lz4_span *span)
{
	struct zd_lz4_class *class = zd_lz4_span_class(o, span);

	zd_lz4_span_unlink(o, span);
	zd_lz4_class_count(o, class, 0, -1);
	empty_put(o, span, class->pages);
}

struct zd_lz4_run zd_lz4_objects_take_empty(struct zd_lz4_objects *o)
{
	for (unsigned int pages = ZD_LZ4_SPAN_PAGES; pages; pages--) {
		struct zd_lz4_span *span = empty_get(o, pages);

		if (!span)
			continue;
		span->exists = false;
		o->pages -= pages;
		return (struct zd_lz4_run){ pages, span - region_of(o, pages)->span };
	}
	return (struct zd_lz4_run){ 0 };
}

void zd_lz4_objects_release(struct zd_lz4_objects *o, struct zd_lz4_run run)
{
	zd_decommit(o->arena + offset_of(o, run.pages, run.number), run.pages * ZD_PAGE_SIZE);
	zd_pool_free(&region_of(o, run.pages)->numbers, run.number);
}

/* --- in the child of a fork --- */

void zd_lz4_objects_forget(struct zd_lz4_objects *o)
{
	for (unsigned int i = 0; i < o->nr_classes; i++) {
		for (int k = 0; k < ZD_LZ4_GROUPS; k++)
			o->class[i].group[k] = 0;
		o->class[i].spans = o->class[i].used = 0;
	}
	o->pages = o->empty_pages = o->sparse_pages = 0;
	for (unsigned int i = 0; i < ZD_LZ4_SPAN_PAGES; i++) {
		o->region[i].empty = 0;
		for (uint64_t k = 0; k < o->region[i].top; k++) {
			struct zd_lz4_span *span = &o->region[i].span[k];

			span->used = span->list = 0;
			span->map[0] = span->map[1] = 0;
		}
	}
}

/* A number that the lost thread had taken for a span, or not given back yet, is never used again. */
void zd_lz4_objects_sort(struct zd_lz4_objects *o)
{
	for (unsigned int i = 0; i < ZD_LZ4_SPAN_PAGES; i++) {
		for (uint64_t k = 0; k < o->region[i].top; k++) {
			struct zd_lz4_span *span = &o->region[i].span[k];

			if (!span->exists)
				continue;
			o->pages += i + 1;
			if (span->used) {
				zd_lz4_class_count(o, zd_lz4_span_class(o, span), span->used, 1);
				zd_lz4_span_link(o, span);
			} else {
				empty_put(o, span, i + 1);
			}
		}
	}
}
