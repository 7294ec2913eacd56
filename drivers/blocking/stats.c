/* SPDX-License-Identifier: MIT */
/* What the adapter tells of itself, and the driver's own behind. */
#include "drivers/blocking/blocking.h"

struct list {
	struct zd_device_stat *stats;
	unsigned int nr, max;
};

static void add(struct list *list, const char *name, double value)
{
	if (list->nr < list->max)
		list->stats[list->nr] = (struct zd_device_stat){ name, value };
	list->nr++;
}

static void add_lane(struct list *list, const struct blocking_lane *lane, const char *const *names)
{
	add(list, names[0], lane->calls);
	add(list, names[1], lane->pages);
	add(list, names[2], lane->calls ? lane->total_ns / 1000.0 / lane->calls : 0);
	add(list, names[3], zd_hist_quantile(&lane->latency, 0.99) / 1000.0);
}

int zd_blocking_stats(struct zd_device *dev, struct zd_device_stat *stats, unsigned int nr)
{
	static const char *const reads[] = { "reads", "read_pages", "read_us", "read_p99_us" };
	static const char *const writes[] = { "writes", "write_pages", "write_us", "write_p99_us" };
	struct blocking *b = to_blocking(dev);
	struct list list = { .stats = stats, .max = nr };
	unsigned int running = 0;
	int own = 0;

	zd_mutex_lock(&b->lock);
	for (unsigned int i = 0; i < b->attr.threads; i++)
		running += b->worker[i].work != WORK_NONE;
	add_lane(&list, &b->lane[LANE_READ], reads);
	add_lane(&list, &b->lane[LANE_WRITE], writes);
	add(&list, "discard_pages", b->discard_pages);
	add(&list, "queued", b->lane[LANE_READ].queued + b->lane[LANE_WRITE].queued);
	add(&list, "running", running);
	add(&list, "late", b->late);
	add(&list, "retries", b->retries);
	add(&list, "errors", b->errors);
	add(&list, "bad_pages", __atomic_load_n(&b->bad_pages, __ATOMIC_RELAXED));
	zd_mutex_unlock(&b->lock);
	if (b->ops.stats) {
		unsigned int at = list.nr < nr ? list.nr : nr;

		own = b->ops.stats(b->attr.priv, stats + at, nr - at);
	}
	return list.nr + (own > 0 ? own : 0);
}
