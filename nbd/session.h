/* SPDX-License-Identifier: MIT */
/* nbd/session.h - a client as the protocol sees it: its stream, and what was agreed on. */
#ifndef ZD_NBD_SESSION_H
#define ZD_NBD_SESSION_H

#include <stdbool.h>

#include "nbd/stream.h"

struct nbd_session {
	struct nbd_stream stream;
	/* the handshake's; constant afterwards */
	bool structured;		/* replies may be in chunks */
	bool allocation;		/* the client may ask for base:allocation */
};

#endif
