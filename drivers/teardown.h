/* SPDX-License-Identifier: MIT */
/* Steps by which a region is taken down, as actions of a struct zd_devm. */
#ifndef ZD_DRIVERS_TEARDOWN_H
#define ZD_DRIVERS_TEARDOWN_H

#include "zonedev/devm.h"

/*
 * zd_teardown_add - register @steps[0], then @steps[1]...: @steps[nr - 1] is taken first.
 *
 * None makes sense without the others.  So when they can't all be registered (-ENOMEM) none is,
 * and they have been taken.  Returns 0 or -ENOMEM.  May block, as the steps do.
 */
int zd_teardown_add(struct zd_devm *devm, zd_devm_action_t *const *steps, int nr, void *data);

#endif
