/* SPDX-License-Identifier: MIT */
/*
 * Messages: formatted on the stack, then one call of the sink or one write(2).
 *
 * The sink and its context belong together.  There are two places for them; the counter
 * says in which they are, and a change fills the other first.  A reader takes no
 * lock, so that a signal handler, and a child of a fork, can read: what was read is good if
 * the counter is still the same, since a place is filled again only after a change.
 *
 * Locks: sink_lock, between those that change it; the innermost.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <zonedev/log.h>

#include "base/bug.h"
#include "base/lock.h"
#include "base/rawsys.h"

#define LOG_PREFIX	"zonedev: "
#define LOG_MAX		1024	/* with the final newline or NUL */

static struct zd_mutex sink_lock;
static struct sink {
	zd_log_fn *fn;
	void *ctx;
} sinks[2];
static uint32_t sink_changes;

void zd_set_log(zd_log_fn *fn, void *ctx)
{
	uint32_t next;

	zd_mutex_lock(&sink_lock);
	next = sink_changes + 1;
	/* Relaxed: for a reader of the counter the counter's release orders these stores, and
	 * for a reader of these stores the fence orders the last change's counter. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&sinks[next % 2].fn, fn, __ATOMIC_RELAXED);
	__atomic_store_n(&sinks[next % 2].ctx, ctx, __ATOMIC_RELAXED);
	__atomic_store_n(&sink_changes, next, __ATOMIC_RELEASE);
	zd_mutex_unlock(&sink_lock);
}

static struct sink current_sink(void)
{
	struct sink s;
	uint32_t n;

	do {
		n = __atomic_load_n(&sink_changes, __ATOMIC_ACQUIRE);
		s.fn = __atomic_load_n(&sinks[n % 2].fn, __ATOMIC_RELAXED);
		s.ctx = __atomic_load_n(&sinks[n % 2].ctx, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);	/* pairs with the fence above */
	} while (n != __atomic_load_n(&sink_changes, __ATOMIC_RELAXED));
	return s;
}

/* @line begins with LOG_PREFIX and has room for one byte more. */
static void write_line(char *line)
{
	size_t len = strlen(line);

	line[len++] = '\n';
	/* A failure can't be reported anywhere.  Not by write(), where a thread that is
	 * cancelled would end, with the locks that it holds. */
	raw_syscall(SYS_write, STDERR_FILENO, (long)line, len, 0, 0, 0);
}

static void emit(enum zd_log_level level, char *line, bool always)
{
	struct sink s = current_sink();

	if (s.fn)
		s.fn(level, line + strlen(LOG_PREFIX), s.ctx);
	if (always || (!s.fn && level <= ZD_LOG_WARN))
		write_line(line);
}

void zd_vlog(enum zd_log_level level, const char *fmt, va_list ap)
{
	char line[sizeof(LOG_PREFIX) + LOG_MAX] = LOG_PREFIX;
	int saved = errno;

	if (level < ZD_LOG_ERR || level > ZD_LOG_DEBUG)
		level = ZD_LOG_WARN;
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
	/* On stderr even when there is a sink, which may not get to flush. */
	emit(ZD_LOG_ERR, buf, true);
	abort();
}
