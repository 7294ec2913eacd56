/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's two guards (guard/guard.h), each of which ends the program when the
 * supervisor is killed.  A guard that is killed itself is started again.  There are two so
 * that the death of one, by the OOM killer or by hand, leaves no moment in which the program
 * could read zeros for pages that are away.
 */
#ifndef ZD_RUN_GUARDS_H
#define ZD_RUN_GUARDS_H

#include "engine/server.h"
#include "guard/guard.h"

struct guards {
	struct zd_server *server;
	const char *mark;		/* of the family (guard/family.h) */
	struct run_guard {
		struct zd_guard guard;
		struct zd_source end;	/* readable when the guard has been killed */
	} guard[2];
};

/* In the thread that serves; both wait for a guard's start or end, a few ms. */

/* @mark stays the caller's.  0 or -errno: there is not even one. */
int guards_start(struct guards *all, struct zd_server *server, const char *mark);
void guards_stop(struct guards *all);

#endif
