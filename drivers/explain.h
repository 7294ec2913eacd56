/* SPDX-License-Identifier: MIT */
/* The line for the user that goes with a failure. */
#ifndef ZD_DRIVERS_EXPLAIN_H
#define ZD_DRIVERS_EXPLAIN_H

#include <stddef.h>

/*
 * zd_explain - write one line for the user, without prefix or newline, and return @rc, so that
 * a caller can end with it.  @err, @errlen: may be NULL, 0.  Any context.
 */
__attribute__((format(printf, 4, 5)))
int zd_explain(char *err, size_t errlen, int rc, const char *fmt, ...);

#endif
