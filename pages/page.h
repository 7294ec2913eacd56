/* SPDX-License-Identifier: MIT */
/* What page.c tells of the thread that calls. */
#ifndef ZD_PAGES_PAGE_H
#define ZD_PAGES_PAGE_H

#include "base/tls.h"

/* How many page_free calls this thread is inside of: a removal would wait for them. */
extern ZD_TLS unsigned int zd_in_page_free;

#endif
