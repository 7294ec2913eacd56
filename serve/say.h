/* SPDX-License-Identifier: MIT */
/* What a server of a region tells its user: nbdkit has a way of its own (plugin.c), and
 * `zonedev serve` has standard error (nbd/server.c). */
#ifndef ZD_SERVE_SAY_H
#define ZD_SERVE_SAY_H

/* server_say - one line.  Any thread. */
void server_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
