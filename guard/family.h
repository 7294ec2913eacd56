/* SPDX-License-Identifier: MIT */
/*
 * The family of a server: every process that may have pages that are away.
 *
 * It is known by its mark: a shared mapping of a memfd with a unique name, which
 * fork passes on and exec does not.  A process that has the name in its
 * /proc/PID/maps belongs; nobody keeps a list, and a process made by a bare
 * clone() is found as well.
 *
 * All of it makes system calls by instruction only and needs no libc: it runs in
 * processes that share another's memory, TLS included (the guard, the agent), and
 * in one that has no libc (guard_image.c).
 */
#ifndef ZD_GUARD_FAMILY_H
#define ZD_GUARD_FAMILY_H

/* Neither may a sanitizer keep its books of these functions in another's TLS. */
#define ZD_RAW_CODE __attribute__((no_sanitize_thread, no_sanitize_address))

/* Kill every process of the family but the caller's own; once, or until none is
 * found, for those that are forked meanwhile.  Returns how many were found. */
unsigned int zd_family_kill_once(const char *mark);
void zd_family_kill(const char *mark);

/* Wait for the end of the process @parent (@pidfd) or of that thread of it that
 * started this process, then kill the family.  SIGTERM is blocked. */
void zd_family_watch(const char *mark, int parent, int pidfd);
/* The same by any process, for the end of the process alone. */
void zd_family_outlive(const char *mark, int pidfd);

/* The OOM killer shall take another: as low a score as this process may have. */
void zd_family_oom_protect(void);

#endif
