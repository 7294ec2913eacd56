/* SPDX-License-Identifier: MIT */
/*
 * How pages leave an address space: UFFDIO_MOVE into staging.
 *
 * Only the process itself may MOVE its pages.  In library use the server is
 * part of it (mover_self.c); under `zonedev run` a small agent in the program
 * does it on the server's behalf (run/mover_agent.c).  Both move through the
 * userfaultfd that carries the events, because then the kernel answers EAGAIN
 * between an unmap, remap or fork and the reading of its event: an address that
 * was unmapped and mapped anew can't lose its new pages.
 *
 * From the reading of an event to the end of its processing the kernel no
 * longer refuses.  So reading events and moving pages exclude each other:
 * ->read_begin and ->read_end bracket the reading, and ->cancel, called in
 * between, stops the moves that the server asked for before it knew of the event.
 *
 * All are called by the server's thread, and none blocks but ->destroy.
 */
#ifndef ZD_ENGINE_MOVER_H
#define ZD_ENGINE_MOVER_H

#include <stdbool.h>
#include <stdint.h>

struct zd_mm;
struct zd_mig;

#define ZD_STAGING_SLOTS	512	/* pages; one 2 MiB-aligned huge page */
#define ZD_STAGING_BYTES	(ZD_STAGING_SLOTS * 4096UL)

struct zd_mover_ops {
	/*
	 * Move the pages of @mig to staging slots 0 .. nr - 1; page i gets
	 * error 0 or -errno.  Calls zd_out_moved(mig) when all are done, now
	 * or later.  One batch at a time.  -errno: nothing was started.
	 */
	int (*start)(struct zd_mm *mm, struct zd_mig *mig);
	/* Pages that have been moved so far get error 0.  Only between
	 * read_begin and read_end. */
	void (*progress)(struct zd_mm *mm, struct zd_mig *mig);
	/* Pages not moved yet get -ECANCELED; those moved have error 0 now.
	 * Only between read_begin and read_end. */
	void (*cancel)(struct zd_mm *mm, struct zd_mig *mig);
	/* Copy @nr slots, slot[i] to dst[i]; zero[i]: that page is all zeros.
	 * 0; -EFAULT: a dst[i] is a device's memory and failed, and nothing is known of
	 * any of the copies; another -errno: the process died. */
	int (*fetch)(struct zd_mm *mm, unsigned int nr, const uint16_t *slot, void *const *dst,
		     bool *zero);
	/* The slots of the last request are no longer needed. */
	void (*release)(struct zd_mm *mm);
	/* False: a MOVE is running; come back. */
	bool (*read_begin)(struct zd_mm *mm);
	void (*read_end)(struct zd_mm *mm);
	void (*destroy)(struct zd_mm *mm);
};

#endif
