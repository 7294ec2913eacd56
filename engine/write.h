/* SPDX-License-Identifier: MIT */
/*
 * The contents of a batch, which are in its buffer, go to a device.
 *
 * Mechanism.  Pages of step ZD_MIG_WRITE are submitted to mig->dev, those that have a page
 * there.  What the device doesn't take (it had no page left, answers -ENOSPC for a page alone,
 * or fails) goes on to the next tier out of the same buffer, if the batch may (mig->pass_on);
 * mig->dev, and the hold of its pagemap, are that tier's then.  A page becomes
 * ZD_MIG_STORE when a device has it, and ZD_MIG_BACK when none takes it, with the last
 * device's error; mig->land() is called each time some have.
 *
 * Invariant.  All device pages that a batch owns are of mig->dev: what one device doesn't
 * take is given back to it, and what it took has landed, before the batch turns to another.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_WRITE_H
#define ZD_ENGINE_WRITE_H

#include "engine/mig.h"

/* May free @mig. */
void zd_mig_write(struct zd_mig *mig);

/* The batch owns the device page of @p, if there is one, no more. */
void zd_mig_give_back(struct zd_mig *mig, struct zd_mig_page *p);

/* Does an address space still have the page? */
bool zd_mig_has_owner(const struct zd_mig_page *p);

#endif
