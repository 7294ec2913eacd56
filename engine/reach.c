/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/time.h"
#include "engine/reach.h"
#include "zonedev/log.h"

#define PAUSE_MIN_NS	1000000ull
#define PAUSE_MAX_NS	100000000ull
#define PAUSE_SHARE	8	/* of the time that the device has been away */
#define STALL_NS	500000000ull
#define AWAY_LOG_NS	100000000ull

void zd_reach_sent(struct zd_reach *reach, const struct zd_device_io *io)
{
	if (!reach->batches[io->dir]++)
		reach->heard_ns[io->dir] = zd_now_ns();
	reach->pages[io->dir] += io->nr;
}

uint64_t zd_reach_pause_ns(const struct zd_reach *reach, uint64_t now_ns)
{
	uint64_t pause = reach->away_since_ns ? (now_ns - reach->away_since_ns) / PAUSE_SHARE : 0;

	if (pause < PAUSE_MIN_NS)
		return PAUSE_MIN_NS;
	return pause < PAUSE_MAX_NS ? pause : PAUSE_MAX_NS;
}

static void is_away(struct zd_reach *reach, const struct zd_device *dev, uint64_t now)
{
	if (!reach->away_since_ns)
		reach->away_since_ns = now;
	reach->ask_after_ns = now + zd_reach_pause_ns(reach, now);
	if (reach->away_logged || now - reach->away_since_ns < AWAY_LOG_NS)
		return;
	reach->away_logged = true;
	zd_log(ZD_LOG_WARN,
	       "%s: can't be reached: what is on it is waited for, other pages stay in RAM",
	       dev->name);
}

static void is_back(struct zd_reach *reach, const struct zd_device *dev, uint64_t now)
{
	if (reach->away_logged)
		zd_log(ZD_LOG_WARN, "%s: can be reached again, after %.1f s", dev->name,
		       (now - reach->away_since_ns) / 1e9);
	reach->away_logged = false;
	reach->away_since_ns = 0;
}

void zd_reach_answered(struct zd_reach *reach, const struct zd_device *dev,
		       const struct zd_device_io *io)
{
	bool again = false, some = false;
	uint64_t now = zd_now_ns();

	for (unsigned int i = 0; i < io->nr; i++) {
		again |= io->pages[i].error == -EAGAIN;
		some |= !io->pages[i].error;
	}
	/* an error for good tells nothing of whether the device is back */
	if (again)
		is_away(reach, dev, now);
	else if (some && reach->away_since_ns)
		is_back(reach, dev, now);
	reach->heard_ns[io->dir] = now;
	reach->batches[io->dir]--;
	reach->pages[io->dir] -= io->nr;
}

bool zd_reach_is_writing(const struct zd_reach *reach, uint64_t now_ns)
{
	return reach->pages[ZD_TO_DEVICE] && now_ns - reach->heard_ns[ZD_TO_DEVICE] < STALL_NS;
}
