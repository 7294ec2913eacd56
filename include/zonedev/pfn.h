/* SPDX-License-Identifier: MIT */
/* Page numbers. */
#ifndef ZONEDEV_PFN_H
#define ZONEDEV_PFN_H

#include <stdint.h>

/* A page number.  Always < 2^ZD_PFN_BITS (256 TiB of pages).  0 is never
 * handed out, so it may stand for "no page". */
typedef uint64_t zd_pfn_t;
#define ZD_PFN_BITS	36

#endif
