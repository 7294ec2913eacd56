/* SPDX-License-Identifier: MIT */
/* A page that the kernel has pinned for I/O (an io_uring registered buffer)
 * stays where it is, is counted, and the data lands in it. */
#include <liburing.h>

#include "tests/integration/lib_test.h"

#define N	64
#define PINNED	17

int main(void)
{
	struct zd_mm *mm = open_mm();
	struct zd_device *dev = ram_device(2 * N);
	struct zd_migrate_result r;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	char *p = map(N), data[PAGE];
	zd_pfn_t pfns[N];
	struct iovec iov = { p + PINNED * PAGE, PAGE };
	uint64_t refused;
	int fds[2], rc;

	rc = io_uring_queue_init(4, &ring, 0);
	if (rc == -EPERM || rc == -ENOSYS)
		skip("needs io_uring");
	CHECK_EQ(rc, 0);
	CHECK(!pipe(fds));
	fill(p, N, 1);
	memcpy(data, p, PAGE);		/* page 0's pattern goes to the pinned page */
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);

	/* pinned while it is out, the page comes home */
	evict(mm, p, N, dev);
	CHECK_EQ(io_uring_register_buffers(&ring, &iov, 1), 0);
	settle(mm);
	CHECK_EQ(zd_device_live_pages(dev), N - 1);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read_fixed(sqe, fds[0], iov.iov_base, PAGE, 0, 0);
	CHECK_EQ(io_uring_submit(&ring), 1);

	refused = stats(mm).refused_pinned;
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, &r), 0);
	CHECK_EQ(r.pinned, 1);
	CHECK_EQ(r.shared, 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(stats(mm).refused_pinned, refused + 1);
	CHECK_EQ(zd_migrate_device_pfns(mm, p, N * PAGE, pfns, N), 0);
	for (int i = 0; i < N; i++)
		CHECK_EQ(!pfns[i], i == PINNED);

	CHECK_EQ(write(fds[1], data, PAGE), PAGE);
	CHECK_EQ(io_uring_wait_cqe(&ring, &cqe), 0);
	CHECK_EQ(cqe->res, PAGE);
	io_uring_cqe_seen(&ring, cqe);
	CHECK(!memcmp(p + PINNED * PAGE, data, PAGE));

	/* let go, the page can leave like any other */
	CHECK_EQ(io_uring_unregister_buffers(&ring), 0);
	WAIT_FOR(!zd_migrate_to_device(mm, p, N * PAGE, dev, &r) && !r.pinned);
	CHECK_EQ(zd_device_live_pages(dev), N);
	CHECK(!memcmp(p + PINNED * PAGE, data, PAGE));
	memcpy(p + PINNED * PAGE, p, PAGE);
	CHECK_EQ(bad_page(p, 0, PINNED, 1), PINNED);
	CHECK_EQ(bad_page(p, PINNED + 1, N, 1), N);
	io_uring_queue_exit(&ring);
	close_mm(mm, dev);
	return 0;
}
