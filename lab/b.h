/* SPDX-License-Identifier: MIT */
/* (b) v4.5 with the generic get_user_pages_fast: it takes the page's count and
 * knows nothing of pagemaps, but the put at the end does. */
#define LAB_LOOKUP
#include "a.h"

#undef LAB_TITLE
#define LAB_TITLE	"v4.5 with generic GUP's lookup"

static inline bool lab_lookup(lab_page *page)
{
	return lab_count_inc_not_zero(page);
}
