/* SPDX-License-Identifier: MIT */
/* drivers/btt/page_sums.h - a sum of each page of map, owners and flog, as a region was closed.
 * The BTT is in use by no other thread. */
#ifndef ZD_DRIVERS_BTT_PAGE_SUMS_H
#define ZD_DRIVERS_BTT_PAGE_SUMS_H

#include "drivers/btt/btt.h"

uint64_t zd_btt_nr_pages(const struct zd_btt *btt);
/* Set a flag for each page that isn't as the region was closed, and how many there are.  0; 1:
 * there are no sums to tell by; -ENOMEM; -EIO: the file was cut. */
int zd_btt_bad_pages(struct zd_btt *btt, uint8_t *bad, uint64_t *nr_bad);
/* Store the sums, and set info.sums_sum.  0 or -errno. */
int zd_btt_put_sums(struct zd_btt *btt);

#endif
