/* SPDX-License-Identifier: MIT */
/* What the core tells the record of references, and asks of it. */
#ifndef ZD_PAGES_PAGE_OWNER_H
#define ZD_PAGES_PAGE_OWNER_H

#include <zonedev/page_owner.h>

#ifdef ZD_PAGE_OWNER

/* The last reference to @pfn was put. */
void __zd_page_owner_freed(zd_pfn_t pfn);
/* Nobody holds the pagemap at @pfn. */
void __zd_page_owner_released(zd_pfn_t pfn);
/* Log whose references a removal of @pgmap waits for. */
void __zd_page_owner_log(const struct zd_pagemap *pgmap);

#define ZD_PAGE_OWNER_TELL(what, arg)						\
	do {									\
		if (zd_static_branch_unlikely(zd_page_owner_key))		\
			__zd_page_owner_##what(arg);				\
	} while (0)

#else

#define ZD_PAGE_OWNER_TELL(what, arg) ((void)(arg))

#endif
#endif
