/* SPDX-License-Identifier: MIT */
/* (c) v4.12, the patch: one reference.  The page holds its pagemap while it
 * lives, and lets go in its last put. */
#include "kmodel.h"

#define LAB_TITLE	"v4.12: a single reference"
#define LAB_PAGES_HOLD	1

static inline void lab_get(lab_page *page)
{
	lab_count_inc(page);
}

#ifndef LAB_PUT
static inline void lab_put(lab_page *page)
{
	if (lab_last(lab_count_dec_and_test(page)))
		lab_page_last_put(page);
}
#endif

static inline bool lab_lookup_page(lab_page *page)
{
	return lab_count_inc_not_zero(page);
}
