/* SPDX-License-Identifier: MIT */
/*
 * Messages: formatted on the stack, then one call of the sink or one write(2).
 * The sink and its context change together under a lock that is never held
 * while the sink runs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zonedev/log.h>

#include "core/bug.h"
#include "core/lock.h"

#define LOG_PREFIX	"zonedev: "
#define LOG_MAX		1024	/* with the final newline or NUL */

static struct zd_mutex sink_lock;	/* innermost: nothing is taken under it */
static zd_log_fn *sink_fn;
static void *sink_ctx;

void zd_set_log(zd_log_fn *fn, void *ctx)
{
	zd_mutex_lock(&sink_lock);
	sink_fn = fn;
	sink_ctx = ctx;
	zd_mutex_unlock(&sink_lock);
}

/* @line begins with LOG_PREFIX and has room for one byte more. */
static void write_line(char *line)
{
	size_t len = strlen(line);

	line[len++] = '\n';
	/* Nowhere to report that stderr doesn't take it. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

static void emit(enum zd_log_level level, char *line, bool always)
{
	zd_log_fn *fn;
	void *ctx;

	zd_mutex_lock(&sink_lock);
	fn = sink_fn;
	ctx = sink_ctx;
	zd_mutex_unlock(&sink_lock);

	if (fn)
		fn(level, line + strlen(LOG_PREFIX), ctx);
	if (always || (!fn && level <= ZD_LOG_WARN))
		write_line(line);
}

void zd_vlog(enum zd_log_level level, const char *fmt, va_list ap)
{
	char line[sizeof(LOG_PREFIX) + LOG_MAX] = LOG_PREFIX;
	int saved = errno;

	vsnprintf(line + strlen(LOG_PREFIX), LOG_MAX, fmt, ap);
	emit(level, line, false);
	errno = saved;
}

void zd_log(enum zd_log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	zd_vlog(level, fmt, ap);
	va_end(ap);
}

void zd_bug(const char *file, int line, const char *cond, const char *fmt, ...)
{
	char buf[sizeof(LOG_PREFIX) + LOG_MAX] = LOG_PREFIX;
	char *p = buf + strlen(LOG_PREFIX);
	va_list ap;
	int n;

	n = snprintf(p, LOG_MAX, "BUG at %s:%d: %s: ", file, line, cond);
	if (n > 0 && n < LOG_MAX) {
		va_start(ap, fmt);
		vsnprintf(p + n, LOG_MAX - n, fmt, ap);
		va_end(ap);
	}
	/* On stderr even when there is a sink: it may not get to flush. */
	emit(ZD_LOG_ERR, buf, true);
	abort();
}
