/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/maps and /proc/PID/pagemap, read without malloc.  Any thread; a call may wait for
 * the address space's mmap lock.
 */
#ifndef ZD_SPACE_MAPS_H
#define ZD_SPACE_MAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct zd_vma {
	uint64_t start, end;
	bool read, write, exec, shared;
	bool anon;		/* private, no file behind it, no name but [heap] */
	bool stack;		/* [stack] */
	uint64_t inode;
	const char *name;	/* "" if none; valid during the call */
};

/* A private anonymous mapping whose pages UFFDIO_MOVE can take. */
static inline bool zd_vma_movable(const struct zd_vma *vma)
{
	return vma->anon && vma->read && vma->write && !vma->exec;
}

/*
 * Call @fn for each mapping, in order, until it returns false.  @fd: an open
 * /proc/PID/maps (it is rewound first).  0 or -errno (-ESRCH: it is gone).
 */
int zd_maps_walk(int fd, bool (*fn)(const struct zd_vma *vma, void *ctx), void *ctx);

/*
 * The mapping that @addr is in, or the first above; without its name ("").  One system call
 * where the kernel can be asked for one mapping (Linux 6.11).
 * 0; -ENOENT: there is none; -errno (-ESRCH: the address space is gone).
 */
int zd_maps_find(int fd, uint64_t addr, struct zd_vma *vma);

/* Resident pages of a range. */
struct zd_present {
	uint64_t start, end;
	bool huge;
};

/*
 * Up to @max resident stretches of [*pos, end), from an open /proc/PID/pagemap;
 * *pos is where to go on.  @max_pages: stop after as many pages (0: any).
 * Returns how many, or -errno.  Pages of the shared zero page don't count.
 */
int zd_present_scan(int pagemap_fd, uint64_t *pos, uint64_t end, struct zd_present *out,
		    unsigned int max, uint64_t max_pages);

/* Which of the @nr pages from @addr on there are, in RAM or swapped out (for which
 * mincore(2) says no).  0 or -errno (-ESRCH: the address space is gone). */
int zd_there_scan(int pagemap_fd, uint64_t addr, unsigned int nr, bool *there);

/*
 * Which of the @nr pages from @addr on (512 at most) are missing and have the mark of
 * zd_uffd_mark().  0 or -errno (-ESRCH: the address space is gone).
 */
int zd_marks_read(int pagemap_fd, uint64_t addr, unsigned int nr, bool *marked);
/* Up to @max stretches of marks in [*pos, end), as zd_present_scan(). */
int zd_marks_scan(int pagemap_fd, uint64_t *pos, uint64_t end, struct zd_present *out,
		  unsigned int max);

/* Is the resident page at @addr mapped by this address space alone? */
bool zd_page_exclusive(int pagemap_fd, uint64_t addr);

#endif
