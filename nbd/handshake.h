/* SPDX-License-Identifier: MIT */
/* nbd/handshake.h - what comes before the requests. */
#ifndef ZD_NBD_HANDSHAKE_H
#define ZD_NBD_HANDSHAKE_H

#include <stdbool.h>

struct nbd_session;

/* nbd_handshake - false: the client has come to no export, and is to go.  The receiving
 * thread; blocks as long as the client does, so the caller bounds the time. */
bool nbd_handshake(struct nbd_session *s);

#endif
