/* SPDX-License-Identifier: MIT */
#include "base/time.h"
#include "base/trace.h"
#include "engine/stats.h"

void zd_stats_fault_end(struct zd_stats *stats, uint64_t addr, uint64_t start_ns)
{
	uint64_t ns = 0;

	if (start_ns) {
		ns = zd_now_ns() - start_ns;
		zd_hist_add(&stats->latency, ns, zd_stats_weight(stats));
	}
	ZD_PROBE2(fault_end, addr, ns);
}
