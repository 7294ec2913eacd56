/* SPDX-License-Identifier: MIT */
#include "base/histogram.h"

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int log, step, b;

	if (ns < ZD_HIST_STEPS)
		return ns;
	log = 63 - __builtin_clzll(ns);
	step = (ns >> (log - 3)) & (ZD_HIST_STEPS - 1);
	b = (log - 2) * ZD_HIST_STEPS + step;
	return b < ZD_HIST_BUCKETS ? b : ZD_HIST_BUCKETS - 1;
}

static uint64_t upper_edge(unsigned int b)
{
	unsigned int log = b / ZD_HIST_STEPS + 2;

	if (b < ZD_HIST_STEPS)
		return b;
	return (UINT64_C(1) << log) + (((uint64_t)(b % ZD_HIST_STEPS) + 1) << (log - 3)) - 1;
}

void zd_hist_add(struct zd_histogram *hist, uint64_t ns, unsigned int weight)
{
	hist->bucket[bucket_of(ns)] += weight;
	hist->count += weight;
	if (ns > hist->max)
		hist->max = ns;
}

uint64_t zd_hist_quantile(const struct zd_histogram *hist, double q)
{
	uint64_t rank = q * hist->count, seen = 0;

	if (!hist->count)
		return 0;
	if (rank >= hist->count)
		rank = hist->count - 1;
	for (unsigned int b = 0; b < ZD_HIST_BUCKETS; b++) {
		seen += hist->bucket[b];
		if (seen > rank)
			return upper_edge(b) < hist->max ? upper_edge(b) : hist->max;
	}
	return hist->max;
}
