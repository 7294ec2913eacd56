/* SPDX-License-Identifier: MIT */
/*
 * Has the file been cut?
 *
 * The page that a truncation cut in the middle raises no SIGBUS: its rest reads as zeros, and
 * so may, on some kernels, whole pages after it.  So the file's length is asked for after each
 * copy.  The kernel shortens a file before it zeroes any of it, so a thread whose copy
 * saw such zeros is told the new length.  What lies beyond the shortest length ever seen is
 * bad until it is written again, even if the file grows back.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "drivers/media/media.h"

/*
 * The file's length.  It is asked for with every request, so by FIONREAD: for a regular file
 * the length less the position (which stays 0), in half of fstat()'s time, and without the
 * lock that lseek() takes and threads on few CPUs queue up for.  But FIONREAD has only an
 * int: its answer is believed if it is the length that the file should have.
 */
static uint64_t file_size(const struct zd_media *m)
{
	struct stat st;
	int size;

	if (m->bytes <= UINT32_MAX && m->program_fd != m->fd && !ioctl(m->fd, FIONREAD, &size) &&
	    (uint32_t)size == m->bytes)
		return m->bytes;
	return fstat(m->fd, &st) ? 0 : st.st_size;
}

/* The file's length, if that is short of @end; else @end. */
static uint64_t short_end(struct zd_media *m, uint64_t end)
{
	uint64_t size;

	if (!m->can_shrink)
		return end;
	size = file_size(m);
	return size < end ? size : end;
}

/* Any thread, no lock held; doesn't block. */
int zd_media_check_end(struct zd_media *m, uint64_t off, uint64_t len, uint64_t *bad)
{
	uint64_t size = short_end(m, off + len), sector = size >> ZD_SECTOR_SHIFT;

	if (size == off + len)
		return 0;
	zd_badblocks_set(&m->bad, sector, (m->bytes >> ZD_SECTOR_SHIFT) - sector);
	*bad = size < off ? off : sector << ZD_SECTOR_SHIFT;
	return -EIO;
}
