/* SPDX-License-Identifier: MIT */
#include "engine/change_group.h"

/* Shell's sort: qsort() may call malloc(). */
static void sort_by_start(struct zd_change_touch *v, unsigned int nr)
{
	for (unsigned int gap = nr / 2; gap; gap /= 2)
		for (unsigned int i = gap, k; i < nr; i++) {
			struct zd_change_touch t = v[i];

			for (k = i; k >= gap && v[k - gap].start > t.start; k -= gap)
				v[k] = v[k - gap];
			v[k] = t;
		}
}

uint32_t zd_change_group(struct zd_change *changes, uint32_t i)
{
	while (changes[i].group != i)
		i = changes[i].group = changes[changes[i].group].group;
	return i;
}

static void join(struct zd_change *changes, uint32_t a, uint32_t b)
{
	a = zd_change_group(changes, a);
	b = zd_change_group(changes, b);
	if (a < b)
		changes[b].group = a;
	else
		changes[a].group = b;
}

void zd_changes_group(struct zd_change *changes, unsigned int nr_changes,
		      struct zd_change_touch *touch)
{
	unsigned int nr = 0, last = 0;

	for (uint32_t i = 0; i < nr_changes; i++) {
		struct zd_change *c = &changes[i];

		c->group = i;
		if (c->type == ZD_CHANGE_FORK)	/* touches all */
			touch[nr++] = (struct zd_change_touch){ 0, UINT64_MAX, i };
		else
			touch[nr++] = (struct zd_change_touch){ c->start, c->end, i };
		if (c->type == ZD_CHANGE_MOVE)
			touch[nr++] = (struct zd_change_touch){ c->to, c->to + zd_change_len(c),
								i };
	}
	sort_by_start(touch, nr);
	for (unsigned int i = 1; i < nr; i++) {
		if (touch[i].start < touch[last].end)
			join(changes, touch[last].change, touch[i].change);
		if (touch[i].end > touch[last].end)
			last = i;
	}
}
