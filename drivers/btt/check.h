/* SPDX-License-Identifier: MIT */
/* drivers/btt/check.h - a BTT that no thread uses, examined and mended. */
#ifndef ZD_DRIVERS_BTT_CHECK_H
#define ZD_DRIVERS_BTT_CHECK_H

#include "drivers/btt/btt.h"

struct zd_btt_check;

/*
 * zd_btt_check - compare all of it with all of it, and say what is wrong.  @say gets each
 * finding as a line, may be NULL.  0; -errno.  Changes nothing.
 * zd_btt_check_apply - put right what can be, on the media, and mark as lost what can't: unless
 * zd_btt_check_is_hopeless().  0; -errno.
 *
 * zd_btt_check_is_damaged - is anything wrong that an interrupted request doesn't leave?
 * zd_btt_check_is_hopeless - and it can't be put right.
 * zd_btt_check_gen - the last generation there is after zd_btt_check_apply().
 */
int zd_btt_check(struct zd_btt *btt, void (*say)(void *arg, const char *line), void *arg,
		 struct zd_btt_check **out);
void zd_btt_check_free(struct zd_btt_check *c);
int zd_btt_check_apply(struct zd_btt_check *c);
bool zd_btt_check_is_damaged(const struct zd_btt_check *c);
bool zd_btt_check_is_hopeless(const struct zd_btt_check *c);
uint64_t zd_btt_check_nr_lost(const struct zd_btt_check *c);
uint64_t zd_btt_check_gen(const struct zd_btt_check *c);

#endif
