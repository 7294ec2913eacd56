/* SPDX-License-Identifier: MIT */
/* What the copies that may fault and their signal handler share. */
#ifndef ZD_BASE_FAULT_COPY_H
#define ZD_BASE_FAULT_COPY_H

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

/* Has this thread's SIGBUS unblocked, once: blocked, one by a fault kills. */
void zd_fault_unblock(void);

/* Was the thread in a copy routine?  Then it goes on at the fixup. */
bool zd_fault_fix_up(ucontext_t *uc, const siginfo_t *info);

#endif
