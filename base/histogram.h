/* SPDX-License-Identifier: MIT */
/* A histogram of times.  Nothing is locked: who writes while another thread reads is the
 * user's affair. */
#ifndef ZD_BASE_HISTOGRAM_H
#define ZD_BASE_HISTOGRAM_H

#include <stdint.h>

/* By size: 8 steps to each power of two of nanoseconds. */
#define ZD_HIST_STEPS	8
#define ZD_HIST_BUCKETS	(40 * ZD_HIST_STEPS)

struct zd_histogram {
	uint64_t count;
	uint64_t max;
	uint64_t bucket[ZD_HIST_BUCKETS];
};

/* A value that stands for @weight of its like. */
void zd_hist_add(struct zd_histogram *hist, uint64_t ns, unsigned int weight);
/* @q in 0..1; the upper edge of the bucket it falls in, 0 if empty. */
uint64_t zd_hist_quantile(const struct zd_histogram *hist, double q);

#endif
