/* SPDX-License-Identifier: MIT */
/* (b) v4.5 with the generic get_user_pages_fast: the lookup takes the page's count
 * alone, and the put at the end drops the pagemap's reference, too. */
#define LAB_LOOKUP
#include "a.h"

#undef LAB_TITLE
#define LAB_TITLE	"v4.5 with generic GUP's lookup"

static inline bool lab_lookup_page(lab_page *page)
{
	return lab_count_inc_not_zero(page);
}
