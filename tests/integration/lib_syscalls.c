/* SPDX-License-Identifier: MIT */
/* System calls that read or write evicted pages find them. */
#include <sys/uio.h>

#include "tests/integration/lib_test.h"

#define N 16

static struct zd_mm *mm;
static struct zd_device *dev;
static char *p;

static void out(uint64_t tag)
{
	fill(p, N, tag);
	evict(mm, p, N, dev);
}

static int temp_file(int flags)
{
	const char *dir = getenv("TMPDIR");

	return open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | flags, 0600);
}

static void read_write(int flags)
{
	int fd = temp_file(flags);

	if (fd < 0 && (flags & O_DIRECT)) {
		printf("no O_DIRECT here\n");
		return;
	}
	CHECK(fd >= 0);
	out(1);
	CHECK_EQ(pwrite(fd, p, N * PAGE, 0), N * PAGE);		/* from evicted pages */
	out(2);
	CHECK_EQ(pread(fd, p, N * PAGE, 0), N * PAGE);		/* into evicted pages */
	CHECK_FILLED(p, N, 1);
	/* into a part of a page: the rest of the page must have come home */
	out(3);
	if (!(flags & O_DIRECT)) {
		CHECK_EQ(pread(fd, p + PAGE + 8, 8, 0), 8);
		CHECK_EQ(*(uint64_t *)(p + PAGE + 8), word(1, 0, 0));
		*(uint64_t *)(p + PAGE + 8) = word(3, 1, 1);
	}
	CHECK_FILLED(p, N, 3);
	close(fd);
}

static void splice_out(void)
{
	struct iovec iov = { p, N * PAGE };
	char *copy = map(N);
	int fds[2];
	size_t got = 0;

	CHECK(!pipe(fds) && fcntl(fds[1], F_SETPIPE_SZ, 4 * N * PAGE) > 0);
	out(4);
	CHECK_EQ(vmsplice(fds[1], &iov, 1, 0), N * PAGE);
	/* out again while the pipe has the pages: the pipe keeps what it was given */
	CHECK_EQ(zd_migrate_to_device(mm, p, N * PAGE, dev, NULL), 0);
	while (got < N * PAGE) {
		ssize_t n = read(fds[0], copy + got, N * PAGE - got);

		CHECK(n > 0);
		got += n;
	}
	CHECK_FILLED(copy, N, 4);
	CHECK_FILLED(p, N, 4);
	munmap(copy, N * PAGE);
	close(fds[0]);
	close(fds[1]);
}

static void other_process(void *arg)
{
	char *copy = map(N);
	struct iovec local = { copy, N * PAGE }, remote = { p, N * PAGE };

	CHECK_EQ(process_vm_readv((pid_t)(intptr_t)arg, &local, 1, &remote, 1, 0), N * PAGE);
	CHECK_FILLED(copy, N, 5);
	fill(copy, N, 6);
	CHECK_EQ(process_vm_writev((pid_t)(intptr_t)arg, &local, 1, &remote, 1, 0), N * PAGE);
}

/* In /proc/self/mem the kernel can't wait for a userfaultfd: an error, but never zeros. */
static void proc_mem(void)
{
	int fd = open("/proc/self/mem", O_RDWR);
	char *copy = map(N);
	ssize_t n;

	CHECK(fd >= 0);
	out(7);
	n = pread(fd, copy, N * PAGE, (uintptr_t)p);
	if (n < 0)
		CHECK_EQ(errno, EIO);
	else
		CHECK_FILLED(copy, n / PAGE, 7);
	CHECK_FILLED(p, N, 7);
	CHECK_EQ(pread(fd, copy, N * PAGE, (uintptr_t)p), N * PAGE);
	CHECK_FILLED(copy, N, 7);
	munmap(copy, N * PAGE);
	close(fd);
}

int main(void)
{
	pid_t pid;

	mm = open_mm();
	dev = ram_device(2 * N);
	p = map(N);
	CHECK_EQ(zd_mm_register(mm, p, N * PAGE), 0);
	read_write(0);
	read_write(O_DIRECT);
	splice_out();
	proc_mem();
	out(5);
	pid = child_start(other_process, (void *)(intptr_t)getpid());
	child_ok(pid);
	CHECK_FILLED(p, N, 6);
	close_mm(mm, dev);
	return 0;
}
