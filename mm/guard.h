/* SPDX-License-Identifier: MIT */
/*
 * The guard: if the server is killed, whoever it serves must be.
 *
 * The death of a server closes its userfaultfds, and what is away would read as
 * zeros.  So a small process shares the server's descriptor table and memory: as
 * long as it lives, nothing is closed.  When the server dies it kills every
 * process of the family, and only then goes itself.
 *
 * The family is known by its mark: a shared mapping of a memfd with a unique
 * name, which fork passes on and exec does not.  Whoever has it in its
 * /proc/PID/maps may have pages that are away; nobody needs to keep a list, and
 * a process made by a bare clone() is found as well.
 */
#ifndef ZD_MM_GUARD_H
#define ZD_MM_GUARD_H

#include <sys/types.h>

struct zd_guard {
	pid_t pid;		/* 0: none */
	pid_t parent;
	int pidfd;
	void *stack;
	char mark[64];
};

/* @mark: the memfd's name.  Called by the server's thread, whose death is the
 * server's.  0 or -errno. */
int zd_guard_start(struct zd_guard *guard, const char *mark);
/* Before a death in good order.  Nothing happens if there is none. */
void zd_guard_stop(struct zd_guard *guard);

#endif
