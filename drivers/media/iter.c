/* SPDX-License-Identifier: MIT */
/* A request's buffers.  See iter.h. */
#include "drivers/media/iter.h"

#include <errno.h>

#include "base/fault_guard.h"

void *zd_iter_buf(const struct zd_iter *it, uint64_t *len)
{
	uint64_t left = it->iov->iov_len - it->done;

	if (*len > left)
		*len = left;
	return (char *)it->iov->iov_base + it->done;
}

void zd_iter_advance(struct zd_iter *it, uint64_t len)
{
	it->done += len;
	while (it->nr && it->done == it->iov->iov_len) {
		it->iov++;
		it->nr--;
		it->done = 0;
	}
}

int zd_iter_read(struct zd_iter *it, void *to, uint64_t len)
{
	while (len) {
		uint64_t n = len;
		void *buf = zd_iter_buf(it, &n);

		if (zd_fault_copy(to, buf, n).left)
			return -EFAULT;
		zd_iter_advance(it, n);
		to = (char *)to + n;
		len -= n;
	}
	return 0;
}

int zd_iter_write(struct zd_iter *it, const void *from, uint64_t len)
{
	while (len) {
		uint64_t n = len;
		void *buf = zd_iter_buf(it, &n);

		if (zd_fault_copy(buf, from, n).left)
			return -EFAULT;
		zd_iter_advance(it, n);
		from = (const char *)from + n;
		len -= n;
	}
	return 0;
}
