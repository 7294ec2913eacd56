/* SPDX-License-Identifier: MIT */
/* Which devices, and which memory, may meet in a program that shares its malloc with them. */
#ifndef ZD_HMM_MALLOC_RULE_H
#define ZD_HMM_MALLOC_RULE_H

#include "hmm/hmm.h"

/*
 * zd_malloc_rule - what of [start, end) must not go to @dev, into @stay (zeroed;
 * zd_ranges_destroy() it, also on failure).  *@strict: what zd_malloc_rule_changed() needs.
 * 0; -EOPNOTSUPP, and a line in the log: nothing may go to @dev, or to any device; -ENOMEM; or
 * the error of bringing pages home.  A thread of the program, without locks: the call mallocs, and
 * touches memory that may be managed; blocks.
 */
int zd_malloc_rule(struct zd_hmm *hmm, uint64_t start, uint64_t end, const struct zd_device *dev,
		   struct zd_ranges *stay, bool *strict);

/* Was the rule made stricter since @strict?  Then ask it again.  The server's thread. */
bool zd_malloc_rule_changed(const struct zd_hmm *hmm, bool strict);

#endif
