/* SPDX-License-Identifier: MIT */
/*
 * A region is removed while the kernel does I/O straight into its pages: buffers
 * registered with io_uring, and O_DIRECT in flight.  The program holds those pages
 * (zd_pmem_direct_access()), so removal waits for exactly those, names them, and completes
 * when they are put; the data has arrived.  All the while other threads make requests as
 * fast as they can, and get -ENODEV.
 */
#include <liburing.h>

#include "tests/integration/lib_test.h"

#define PAGES		256		/* of a region */
#define ROUNDS		20
#define NR_LOADERS	2

static char dir[] = "/dev/shm/zd-uring.XXXXXX";
static char region_path[64], source_path[4096];
static struct zd_pmem *pmem;
static struct zd_pmem_info info;

static void open_region(const char *path)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr),
				     .bytes = PAGES * PAGE,
				     .flags = ZD_PMEM_CREATE };
	char err[256] = "";

	if (zd_pmem_open(path, &attr, &pmem, err, sizeof(err))) {
		fprintf(stderr, "%s: %s\n", path, err);
		exit(1);
	}
	CHECK_EQ(zd_pmem_get_info(pmem, &info), 0);
}

static void open_ring(struct io_uring *ring)
{
	int rc = io_uring_queue_init(128, ring, 0);

	if (rc == -EPERM || rc == -ENOSYS)
		skip("needs io_uring");
	CHECK_EQ(rc, 0);
}

/* --- load --- */

struct loader {
	pthread_t thread;
	uint64_t rng, done;
};

static struct loader loaders[NR_LOADERS];
static unsigned int busy;

/* On the upper half; ends when the region does. */
static void *load(void *arg)
{
	static const int ops[] = { ZD_PMEM_READ, ZD_PMEM_WRITE, ZD_PMEM_WRITE_ZEROES,
				   ZD_PMEM_FLUSH };
	static __thread char buf[PAGE];
	struct loader *l = arg;
	uint64_t page;
	int op, rc;

	for (l->done = 0;; l->done++) {
		page = PAGES / 2 + rnd(&l->rng) % (PAGES / 2);
		op = ops[rnd(&l->rng) % 4];
		if (op == ZD_PMEM_FLUSH)
			rc = zd_pmem_rw(pmem, op, 0, 0, 0, NULL);
		else
			rc = zd_pmem_rw(pmem, op, 0, page * ZD_PAGE_SECTORS, ZD_PAGE_SECTORS,
					op == ZD_PMEM_WRITE_ZEROES ? NULL : buf);
		if (rc == -ENODEV)
			return NULL;
		CHECK_EQ(rc, 0);
		if (l->done == 20)
			__atomic_fetch_add(&busy, 1, __ATOMIC_RELEASE);
	}
}

static void start_load(uint64_t *rng)
{
	busy = 0;
	for (struct loader *l = loaders; l < loaders + NR_LOADERS; l++) {
		l->rng = rnd(rng) | 1;
		CHECK(!pthread_create(&l->thread, NULL, load, l));
	}
	WAIT_FOR(__atomic_load_n(&busy, __ATOMIC_ACQUIRE) == NR_LOADERS);
}

static void end_load(void)
{
	for (struct loader *l = loaders; l < loaders + NR_LOADERS; l++)
		CHECK(!pthread_join(l->thread, NULL));
}

/* --- removal --- */

static void *remove_it(void *arg)
{
	CHECK_EQ(zd_pmem_remove(arg), 0);
	return NULL;
}

/* Nothing but pages [first, first + nr) holds the region, which can't be had any
 * more. */
static void held_by(unsigned int first, unsigned int nr)
{
	struct zd_pmem_holders h;
	zd_pfn_t pfn;
	char buf[512];

	/* some requests are in flight when it begins */
	WAIT_FOR(zd_pmem_remove_timeout(pmem, 10, &h) == -ETIMEDOUT && !h.nr_requests);
	CHECK_EQ(h.pages.nr_refs, 0);
	CHECK_EQ(h.pages.nr_pages, nr);
	CHECK_EQ(h.pages.nr_pfns, nr < ZD_PAGEMAP_HOLDER_PFNS ? nr : ZD_PAGEMAP_HOLDER_PFNS);
	for (unsigned int i = 0; i < h.pages.nr_pfns; i++)
		CHECK_EQ(h.pages.pfns[i], info.pfn + first + i);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, 0, 1, buf), -ENODEV);
	CHECK_EQ(zd_pmem_direct_access(pmem, 0, 1, NULL, &pfn), -ENODEV);
}

