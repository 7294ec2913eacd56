/* SPDX-License-Identifier: MIT */
/* What page.c and pagemap.c tell the record of references, and what they and its reports
 * ask. */
#ifndef ZD_PAGES_PAGE_OWNER_H
#define ZD_PAGES_PAGE_OWNER_H

#include <stdbool.h>

#include <zonedev/page_owner.h>

#ifdef ZD_PAGE_OWNER

/* The last reference to @pfn was put. */
void __zd_page_owner_freed(zd_pfn_t pfn);
/* The pagemap whose first page is @pfn isn't held any more. */
void __zd_page_owner_released(zd_pfn_t pfn);
/* page_owner_report.c: log whose references a removal of @pgmap waits for. */
void __zd_page_owner_log(const struct zd_pagemap *pgmap);
/* @fn for each reference to @pfn that is recorded, or with @of_pagemap for each hold of the
 * pagemap whose first page that is; the newest first.  With a lock: @fn does nothing that
 * gets or puts a page. */
void zd_page_owner_for_each(zd_pfn_t pfn, bool of_pagemap,
			    void (*fn)(const struct zd_page_owner *one, void *ctx), void *ctx);

#define ZD_PAGE_OWNER_TELL(what, arg)						\
	do {									\
		if (zd_static_branch_unlikely(zd_page_owner_key))		\
			__zd_page_owner_##what(arg);				\
	} while (0)

#else

#define ZD_PAGE_OWNER_TELL(what, arg) ((void)(arg))

#endif
#endif
