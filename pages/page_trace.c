/* SPDX-License-Identifier: MIT */
/*
 * The probes of gets and puts.  Gets and puts are inline in zonedev/page.h,
 * and a probe in them would be a NOP and a note in every caller, for arguments
 * that the caller would have to keep at hand; what such things cost is the lesson of the
 * 2017 thread (docs/thread.md).  So only a build with -DZD_PAGE_TRACE (meson:
 * -Dpage_trace=true) has them: there each get and put has a static branch, and behind it a
 * call of the functions below.
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

/* Works before and after the constructors that tell of the modules' branches. */
__attribute__((constructor)) static void page_trace_init(void)
{
	const char *env = getenv("ZONEDEV_PAGE_TRACE");

	/* A failure is in the log already. */
	if (env && !strcmp(env, "1"))
		(void)zd_static_branch_inc(&zd_page_trace_key);
}
