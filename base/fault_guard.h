/* SPDX-License-Identifier: MIT */
/*
 * Access to memory that may fail: SIGBUS becomes a result.
 *
 * Memory of a file raises SIGBUS when the file has become shorter, its file
 * system is full, or the medium can't be read.  Three ways to live with it:
 *
 *  - zd_fault_copy(), zd_fault_zero(): a copy that tells how far it got.  No
 *    setup, no cost but that of the copy: the handler knows the routine by its
 *    instruction pointer, as the kernel's copy_mc_to_kernel() and its exception
 *    table.  For drivers' requests.
 *  - zd_fault_guard_call(): any function that touches a given range, ended where it
 *    faults.  For zd_dax_access_guard().
 *  - neither: the fault goes to the handler that the program had.
 *
 * Any thread; not from signal handlers.  zd_fault_guard_init() first.
 */
#ifndef ZD_BASE_FAULT_GUARD_H
#define ZD_BASE_FAULT_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * zd_fault_guard_init - set zonedev's handler of SIGBUS, in front of the handler that
 * is there; call it when something is opened that may fault.  A second call does
 * nothing, unless the program has set another handler since: then zonedev's goes in
 * front of that one.  Never undone (a handler that may be running can't be taken
 * away), and the library that contains the handler is never unloaded.
 * 0 or -errno.  Any thread; may block.
 */
int zd_fault_guard_init(void);

/*
 * struct zd_fault_result - @left: bytes that were not copied: the last ones; 0:
 * all were.  @addr: if @left, the address that faulted, which tells source from
 * destination.
 */
struct zd_fault_result {
	size_t left;
	uintptr_t addr;
};

/* zd_fault_copy - memcpy() of ranges that don't overlap, guarded on both sides.
 * zd_fault_zero - memset() to 0. */
struct zd_fault_result zd_fault_copy(void *dst, const void *src, size_t len);
struct zd_fault_result zd_fault_zero(void *dst, size_t len);

/* zd_fault_store64 - one store, of an aligned word, which is seen, and written to
 * the medium, whole or not at all.  False: the store faulted.
 * zd_fault_load64 - one load: what one store wrote, never parts of two.  False: it faulted. */
bool zd_fault_store64(uint64_t *dst, uint64_t value);
bool zd_fault_load64(const uint64_t *src, uint64_t *value);

/*
 * zd_fault_guard_call - fn(arg), ended when this thread faults (SIGBUS) at an address
 * in [start, start + len): then -EFAULT, and @addr (may be NULL) is where.  Else
 * 0.  @fn is left as by longjmp(): it must not hold locks or own memory while it
 * touches the range, nor call functions that do.  Nests; the guard of the innermost
 * range that has the address ends.
 */
int zd_fault_guard_call(void (*fn)(void *arg), void *arg, const void *start, size_t len,
			uintptr_t *addr);

#endif
