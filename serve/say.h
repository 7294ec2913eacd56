/* SPDX-License-Identifier: MIT */
/*
 * serve/say.h - what a server of a region tells its user.
 *
 * Where a line goes is the server's affair, which hands its way in before anything is said:
 * nbdkit has a way of its own, and `zonedev serve` writes to standard error.
 */
#ifndef ZD_SERVE_SAY_H
#define ZD_SERVE_SAY_H

#include <stdarg.h>

/* Tells one line, which comes without a newline.  Any thread. */
typedef void server_say_fn(const char *fmt, va_list ap);

/* server_say_by - lines go to @fn from now on.  Before the first thread that says something. */
void server_say_by(server_say_fn *fn);

/* server_say - one line.  Any thread. */
void server_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * server_complain - one line about what a client brought about: at most one a second, which
 * says how many were left out before it.  Any thread.
 */
void server_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
