/* SPDX-License-Identifier: MIT */
/*
 * The guard: if the server is killed, whoever it serves must be.
 *
 * The death of a server closes its userfaultfds, and what is away would read as
 * zeros.  So there is a small process beside it, that kills every process of the
 * family (family.h) when the server dies.  Until it has done so nothing may be
 * closed: the guard shares the server's descriptor table, or a keeper
 * (keeper.h) holds the descriptors, which also covers the death of both.
 *
 * A server has two guards, so that no chance takes both: the OOM killer, for one,
 * takes all processes that share an address space.  One at least has an address
 * space of its own, and one at least shares the descriptor table: the keeper gets a
 * descriptor a moment after it has been read.
 */
#ifndef ZD_GUARD_GUARD_H
#define ZD_GUARD_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

enum zd_guard_how {
	/* A copy of the caller, which has nothing registered with a userfaultfd
	 * (a copy would be a fork, whose event the caller might have to read). */
	ZD_GUARD_COPY,
	/* A program of its own, nobody's child, without descriptors: of use where there is
	 * a keeper. */
	ZD_GUARD_PROGRAM,
	/* Shares the caller's memory. */
	ZD_GUARD_SHARED,
};

struct zd_guard {
	pid_t pid;		/* 0: none */
	pid_t parent;
	int pidfd;		/* the parent's */
	int own_pidfd;		/* the guard's: readable when it is dead */
	void *stack;
	char mark[64];
	char pidfd_text[16];
	int image, failed;
	bool orphan;		/* not ours to be waited for */
};

/* @mark: the memfd's name.  Called by the server's thread, whose death is the
 * server's.  0 or -errno. */
int zd_guard_start(struct zd_guard *guard, const char *mark, enum zd_guard_how how);
/* Before a death in good order, or when the guard has died.  Nothing happens if
 * there is none. */
void zd_guard_stop(struct zd_guard *guard);

#endif