/* The last page is put while a removal waits. */
static void release_all(zd_pfn_t pfn, unsigned int nr)
{
	pthread_t thread;

	if (nr > 1)
		zd_pmem_direct_release(pmem, pfn, nr - 1);
	held_by(pfn + nr - 1 - info.pfn, 1);
	CHECK(!pthread_create(&thread, NULL, remove_it, pmem));
	usleep(1000);
	zd_pmem_direct_release(pmem, pfn + nr - 1, 1);
	CHECK(!pthread_join(thread, NULL));
	end_load();
	CHECK_EQ(zd_pmem_remove(pmem), -ENODEV);
	zd_pmem_close(pmem);
}

static unsigned int hold(unsigned int first, unsigned int nr, char **at, zd_pfn_t *pfn)
{
	void *kaddr;

	CHECK_EQ(zd_pmem_direct_access(pmem, first, nr, &kaddr, pfn), nr);
	CHECK_EQ(*pfn, info.pfn + first);
	*at = kaddr;
	return nr;
}

/* --- the ways --- */

/* A registered buffer is a long-term pin; the kernel allows it on tmpfs, and not on
 * files that must be written back. */
static void registered_buffers(uint64_t *rng)
{
	unsigned int first = 1 + rnd(rng) % 16, nr = 1 + rnd(rng) % 32;
	char *at, *data = map(nr), *back = map(nr);
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	struct iovec iov;
	int fds[2];
	zd_pfn_t pfn;

	open_ring(&ring);
	open_region(region_path);
	hold(first, nr, &at, &pfn);
	iov = (struct iovec){ at, nr * PAGE };
	CHECK_EQ(io_uring_register_buffers(&ring, &iov, 1), 0);
	CHECK(!pipe(fds));
	CHECK(fcntl(fds[1], F_SETPIPE_SZ, nr * PAGE) >= (int)(nr * PAGE));
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read_fixed(sqe, fds[0], at, nr * PAGE, 0, 0);
	CHECK_EQ(io_uring_submit(&ring), 1);

	start_load(rng);
	held_by(first, nr);
	fill(data, nr, first);
	CHECK_EQ(write(fds[1], data, nr * PAGE), nr * PAGE);
	CHECK_EQ(io_uring_wait_cqe(&ring, &cqe), 0);
	CHECK_EQ(cqe->res, nr * PAGE);
	io_uring_cqe_seen(&ring, cqe);
	CHECK(!memcmp(at, data, nr * PAGE));
	held_by(first, nr);
	CHECK_EQ(io_uring_unregister_buffers(&ring), 0);
	release_all(pfn, nr);

	open_region(region_path);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, first * ZD_PAGE_SECTORS, nr * ZD_PAGE_SECTORS,
			    back),
		 0);
	CHECK(!memcmp(back, data, nr * PAGE));
	zd_pmem_close(pmem);
	io_uring_queue_exit(&ring);
	close(fds[0]);
	close(fds[1]);
	munmap(data, nr * PAGE);
	munmap(back, nr * PAGE);
}

/* Reads from @fd into the pages, or writes from them. */
static void submit_direct(struct io_uring *ring, int fd, char *at, unsigned int nr, bool write)
{
	struct io_uring_sqe *sqe;

	for (unsigned int i = 0; i < nr; i++) {
		sqe = io_uring_get_sqe(ring);
		CHECK(sqe);
		if (write)
			io_uring_prep_write(sqe, fd, at + i * PAGE, PAGE, i * PAGE);
		else
			io_uring_prep_read(sqe, fd, at + i * PAGE, PAGE, i * PAGE);
	}
	CHECK_EQ(io_uring_submit(ring), nr);
}

static void reap(struct io_uring *ring, unsigned int nr)
{
	struct io_uring_cqe *cqe;

	for (unsigned int i = 0; i < nr; i++) {
		CHECK_EQ(io_uring_wait_cqe(ring, &cqe), 0);
		CHECK_EQ(cqe->res, PAGE);
		io_uring_cqe_seen(ring, cqe);
	}
}

