/* SPDX-License-Identifier: MIT */
/*
 * Devices that don't answer.
 *
 * A batch that its driver doesn't complete holds the threads that need its pages, which only the
 * driver can end.  So that nobody wonders why a program stands still, it is said when a device has
 * had a batch for ZD_SILENCE_NS, and again when it has answered.
 *
 * Context.  The server's thread; no call blocks.
 */
#ifndef ZD_ENGINE_SILENCE_H
#define ZD_ENGINE_SILENCE_H

#include "engine/mig.h"

#define ZD_SILENCE_NS	10000000000ull
#define ZD_SILENCE_MS	10000

/* A batch is handed to its driver, mig->asked's; call it before ->submit. */
void zd_silence_begin(struct zd_mig *mig);
/* The driver has completed it. */
void zd_silence_end(struct zd_mig *mig);
/* At each turn of the server: say what there is to be said. */
void zd_silence_check(struct zd_server *server);
/* Are there batches in flight, and each with a device that doesn't answer, as was said?  A server
 * whose programs have ended doesn't wait for these. */
bool zd_server_is_silent(struct zd_server *server);

#endif
