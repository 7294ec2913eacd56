/* SPDX-License-Identifier: MIT */
/* A turn of the server. */
#ifndef ZD_ENGINE_POLL_H
#define ZD_ENGINE_POLL_H

#include "engine/server_types.h"

/*
 * Wait at most @timeout_ms (-1: for ever) for something to happen, handle all of it.
 * Returns the number of sources that were ready, or -errno.  The server's thread.
 *
 * Sources may be removed, and address spaces destroyed, only between two calls
 * of this function: what epoll has reported is handled in it.
 */
int zd_server_poll(struct zd_server *server, int timeout_ms);

#endif