static void direct_io(uint64_t *rng, const char *path, int fd)
{
	unsigned int first = rnd(rng) % 16, nr = 16 + rnd(rng) % 49;
	char *at, *data = map(nr), *back = map(nr);
	bool write = rnd(rng) % 2;
	struct io_uring ring;
	zd_pfn_t pfn;

	open_ring(&ring);
	fill(data, nr, first + 100);
	open_region(path);
	hold(first, nr, &at, &pfn);
	if (write)
		memcpy(at, data, nr * PAGE);
	else
		CHECK_EQ(pwrite(fd, data, nr * PAGE, 0), nr * PAGE);
	start_load(rng);
	submit_direct(&ring, fd, at, nr, write);
	held_by(first, nr);
	reap(&ring, nr);
	release_all(pfn, nr);

	if (write) {
		CHECK_EQ(pread(fd, back, nr * PAGE, 0), nr * PAGE);
		CHECK(!memcmp(back, data, nr * PAGE));
	}
	open_region(path);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, first * ZD_PAGE_SECTORS, nr * ZD_PAGE_SECTORS,
			    back),
		 0);
	CHECK(!memcmp(back, data, nr * PAGE));
	zd_pmem_close(pmem);
	io_uring_queue_exit(&ring);
	munmap(data, nr * PAGE);
	munmap(back, nr * PAGE);
}

/* Pages that only the kernel holds, by a program's mapping: zonedev doesn't know, so removal
 * doesn't wait.  The mapping goes, what was in flight lands in the file, and no read gets
 * anything stale. */
static void mapping(void)
{
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	char data[PAGE], back[PAGE];
	struct zd_dax_mapping *map;
	struct iovec iov;
	int fds[2];
	void *p;

	open_ring(&ring);
	open_region(region_path);
	CHECK_EQ(zd_dax_mmap(zd_pmem_dax(pmem), NULL, NULL, 7 * PAGE, PAGE, PROT_READ | PROT_WRITE,
			     0, &map),
		 0);
	p = zd_dax_mapping_addr(map);
	iov = (struct iovec){ p, PAGE };
	CHECK_EQ(io_uring_register_buffers(&ring, &iov, 1), 0);
	CHECK(!pipe(fds));
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read_fixed(sqe, fds[0], p, PAGE, 0, 0);
	CHECK_EQ(io_uring_submit(&ring), 1);
	CHECK_EQ(zd_pmem_remove(pmem), 0);
	CHECK(raises_sigbus(p));
	fill(data, 1, 77);
	CHECK_EQ(write(fds[1], data, PAGE), PAGE);
	CHECK_EQ(io_uring_wait_cqe(&ring, &cqe), 0);
	CHECK_EQ(cqe->res, PAGE);
	io_uring_cqe_seen(&ring, cqe);
	CHECK(raises_sigbus(p));
	CHECK_EQ(zd_dax_munmap(map), 0);
	zd_pmem_close(pmem);
	io_uring_queue_exit(&ring);
	open_region(region_path);
	CHECK_EQ(zd_pmem_rw(pmem, ZD_PMEM_READ, 0, 7 * ZD_PAGE_SECTORS, ZD_PAGE_SECTORS, back), 0);
	CHECK(!memcmp(back, data, PAGE));
	zd_pmem_close(pmem);
	close(fds[0]);
	close(fds[1]);
}

static void clean_up(void)
{
	unlink(region_path);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR") ?: "/var/tmp";
	uint64_t rng = seed(argc, argv);
	char disk_path[4096];
	int fd;

	CHECK(mkdtemp(dir));
	atexit(clean_up);
	snprintf(region_path, sizeof(region_path), "%s/region", dir);
	snprintf(disk_path, sizeof(disk_path), "%s/region.%d", tmp, getpid());
	snprintf(source_path, sizeof(source_path), "%s/source.%d", tmp, getpid());
	fd = open(source_path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600);
	if (fd < 0 && errno == EINVAL)
		skip("needs a file system with O_DIRECT in TMPDIR");
	CHECK(fd >= 0);
	unlink(source_path);
	catch_sigbus();
	for (int i = 0; i < ROUNDS; i++) {
		registered_buffers(&rng);
		direct_io(&rng, disk_path, fd);
	}
	mapping();
	unlink(disk_path);
	close(fd);
	return 0;
}
