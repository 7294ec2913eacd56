/* SPDX-License-Identifier: MIT */
/* All device pages of a range come home, step by step. */
#ifndef ZD_ENGINE_HOMING_H
#define ZD_ENGINE_HOMING_H

#include "engine/mm.h"

/* What a step of a longer work says; the server's thread steps it between two turns. */
enum zd_cmd_result {
	ZD_CMD_DONE,
	ZD_CMD_AGAIN,	/* more to do right away, after one look at the messages */
	ZD_CMD_WAIT,	/* something must happen first */
};

/* Bringing [start, end) of an address space home, step by step: zero the struct, set
 * start and end, step until DONE.  *rc says how it ended: 0, -ENOMEM, or another error of
 * pages that the device could not read, which stay there (all others are home). */
struct zd_homing {
	uint64_t start, end;
	const struct zd_device *dev;	/* whose pages; NULL: of any device */
	zd_pfn_t first;		/* of that device, pages from this one on; 0: all */
	bool last;	/* pages that can't be read are lost: no later homing will come */
	int error;	/* so far */
	uint64_t pos;
	uint64_t errors;	/* mm->nr_home_errors when it began */
	unsigned int passes;	/* with errors */
	bool begun;
	bool pending;	/* some pages were in flight: look again */
};
enum zd_cmd_result zd_homing_step(struct zd_mm *mm, struct zd_homing *h, int *rc);

#endif
