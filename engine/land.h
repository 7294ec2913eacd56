/* SPDX-License-Identifier: MIT */
/*
 * The end of each page of a batch on its way out.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_LAND_H
#define ZD_ENGINE_LAND_H

#include "engine/mig.h"

/* Steps are STORE, BACK or DONE: each page ends if it can now, and the
 * batch is freed when all have. */
void zd_out_land(struct zd_mig *mig);

/* One owner of @p, whose entry is at @addr of *@mm, gets the content back, and *@mm becomes NULL.
 * @wanted: a thread needs the page.  False: not now. */
bool zd_out_back_one(struct zd_mig *mig, const struct zd_mig_page *p, struct zd_mm **mm,
		     uint64_t addr, bool wanted);

/* The mover has refused: the page is where it was. */
void zd_out_refused(struct zd_mig *mig, struct zd_mig_page *p);
/* No owner is left, and the content is of no use. */
void zd_out_dropped(struct zd_mig *mig, struct zd_mig_page *p);
/* The content goes back where it was, for want of a device (@error) that may have it. */
void zd_out_send_back(struct zd_mig *mig, struct zd_mig_page *p, int error);
/* The content can't be had any more: an owner that lives on must not read zeros instead. */
void zd_out_lost(struct zd_mig *mig, struct zd_mig_page *p);

#endif
