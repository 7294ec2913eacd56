/* SPDX-License-Identifier: MIT */
/*
 * A region is taken away while many threads work with it: requests in flight finish, later
 * ones fail with -ENODEV, removal waits for the holders of pages, and what was flushed is
 * there when the region is opened again.
 *
 * Then the cases in which Linux 6.1 oopses: pages that io_uring has as registered buffers,
 * and pages that an O_DIRECT read is filling.
 */
#include "pmem_lib.h"

#include <liburing.h>
#include <sys/stat.h>

#define BYTES	(4 * MIB)
#define SECTORS	(BYTES / SECTOR)
#define ROUNDS	(SANITIZED ? 8 : 20)
#define WORKERS	3
#define SHARE	(SECTORS / WORKERS / 64 * 64)	/* of each */
#define MOST	32u

struct worker {
	struct zd_pmem *pmem;
	uint64_t rand, first;
	uint32_t gen;
	uint32_t flushed[SHARE], latest[SHARE];	/* generations of its sectors */
	int end;
};

static uint32_t done;

static int work_once(struct worker *w)
{
	uint64_t nr = 1 + rnd(&w->rand) % MOST, at = rnd(&w->rand) % (SHARE - nr);
	char buf[MOST * SECTOR];
	int rc;

	switch (rnd(&w->rand) % 8) {
	case 0:
		rc = zd_pmem_rw(w->pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL);
		if (!rc)
			memcpy(w->flushed, w->latest, sizeof(w->flushed));
		return rc;
	case 1:
	case 2:
		rc = zd_pmem_rw(w->pmem, ZD_PMEM_READ, 0, w->first + at, nr, buf);
		for (uint64_t i = 0; i < nr && !rc; i++)
			CHECK_EQ(stamped(buf + i * SECTOR, w->first + at + i), w->latest[at + i]);
		return rc;
	default:
		stamp(buf, w->first + at, nr, ++w->gen);
		rc = zd_pmem_rw(w->pmem, ZD_PMEM_WRITE, 0, w->first + at, nr, buf);
		for (uint64_t i = 0; i < nr && !rc; i++)
			w->latest[at + i] = w->gen;
		return rc;
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	w->end = 0;
	while (!w->end) {
		w->end = work_once(w);
		__atomic_add_fetch(&done, 1, __ATOMIC_RELAXED);
	}
	/* and nothing comes back to life */
	for (int i = 0; i < 100; i++)
		CHECK_EQ(work_once(w), -ENODEV);
	return NULL;
}

static void check_content(struct zd_pmem *pmem, struct worker *w)
{
	char buf[SECTOR];

	for (uint64_t i = 0; i < SHARE; i++) {
		int64_t gen;

		CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, w->first + i, 1, buf), 0);
		gen = stamped(buf, w->first + i);
		/* the process lives: even what wasn't flushed is there */
		CHECK_EQ(gen, w->latest[i]);
		CHECK(gen >= w->flushed[i]);
	}
}

static void under_load(const char *path, unsigned int flags, uint64_t *rand)
{
	static struct worker w[WORKERS];
	pthread_t t[WORKERS];

	memset(w, 0, sizeof(w));
	unlink(path);
	for (int i = 0; i < WORKERS; i++) {
		w[i].first = i * SHARE;
		w[i].rand = rnd(rand);
	}
	for (int round = 0; round < ROUNDS; round++) {
		struct zd_pmem *pmem = open_region(path, flags, flags ? 2 * BYTES : BYTES);
		uint32_t until;

		for (int i = 0; i < WORKERS; i++) {
			check_content(pmem, &w[i]);
			w[i].pmem = pmem;
			CHECK_EQ(pthread_create(&t[i], NULL, work, &w[i]), 0);
		}
		until = __atomic_load_n(&done, __ATOMIC_RELAXED) + rnd(rand) % 200;
		WAIT_FOR(__atomic_load_n(&done, __ATOMIC_RELAXED) > until);
		CHECK_EQ(zd_pmem_remove(pmem), 0);
		for (int i = 0; i < WORKERS; i++) {
			CHECK_EQ(pthread_join(t[i], NULL), 0);
			CHECK_EQ(w[i].end, -ENODEV);
		}
		zd_pmem_close(pmem);
	}
	unlink(path);
}

/* --- pages in the kernel's hands --- */

struct remover {
	struct zd_pmem *pmem;
	int rc;
	uint32_t done;
};

static void *remove_it(void *arg)
{
	struct remover *r = arg;

	r->rc = zd_pmem_remove(r->pmem);
	__atomic_store_n(&r->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static struct zd_pmem *open_memory(int memfd)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr), .bytes = BYTES };
	struct zd_pmem *pmem = NULL;

	CHECK_EQ(zd_pmem_open_fd(memfd, &attr, &pmem, NULL, 0), 0);
	return pmem;
}

static void expect_holders(struct zd_pmem *pmem, uint64_t first, uint64_t nr)
{
	struct zd_pmem_holders h;
	struct zd_pmem_info info;

	zd_pmem_get_info(pmem, &info);
	CHECK_EQ(zd_pmem_remove_timeout(pmem, 20, &h), -ETIMEDOUT);
	CHECK_EQ(h.nr_requests, 0);
	CHECK_EQ(h.pages.nr_pages, nr);
	CHECK_EQ(h.pages.nr_refs, 0);
	CHECK_EQ(h.pages.nr_pfns, nr);
	for (uint64_t i = 0; i < nr; i++)
		CHECK_EQ(h.pages.pfns[i] - info.pfn, first + i);
}

