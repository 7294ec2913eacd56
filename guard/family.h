/* SPDX-License-Identifier: MIT */
/*
 * The family of a server: every process that may have pages that are away.
 *
 * A family is known by its mark: a shared mapping of a memfd with a unique name, which
 * fork passes on and exec does not.  A process that has the name in its
 * /proc/PID/maps belongs; there is no list to keep, and a process made by a bare
 * clone() is found as well.
 *
 * All calls make system calls by instruction only and need no libc: they run in
 * processes that share another's memory, TLS included (the guard, the agent), and
 * in one that has no libc (guard_image.c).
 */
#ifndef ZD_GUARD_FAMILY_H
#define ZD_GUARD_FAMILY_H

/* A sanitizer would write what it records of these functions to another process's TLS. */
#define ZD_RAW_CODE __attribute__((no_sanitize_thread, no_sanitize_address))

/* Kill every process of the family but the caller's own; once, or until none is
 * found, for those that are forked meanwhile.  Returns how many were found. */
unsigned int zd_family_kill_once(const char *mark);
void zd_family_kill(const char *mark);

/* Wait for the end of the process @parent (@pidfd) or of that thread of it that
 * started this process, then kill the family.  SIGTERM is blocked. */
void zd_family_watch(const char *mark, int parent, int pidfd);
/* The same from any process, and only the end of the process of @pidfd counts. */
void zd_family_outlive(const char *mark, int pidfd);

/* Set the lowest OOM score that this process may have: the OOM killer shall take others. */
void zd_family_oom_protect(void);

#endif
