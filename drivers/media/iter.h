/* SPDX-License-Identifier: MIT */
/*
 * drivers/media/iter.h - a request's buffers, and how far a copy from or to them has come.
 * The buffers are the caller's memory, which may raise SIGBUS: hence the guarded copies.
 */
#ifndef ZD_DRIVERS_MEDIA_ITER_H
#define ZD_DRIVERS_MEDIA_ITER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct zd_iter {
	const struct iovec *iov;	/* NULL: a writer's bytes are zeros */
	unsigned int nr;
	size_t done;			/* bytes of iov[0] */
	uint64_t marks;			/* zd_badblocks_marks() when the request began */
};

/* zd_iter_buf - the address of the next bytes, at most *@len; *@len becomes how many lie there.
 * zd_iter_advance - move on by @len bytes, over empty buffers as well. */
void *zd_iter_buf(const struct zd_iter *it, uint64_t *len);
void zd_iter_advance(struct zd_iter *it, uint64_t len);
/* zd_iter_read - copy a writer's bytes to @to.  0 or -EFAULT. */
int zd_iter_read(struct zd_iter *it, void *to, uint64_t len);
/* zd_iter_write - copy @from to a reader's buffers.  0 or -EFAULT. */
int zd_iter_write(struct zd_iter *it, const void *from, uint64_t len);

#endif
