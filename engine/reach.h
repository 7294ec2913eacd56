/* SPDX-License-Identifier: MIT */
/*
 * Whether a device answers.
 *
 * Mechanism.  Each batch is counted when it goes to the device and when it comes back.  Two
 * things follow from that:
 *
 *	away	a page of the last batch came back with -EAGAIN: the device can't be reached
 *		now.  What has to be asked again waits for a pause first (zd_reach_pause_ns()),
 *		which grows with the time that the device has been away.
 *	stalled	pages are on their way to the device, and for STALL_NS none has arrived.
 *		Faults don't wait any more for room that such a device would make (evict.c).
 *
 * The log tells when a device goes away and when it is back; a device that is away for a moment isn't
 * worth a line.  That it doesn't answer at all is told by silence.h.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_REACH_H
#define ZD_ENGINE_REACH_H

#include <stdbool.h>
#include <stdint.h>
#include "zonedev/device.h"

/* Zero: reached, with nothing on its way. */
struct zd_reach {
	/* what the device has, by direction: batches, and the pages in them */
	unsigned int batches[ZD_FROM_DEVICE + 1];
	uint64_t pages[ZD_FROM_DEVICE + 1];
	/* when such a batch came back, or the first one was sent */
	uint64_t heard_ns[ZD_FROM_DEVICE + 1];
	uint64_t away_since_ns;	/* 0: reached */
	uint64_t ask_after_ns;	/* away: nothing is evicted to it before */
	bool away_logged;
};

/* @io goes to the device next; it has come back. */
void zd_reach_sent(struct zd_reach *reach, const struct zd_device_io *io);
void zd_reach_answered(struct zd_reach *reach, const struct zd_device *dev,
		       const struct zd_device_io *io);

/* How long to wait before a device that is away is asked again for the same page. */
uint64_t zd_reach_pause_ns(const struct zd_reach *reach, uint64_t now_ns);

/* A device that is away: is the pause over? */
static inline bool zd_reach_may_ask(const struct zd_reach *reach, uint64_t now_ns)
{
	return !reach->away_since_ns || now_ns >= reach->ask_after_ns;
}

/* Are pages on their way to it that are likely to arrive soon? */
bool zd_reach_is_writing(const struct zd_reach *reach, uint64_t now_ns);

#endif
