/* SPDX-License-Identifier: MIT */
/* What the handler of SIGBUS asks the copies and the guards, and they of it. */
#ifndef ZD_BASE_FAULT_SIGBUS_H
#define ZD_BASE_FAULT_SIGBUS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* fault_copy.c: have this thread's SIGBUS unblocked, once: a blocked one that a fault raises
 * kills. */
void zd_fault_unblock(void);

/* fault_copy.c: was the thread in a copy routine?  Then it goes on at the routine's fixup. */
bool zd_fault_fix_up(ucontext_t *uc, const siginfo_t *info);

/* fault_guard.c: if a guard of this thread has @addr, go on there; else return. */
void zd_fault_jump_out(const ucontext_t *uc, uintptr_t addr);

#endif
