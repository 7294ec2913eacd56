/* SPDX-License-Identifier: MIT */
/*
 * The probes of gets and puts.  Those functions are inline in zonedev/page.h,
 * and a probe in them would be a NOP and a note in every caller, for arguments
 * that the caller would have to keep at hand: the thread's lesson was what such
 * things cost.  So they are not there, unless a build asks for it with
 * -DZD_PAGE_TRACE (meson: -Dpage_trace=true): then each get and put has a static
 * branch, and behind it a call of these.
 */
#include <stdlib.h>
#include <string.h>

#include <zonedev/log.h>
#include <zonedev/page.h>
#include <zonedev/static_key.h>

#include "base/trace.h"

ZD_DEFINE_STATIC_KEY(zd_page_trace_key);

void __zd_page_trace_get(const struct zd_page *page, uint32_t nr)
{
	ZD_PROBE3(page_ref_get, zd_page_to_pfn(page), zd_page_count(page), nr);
}

void __zd_page_trace_put(const struct zd_page *page, uint32_t nr)
{
	ZD_PROBE3(page_ref_put, zd_page_to_pfn(page), zd_page_count(page), nr);
}

/* After the modules' constructors or before: both work. */
__attribute__((constructor)) static void page_trace_init(void)
{
	const char *env = getenv("ZONEDEV_PAGE_TRACE");

	/* What enabling has to say, it says. */
	if (env && !strcmp(env, "1"))
		(void)zd_static_branch_inc(&zd_page_trace_key);
}
