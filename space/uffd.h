/* SPDX-License-Identifier: MIT */
/*
 * The userfaultfd ioctls with -errno results.  Calls that work page by page
 * return how many bytes were done, or -errno if none were: -EAGAIN means that
 * an event waits to be read (never retry before reading it), -EEXIST that the
 * destination is present, -ENOENT that the mapping is gone, -ESRCH that the
 * whole address space is.  Any thread; no call blocks on the program, whose mmap lock the
 * kernel takes for reading.
 */
#ifndef ZD_SPACE_UFFD_H
#define ZD_SPACE_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The features of zonedev's userfaultfds, for zd_uffd_api().  WP_ASYNC: should a page that
 * is present ever be write-protected, the kernel undoes that by itself. */
#define ZD_UFFD_FEATURES						\
	(UFFD_FEATURE_MOVE | UFFD_FEATURE_POISON |			\
	 UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC |		\
	 UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |		\
	 UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP)

/* A non-blocking, close-on-exec userfaultfd of the calling process, by the
 * syscall or by /dev/userfaultfd.  -EPERM: neither is allowed. */
int zd_uffd_open(void);
/* Handshake.  -EPERM: no CAP_SYS_PTRACE; -EOPNOTSUPP: kernel too old. */
int zd_uffd_api(int uffd, uint64_t features);
/* Missing pages are reported, and can be marked. */
int zd_uffd_register(int uffd, uint64_t addr, uint64_t len);
/* The same without marks: for staging, and other memory of zonedev's own. */
int zd_uffd_register_own(int uffd, uint64_t addr, uint64_t len);
int zd_uffd_unregister(int uffd, uint64_t addr, uint64_t len);
ssize_t zd_uffd_copy(int uffd, uint64_t dst, const void *src, uint64_t len, bool wake);
ssize_t zd_uffd_zeropage(int uffd, uint64_t dst, uint64_t len, bool wake);
ssize_t zd_uffd_move(int uffd, uint64_t dst, uint64_t src, uint64_t len);
/* No page may be there, nor a mark. */
int zd_uffd_poison(int uffd, uint64_t dst, uint64_t len);
/*
 * A mark on each page of [addr, addr + len), all of them missing: uffd-wp in the page
 * table.  The mark is the program's mapping's: it moves with mremap, is copied by fork,
 * goes with munmap and MADV_DONTNEED.  COPY comes in over it, ZEROPAGE is refused
 * (EEXIST).  space/maps.h reads marks.  All or -errno: -EAGAIN as above, -ENOENT: not all
 * of it is registered.  Unmark: pages that have no mark are left alone.
 */
int zd_uffd_mark(int uffd, uint64_t addr, uint64_t len);
int zd_uffd_unmark(int uffd, uint64_t addr, uint64_t len);
int zd_uffd_wake(int uffd, uint64_t addr, uint64_t len);
/* Is the address space being changed by a thread whose event has not been read, or that has
 * not run since its event was read? */
bool zd_uffd_changing(int uffd);
/* Does [addr, addr + len) lie in one mapping that is registered with @uffd?  1, 0,
 * -EAGAIN, -ESRCH.  Both must be whole pages below the end of the address space. */
int zd_uffd_has(int uffd, uint64_t addr, uint64_t len);
/* Does the address space behind @uffd still exist? */
bool zd_uffd_mm_alive(int uffd);

#endif
