/* SPDX-License-Identifier: MIT */
/* (e) (d) behind Dan's static branch: a NOP until a device shows up. */
#define LAB_PUT
#include "c.h"
#include <zonedev/static_key.h>

#undef LAB_TITLE
#define LAB_TITLE	"2 -> 1 hook in put, static key"
#define LAB_KEY		1

ZD_DECLARE_STATIC_KEY(lab_private_key);

static inline void lab_put(lab_page *page)
{
	if (zd_static_branch_unlikely(lab_private_key) && lab_is_private_page(page)) {
		lab_put_private_page(page);
		return;
	}
	if (lab_last(lab_count_dec_and_test(page)))
		lab_page_last_put(page);
}
