/* SPDX-License-Identifier: MIT */
#include "drivers/explain.h"

#include <stdarg.h>
#include <stdio.h>

int zd_explain(char *err, size_t errlen, int rc, const char *fmt, ...)
{
	va_list ap;

	if (err && errlen) {
		va_start(ap, fmt);
		vsnprintf(err, errlen, fmt, ap);
		va_end(ap);
	}
	return rc;
}
