/* SPDX-License-Identifier: MIT */
/*
 * The guard: if the server is killed, the processes that it serves must be killed, too.
 *
 * The death of a server closes its userfaultfds, and pages that are away would read as
 * zeros.  So there is a small process beside the server that kills every process of the
 * family (family.h) when the server dies.  Until the guard has done so no userfaultfd may
 * be closed: the guard shares the server's descriptor table, or a keeper (keeper.h) holds
 * the descriptors, which also covers the death of both.
 *
 * A server has two guards, so that one event doesn't kill both: the OOM killer, for one,
 * kills all processes that share an address space.  At least one guard has an address
 * space of its own, and at least one shares the descriptor table, since the keeper gets a
 * new descriptor only a moment after the server.
 */
#ifndef ZD_GUARD_GUARD_H
#define ZD_GUARD_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

enum zd_guard_how {
	/* A copy of the caller, which has nothing registered with a userfaultfd
	 * (a copy would be a fork, whose event the caller might have to read). */
	ZD_GUARD_COPY,
	/* A program of its own, not a child of the caller, without descriptors: of use where
	 * there is a keeper. */
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
	bool orphan;		/* not a child: it can't be waited for */
};

/* @mark: the memfd's name.  Called by the server's thread: the guard watches the thread
 * that started it.  Blocks until the guard runs.  0 or -errno. */
int zd_guard_start(struct zd_guard *guard, const char *mark, enum zd_guard_how how);
/* Before the server ends in good order, or when the guard has died.  Nothing happens if
 * there is none.  Blocks until the guard has ended. */
void zd_guard_stop(struct zd_guard *guard);

#endif
