/* SPDX-License-Identifier: MIT */
/*
 * Broken invariants: say where and in what state, then abort.  For what a
 * caller can get wrong use zd_warn_once() and -errno instead.
 */
#ifndef ZD_BASE_BUG_H
#define ZD_BASE_BUG_H

__attribute__((cold, noreturn, format(printf, 4, 5)))
void zd_bug(const char *file, int line, const char *cond, const char *fmt, ...);

/* ZD_BUG_ON(cond, "state %d", state) - abort with state if @cond. */
#define ZD_BUG_ON(cond, ...)						\
	do {								\
		if (__builtin_expect(!!(cond), 0))			\
			zd_bug(__FILE__, __LINE__, #cond, __VA_ARGS__);	\
	} while (0)

#endif
