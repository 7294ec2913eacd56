/* SPDX-License-Identifier: MIT */
/* (d) (c) and Jérôme's hook: a private page whose count goes from 2 to 1 is free,
 * and put looks for that. */
#define LAB_PUT
#include "c.h"

#undef LAB_TITLE
#define LAB_TITLE	"2 -> 1 hook in put, plain branch"

static inline void lab_put(lab_page *page)
{
	if (lab_unlikely(lab_is_private_page(page))) {
		lab_put_private_page(page);
		return;
	}
	if (lab_last(lab_count_dec_and_test(page)))
		lab_page_last_put(page);
}
