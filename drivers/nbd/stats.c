/* SPDX-License-Identifier: MIT */
/*
 * drivers/nbd/stats.c - what the device tells of itself.
 *
 * Latencies of reads are counted in buckets of nanoseconds, eight to a power of two, so that a
 * percentile is right within an eighth.
 */
#include "drivers/nbd/nbd.h"

#define SUB_BITS	3u
#define NS_PER_US	1000.0

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int log, i;

	if (ns < 1u << SUB_BITS)
		return ns;
	log = 63 - __builtin_clzll(ns);
	i = ((log - SUB_BITS + 1) << SUB_BITS) | (ns >> (log - SUB_BITS) & ((1u << SUB_BITS) - 1));
	return i < ZD_NBD_LATENCY_BUCKETS ? i : ZD_NBD_LATENCY_BUCKETS - 1;
}

/* The least number of nanoseconds that a bucket counts. */
static uint64_t bucket_ns(unsigned int i)
{
	unsigned int octave = i >> SUB_BITS, sub = i & ((1u << SUB_BITS) - 1);

	return octave ? (uint64_t)((1u << SUB_BITS) | sub) << (octave - 1) : sub;
}

void zd_nbd_count_latency(struct zd_nbd *nbd, uint64_t ns)
{
	zd_nbd_count(&nbd->stats.latency[bucket_of(ns)], 1);
}

static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Microseconds that @percent of the reads took at most. */
static double latency_us(const struct zd_nbd *nbd, unsigned int percent)
{
	uint64_t counts[ZD_NBD_LATENCY_BUCKETS], all = 0, sum = 0;

	for (unsigned int i = 0; i < ZD_NBD_LATENCY_BUCKETS; i++)
		all += counts[i] = load(&nbd->stats.latency[i]);
	for (unsigned int i = 0; i < ZD_NBD_LATENCY_BUCKETS && all; i++) {
		sum += counts[i];
		if (sum * 100 >= all * percent)
			return bucket_ns(i + 1) / NS_PER_US;
	}
	return 0;
}

int zd_nbd_stats(struct zd_device *dev, struct zd_device_stat *stats, unsigned int nr)
{
	const struct zd_nbd *nbd = zd_to_nbd(dev);
	const struct zd_nbd_stats *s = &nbd->stats;
	const struct zd_device_stat all[] = {
		{ "connections", load(&s->connections) },
		{ "commands", load(&s->commands) },
		{ "pages", load(&s->pages) },
		{ "in_flight", load(&s->in_flight) },
		{ "read_p50_us", latency_us(nbd, 50) },
		{ "read_p99_us", latency_us(nbd, 99) },
		{ "retries", load(&s->retries) },
		{ "reconnects", load(&s->reconnects) },
		{ "checksum_errors", load(&s->checksum_errors) },
		{ "trimmed_pages", load(&s->trimmed) },
		{ "retired_pages", load(&s->retired) },
	};
	const unsigned int have = sizeof(all) / sizeof(all[0]);

	for (unsigned int i = 0; i < nr && i < have; i++)
		stats[i] = all[i];
	return have;
}