/* io_uring has the pages as a fixed buffer, and uses them until they are put.  (In a memfd: the
 * kernel doesn't let io_uring pin pages of a file that is written back.) */
static void registered(void)
{
	int memfd = memfd_create("registered", MFD_CLOEXEC);
	struct zd_pmem *pmem = open_memory(memfd);
	struct remover r = { .pmem = pmem };
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	struct iovec iov;
	int p[2], rc;
	pthread_t t;
	zd_pfn_t pfn;
	char *kaddr, buf[PAGE];

	CHECK_EQ(zd_pmem_direct_access(pmem, 30, 4, (void **)&kaddr, &pfn), 4);
	rc = io_uring_queue_init(8, &ring, 0);
	if (rc) {
		printf("no io_uring (%s): left out\n", strerror(-rc));
		zd_pmem_direct_release(pmem, pfn, 4);
		zd_pmem_close(pmem);
		return;
	}
	iov = (struct iovec){ kaddr, 4 * PAGE };
	CHECK_EQ(io_uring_register_buffers(&ring, &iov, 1), 0);
	expect_holders(pmem, 30, 4);
	CHECK_EQ(pthread_create(&t, NULL, remove_it, &r), 0);
	/* the device is going, and still data comes in through the registered pages */
	CHECK(!pipe(p));
	memset(buf, 'u', sizeof(buf));
	CHECK_EQ(write(p[1], buf, PAGE), PAGE);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read_fixed(sqe, p[0], kaddr + PAGE, PAGE, 0, 0);
	CHECK_EQ(io_uring_submit(&ring), 1);
	CHECK_EQ(io_uring_wait_cqe(&ring, &cqe), 0);
	CHECK_EQ(cqe->res, (int)PAGE);
	io_uring_cqe_seen(&ring, cqe);
	CHECK_EQ(zd_pmem_persist(pmem, kaddr + PAGE, PAGE), 0);
	CHECK_EQ(io_uring_unregister_buffers(&ring), 0);
	/* the removal doesn't force the holder */
	CHECK(!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE));
	zd_pmem_direct_release(pmem, pfn, 4);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK_EQ(r.rc, 0);
	io_uring_queue_exit(&ring);
	close(p[0]);
	close(p[1]);
	zd_pmem_close(pmem);

	pmem = open_memory(memfd);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, 31 * 8, 8, buf), 0);
	CHECK(buf[0] == 'u' && buf[PAGE - 1] == 'u');
	zd_pmem_close(pmem);
	close(memfd);
}

struct filler {
	int fd;
	char *at;
	ssize_t n;
};

static void *fill_page(void *arg)
{
	struct filler *f = arg;

	f->n = read(f->fd, f->at, PAGE);
	return NULL;
}

/* Reads into pages of the region: O_DIRECT from a file, and one that is stuck half-way
 * in a pipe while the region is being removed. */
static void in_flight(const char *path, const char *source)
{
	struct zd_pmem *pmem = open_region(path, 0, BYTES);
	int fd = open(source, O_RDWR | O_CREAT | O_CLOEXEC, 0600), direct, p[2];
	struct remover r = { .pmem = pmem };
	struct filler f;
	pthread_t t, filler;
	zd_pfn_t pfn;
	char *kaddr;

	CHECK(fd >= 0 && !ftruncate(fd, 64 * PAGE) && !pipe(p));
	CHECK_EQ(pwrite(fd, "direct", 6, 5 * PAGE), 6);
	CHECK(!fsync(fd));
	direct = open(source, O_RDONLY | O_DIRECT | O_CLOEXEC);
	CHECK_EQ(zd_pmem_direct_access(pmem, 100, 2, (void **)&kaddr, &pfn), 2);
	f = (struct filler){ .fd = p[0], .at = kaddr + PAGE };
	CHECK_EQ(pthread_create(&filler, NULL, fill_page, &f), 0);
	expect_holders(pmem, 100, 2);
	CHECK_EQ(pthread_create(&t, NULL, remove_it, &r), 0);
	if (direct >= 0) {
		CHECK_EQ(pread(direct, kaddr, PAGE, 5 * PAGE), (ssize_t)PAGE);
		CHECK(!memcmp(kaddr, "direct", 6));
		close(direct);
	}
	zd_pmem_direct_release(pmem, pfn, 1);
	CHECK_EQ(write(p[1], "pipe", 4), 4);
	CHECK_EQ(pthread_join(filler, NULL), 0);
	CHECK_EQ(f.n, 4);
	CHECK(!__atomic_load_n(&r.done, __ATOMIC_ACQUIRE));
	zd_put_page(zd_pfn_to_page(pfn + 1));
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK_EQ(r.rc, 0);
	zd_pmem_close(pmem);
	close(fd);
	close(p[0]);
	close(p[1]);
	unlink(source);
}

int main(int argc, char **argv)
{
	uint64_t rand = seed(argc, argv);
	char path[512], source[512];

	snprintf(path, sizeof(path), "%s", region_path("remove"));
	snprintf(source, sizeof(source), "%s", region_path("source"));
	under_load(path, 0, &rand);
	under_load(path, ZD_PMEM_BTT, &rand);
	unlink(path);
	registered();
	in_flight(path, source);
	unlink(path);
	return 0;
}
