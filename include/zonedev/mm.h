/* SPDX-License-Identifier: MIT */
/*
 * zonedev/mm.h - managed ranges of this process's address space.
 *
 * A struct zd_mm manages ranges of private anonymous memory (malloc's mappings
 * included): their pages can be migrated to devices (zonedev/migrate.h) and
 * come home when the CPU touches them.  One thread, the server, serves the
 * faults; it is started by zd_mm_open() and ended by zd_mm_close().
 *
 * munmap, madvise(MADV_DONTNEED), mremap and fork work as ever on managed
 * memory; device pages that nothing maps any more are freed at once.  A forked
 * child reads the parent's evicted pages; they are brought home in it, too, when
 * the parent closes the mm or exits.  If the parent is killed before that, so
 * are its children that have not called exec: by SIGKILL, rather than be left to
 * read zeros.
 *
 * A zd_mm is of the process that opened it: in a child the calls fail with -EINVAL, and a
 * warning (once).  So do those that a driver's callback makes, in the server's thread.
 *
 * Needs Linux 6.8, and userfaultfd with CAP_SYS_PTRACE (`zonedev info` says
 * what a host lacks).
 */
#ifndef ZONEDEV_MM_H
#define ZONEDEV_MM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct zd_mm;

/* In zd_mm_attr.flags.  No memory that is registered is malloc's, or anything else that the
 * program's malloc touches with a lock held: the program has mapped it by itself. */
#define ZD_MM_OWN_MAPPINGS	(1u << 0)

/*
 * struct zd_mm_attr - how to open; zero is a good default for each.
 *
 * @size: sizeof(struct zd_mm_attr).
 * @fault_around: most pages that one fault brings home (it starts with one and
 *	grows while the accesses look sequential); 0: 64; 1: only the page.
 * @flags: ZD_MM_OWN_MAPPINGS, or 0.
 */
struct zd_mm_attr {
	size_t size;
	unsigned int fault_around;
	uint64_t flags;
};

/* struct zd_mm_stats - totals since the mm was opened; pages of 4 KiB.  Grows at the end:
 * see zonedev.h, "Binary interface". */
struct zd_mm_stats {
	uint64_t faults;	/* faults served, of any kind */
	uint64_t faults_zero;	/* of them on untouched memory */
	uint64_t faults_home;	/* of them on device pages, or on pages on their way there */
	uint64_t pages_out;	/* moved from memory to a device */
	uint64_t pages_home;	/* brought home */
	uint64_t pages_freed;	/* freed without coming home */
	uint64_t pages_zero;	/* taken out as all zeros: no device page needed */
	uint64_t pages_poisoned; /* lost: the device could not read them back */
	uint64_t bytes_to_device;
	uint64_t bytes_from_device;
	uint64_t refused_pinned;	/* stayed: pinned by the kernel (I/O in flight) */
	uint64_t refused_shared;	/* stayed: shared after a fork and not written since */
	uint64_t refused_absent;	/* stayed: not present */
	uint64_t refused_protection;	/* stayed: not writable, or mlocked */
	uint64_t refused_busy;		/* stayed: the address space was changing */
	uint64_t refused_device;	/* stayed: a device was full or failed */
	uint64_t events;	/* fork, mremap, madvise, munmap */
	uint64_t pages_device;	/* on devices now */
};

/*
 * zd_mm_open - start managing memory of this process.
 *
 * @attr: may be NULL.  @mm: result, ended by zd_mm_close().
 * Returns 0; -EPERM: userfaultfd or CAP_SYS_PTRACE is not to be had;
 * -EOPNOTSUPP: the kernel has no UFFDIO_MOVE; -ENOMEM; -EINVAL.
 * Context: may block, fork-safe (a child may open a zd_mm of its own).
 */
int zd_mm_open(const struct zd_mm_attr *attr, struct zd_mm **mm);

/*
 * zd_mm_close - bring every page home, stop the server, forget the ranges.
 *
 * Returns 0; -EBUSY when pages are held (zonedev/gup.h), device memory is mapped
 * with it (zonedev/dax.h) or a zd_migrate_vma_setup() waits for its finalize, or
 * -ENOMEM / -EIO when not all could come home: then the mm stays open and everything is
 * as it was.  (A page that its device can't read is not a reason: the page is poisoned, and
 * counted.)  Waits for a device that can't be reached now, or doesn't answer, which the log
 * says after 10 s.
 * Context: may block, parent only; no other call on the mm may be running.
 */
int zd_mm_close(struct zd_mm *mm);

/*
 * zd_mm_register - manage the whole pages inside [addr, addr + len).
 *
 * The bytes before the first and after the last page boundary stay as they
 * are, so a malloc'ed block may be given as it is.  Returns 0; -EINVAL: no
 * whole page in it, or not private anonymous memory; -EBUSY: another
 * userfaultfd has it; -ENOMEM.
 * Context: may block, parent only; not in the server's thread.
 */
int zd_mm_register(struct zd_mm *mm, void *addr, size_t len);

/*
 * zd_mm_unregister - bring the pages of the range home and leave it alone.
 *
 * Not needed before memory is freed (free()), but then the allocator, which may touch the
 * memory, doesn't have to bring it home.  Returns 0, -ENOMEM, or the device's error, mostly
 * -EIO, if the device could not read a page, or -EAGAIN, if it can't be reached now: then the
 * range stays managed.
 * Context: may block, parent only; not in the server's thread.
 */
int zd_mm_unregister(struct zd_mm *mm, void *addr, size_t len);

/* zd_mm_get_stats - a snapshot.  0 or -ENOMEM.
 * Device pages of faults that were served before the call have been freed when it
 * returns.
 * Context: may block, parent only; not in the server's thread. */
int zd_mm_get_stats_sized(struct zd_mm *mm, struct zd_mm_stats *stats, size_t size);

static inline int zd_mm_get_stats(struct zd_mm *mm, struct zd_mm_stats *stats)
{
	return zd_mm_get_stats_sized(mm, stats, sizeof(*stats));
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
