/* SPDX-License-Identifier: MIT */
/* The file driver's requests: results that a disk hardly ever gives. */
#include "drivers_common.h"

#include "drivers/file/file.h"

#define SIZE (1024 * ZD_PAGE_SIZE)

struct step {
	int res;
	bool finished;
	uint64_t done;		/* bytes after it, if not finished */
	unsigned int nr_iov;	/* of the transfer that follows */
};

static void run_steps(struct zd_file *file, enum zd_io_dir dir, const struct step *steps,
		      const int *errors)
{
	struct zd_file_req *req = file->free_reqs;
	struct zd_io_page pages[4];
	struct zd_device_io io = { .dir = dir,
				   .nr = 4,
				   .pages = pages,
				   .pending = 1,
				   .driver = (void *)4,
				   .done = set_done };
	char *mem = map_pages(8);
	uint64_t bytes;
	unsigned int i;

	file->free_reqs = req->next;
	file->reqs_busy++;
	file->batches++;
	for (i = 0; i < 4; i++)		/* two runs of buffers */
		pages[i] = (struct zd_io_page){ i, mem + (i + i / 2) * ZD_PAGE_SIZE, -ENODATA };
	*req = (struct zd_file_req){ .io = &io, .nr = 4, .index = 100 };
	assert_int_equal(zd_file_req_prepare(req), 100 * ZD_PAGE_SIZE);
	assert_int_equal(req->nr_iov, 2);
	for (;; steps++) {
		assert_int_equal(zd_file_req_result(file, req, steps->res), steps->finished);
		if (steps->finished)
			break;
		assert_int_equal(req->done, steps->done);
		assert_int_equal(zd_file_req_prepare(req), 100 * ZD_PAGE_SIZE + steps->done);
		assert_int_equal(req->nr_iov, steps->nr_iov);
		for (i = 0, bytes = 0; i < req->nr_iov; i++)
			bytes += req->iov[i].iov_len;
		assert_int_equal(bytes,
				 req->single ? ZD_PAGE_SIZE : 4 * ZD_PAGE_SIZE - steps->done);
		assert_ptr_equal((char *)req->iov[0].iov_base,
				 (char *)pages[steps->done / ZD_PAGE_SIZE].buf +
					 steps->done % ZD_PAGE_SIZE);
	}
	zd_io_finish(&file->finisher);
	assert_non_null(io.owner);
	for (i = 0; i < 4; i++)
		assert_int_equal(pages[i].error, errors[i]);
	munmap(mem, 8 * ZD_PAGE_SIZE);
}

#define P ((int)ZD_PAGE_SIZE)

static void transfers_are_continued(void **state)
{
	struct zd_device *dev;
	struct zd_file *file;

	(void)state;
	assert_int_equal(zd_file_device_create(NULL, SIZE, 0, &dev), 0);
	file = dev->private_data;

	file->target.align = 512;
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { -EINTR, false, 0, 2 },
				   { -EAGAIN, false, 0, 2 },
				   { -ECANCELED, false, 0, 2 },
				   { 1024, false, 1024, 2 },
				   { 100, false, 1024, 2 },	/* less than a sector */
				   { P, false, P + 1024, 2 },
				   { P, false, 2 * P + 1024, 1 },
				   { 2 * P - 1024, true, 0, 0 } },
		  (int[]){ 0, 0, 0, 0 });
	/* One sector is bad: the pages on the others are fine. */
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { -EIO, false, 0, 1 },
				   { P, false, P, 1 },
				   { -EIO, false, 2 * P, 1 },
				   { P, false, 3 * P, 1 },
				   { P, true, 0, 0 } },
		  (int[]){ 0, -EIO, 0, 0 });
	/* The file system gets full in the middle. */
	run_steps(file, ZD_TO_DEVICE,
		  (struct step[]){ { 2 * P, false, 2 * P, 1 },
				   { -ENOSPC, false, 2 * P, 1 },
				   { P, false, 3 * P, 1 },
				   { -ENOSPC, true, 0, 0 } },
		  (int[]){ 0, 0, 0, -ENOSPC });
	/* The end of the file. */
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { P + 100, false, P, 2 },
				   { 100, false, P, 2 },
				   { 0, false, 2 * P, 1 },
				   { 0, false, 3 * P, 1 },
				   { 0, true, 0, 0 } },
		  (int[]){ 0, -EIO, -EIO, -EIO });
	/* The transfer never gets on: the page fails after some tries. */
	run_steps(file, ZD_FROM_DEVICE,
		  (struct step[]){ { 1, false, 0, 2 },
				   { 1, false, 0, 2 },
				   { 1, false, 0, 2 },
				   { 1, false, 0, 2 },
				   { 1, false, 0, 2 },
				   { 1, false, 0, 2 },
				   { 1, false, 0, 2 },
				   { 1, false, P, 2 },
				   { 3 * P, true, 0, 0 } },
		  (int[]){ -EIO, 0, 0, 0 });
	file->target.align = 1;		/* buffered: from any byte */
	run_steps(file, ZD_TO_DEVICE,
		  (struct step[]){ { 100, false, 100, 2 },
				   { 1, false, 101, 2 },
				   { 4 * P - 101, true, 0, 0 } },
		  (int[]){ 0, 0, 0, 0 });
	assert_int_equal(zd_device_unregister(dev), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfers_are_continued),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
