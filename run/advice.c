/* SPDX-License-Identifier: MIT */
/*
 * When a program does little but wait for pages that are away, the user is told so, once, with
 * the --ram that would have room for all that the program has now.
 */
#include "run/advice.h"
#include "run/run.h"
#include "run/tiers.h"
#include "zonedev/log.h"

#define WINDOW_NS	10000000000ull
#define WAKE_NS		20000	/* beside what is measured: the thread sleeps and wakes */

void advise(struct run *run, uint64_t now)
{
	const struct zd_mm_stats *c = &run->server.stats.c;
	uint64_t faults = c->faults_home - run->advice_faults, pages, waited;

	if (run->advised || now - run->advice_ns < WINDOW_NS)
		return;
	waited = faults * (zd_hist_quantile(&run->server.stats.latency, 0.5) + WAKE_NS);
	if (run->advice_ns && waited > (now - run->advice_ns) / 2) {
		pages = run->server.resident + tiers_live(run);
		zd_log(ZD_LOG_WARN,
		       "%s waits for pages most of the time (%llu a second): all that it "
		       "has now would fit with --ram %lluM",
		       run->opt.argv[0],
		       (unsigned long long)(faults * 1000000000 / (now - run->advice_ns)),
		       (unsigned long long)(pages / 256 + pages / 256 / 16 + 1));
		run->advised = true;
	}
	run->advice_ns = now;
	run->advice_faults = c->faults_home;
}
