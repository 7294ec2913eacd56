/* SPDX-License-Identifier: MIT */
/* (a) v4.5: the page's count and the pagemap's, both, in every get and put. */
#include "kmodel.h"

#define LAB_TITLE	"v4.5: two references, tested inline"
#define LAB_PAGES_HOLD	0

static inline void lab_get(lab_page *page)
{
	lab_count_inc(page);
	if (lab_unlikely(lab_is_device_page(page)))
		lab_get_device_page(page);
}

static inline void lab_put(lab_page *page)
{
	if (lab_last(lab_count_dec_and_test(page)))
		lab_page_last_put(page);
	if (lab_unlikely(lab_is_device_page(page)))
		lab_put_device_page(page);
}

#ifndef LAB_LOOKUP
/* x86's own get_user_pages_fast(): get_page(). */
static inline bool lab_lookup_page(lab_page *page)
{
	lab_get(page);
	return true;
}
#endif
