/* SPDX-License-Identifier: MIT */
/* (f) zonedev: a free page counts 0.  These are the library's inline functions. */
#ifndef LAB_F_H
#define LAB_F_H

#ifdef LAB_AS_LINUX	/* kmodel.h; here without zonedev/page.h's hint */
#define __builtin_expect_with_probability(cond, value, probability)	(cond)
#endif
#include <zonedev/page.h>

#define LAB_TITLE	"zonedev: free pages count 0"

typedef struct zd_page lab_page;

static inline void lab_get(lab_page *page)
{
	zd_get_page(page);
}

static inline void lab_put(lab_page *page)
{
	zd_put_page(page);
}

static inline bool lab_lookup_page(lab_page *page)
{
	return zd_try_get_page(page);
}

/* zonedev's walk looks no pagemap up: hmm/gup.c. */
static inline bool lab_lookup(lab_page *page)
{
	return lab_lookup_page(page);
}

#endif
