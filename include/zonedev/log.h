/* SPDX-License-Identifier: MIT */
/*
 * zonedev/log.h - what zonedev has to say.
 *
 * By default warnings and errors go to stderr, one write(2) each, prefixed
 * "zonedev: ".  Nothing here allocates memory.
 */
#ifndef ZONEDEV_LOG_H
#define ZONEDEV_LOG_H

#include <stdarg.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* 0 is no level: what is logged with it, or with an unknown one, is a warning. */
enum zd_log_level {
	ZD_LOG_ERR = 1,
	ZD_LOG_WARN,
	ZD_LOG_INFO,
	ZD_LOG_DEBUG,
};

/*
 * A sink of messages.  @msg: one line, without prefix and newline, at most 1023
 * bytes, valid during the call.  The sink is called in any thread, the server's
 * included, in several at a time: it must follow the rules of a driver's callback
 * (zonedev/device.h).
 */
typedef void (zd_log_fn)(enum zd_log_level level, const char *msg, void *ctx);

/*
 * zd_set_log - send messages of every level to @fn; NULL: back to the default.
 * Another thread may still be in the previous function when this returns.
 * Context: any thread, fork-safe.
 */
void zd_set_log(zd_log_fn *fn, void *ctx);

/* zd_log, zd_vlog - give a message to the sink.  Errno stays as it was; longer messages are cut.
 * Context: signal-safe as far as the sink and vsnprintf(3) are, fork-safe. */
__attribute__((format(printf, 2, 3)))
void zd_log(enum zd_log_level level, const char *fmt, ...);
__attribute__((format(printf, 2, 0)))
void zd_vlog(enum zd_log_level level, const char *fmt, va_list ap);

/* zd_warn_once - a warning, the first time that this line is reached.  Context: as zd_log(). */
#define zd_warn_once(...)							\
	do {									\
		static uint8_t zd_warned__;					\
		if (!__atomic_exchange_n(&zd_warned__, 1, __ATOMIC_RELAXED))	\
			zd_log(ZD_LOG_WARN, __VA_ARGS__);			\
	} while (0)

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
