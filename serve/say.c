/* SPDX-License-Identifier: MIT */
#include <stdint.h>

#include "base/time.h"
#include "serve/say.h"

static server_say_fn *say_line;		/* constant once there are threads */

void server_say_by(server_say_fn *fn)
{
	say_line = fn;
}

void server_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_line(fmt, ap);
	va_end(ap);
}

/* Relaxed is enough: a line that is told twice, or a count that is told late, does no harm. */
void server_complain(const char *fmt, ...)
{
	static uint64_t last, left_out;
	uint64_t second = zd_now_ms() / 1000 + 1, before;
	va_list ap;

	if (__atomic_exchange_n(&last, second, __ATOMIC_RELAXED) == second) {
		__atomic_fetch_add(&left_out, 1, __ATOMIC_RELAXED);
		return;
	}
	before = __atomic_exchange_n(&left_out, 0, __ATOMIC_RELAXED);
	if (before)
		server_say("and %llu times more", (unsigned long long)before);
	va_start(ap, fmt);
	say_line(fmt, ap);
	va_end(ap);
}
