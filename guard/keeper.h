/* SPDX-License-Identifier: MIT */
/*
 * The keeper: userfaultfds that stay open whichever processes are killed.
 *
 * When the last descriptor of a userfaultfd is closed, what is missing from its
 * address space reads as zeros.  Every process that holds the descriptors can be
 * killed, all of them at once.  But a mapping holds its file, a mapping is
 * inherited by fork, and the file of an io_uring holds the files that are
 * registered with it.  So each process of the family maps one page of a ring
 * that is never used for I/O, and every userfaultfd is registered there: the userfaultfds
 * are open for as long as a process lives whose pages may be away.  A thread that needs
 * one of those pages then waits, for ever if no guard is left to kill it.
 *
 * Any thread; one at a time.
 */
#ifndef ZD_GUARD_KEEPER_H
#define ZD_GUARD_KEEPER_H

struct zd_keeper {
	int fd;			/* -1: none (io_uring is forbidden, say) */
	unsigned int nr;	/* descriptors below can be kept */
};

#define ZD_KEEPER_BYTES	4096	/* to be mapped: shared, from offset 0 */

/* 0 or -errno; then there is none, and the other calls do nothing. */
int zd_keeper_open(struct zd_keeper *keeper);
void zd_keeper_close(struct zd_keeper *keeper);

/* Keep @fd from now on; no longer.  Any descriptor of the caller.  @keeper may be NULL.  0 or
 * -errno. */
int zd_keeper_add(struct zd_keeper *keeper, int fd);
void zd_keeper_drop(struct zd_keeper *keeper, int fd);

#endif
