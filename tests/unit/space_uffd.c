/* SPDX-License-Identifier: MIT */
/* The userfaultfd calls: what they do, and what their results mean. */
#include "tests/unit/unit_test.h"

#include <poll.h>
#include <pthread.h>

#include "base/uapi.h"
#include "space/uffd.h"

#define PAGES	16

static int uffd;
static char *mem, *other;

static uint64_t at(int i)
{
	return (uintptr_t)mem + i * 4096;
}

static bool is_resident(const char *p)
{
	unsigned char vec;

	assert_int_equal(mincore((void *)p, 4096, &vec), 0);
	return vec & 1;
}

static int setup(void **state)
{
	(void)state;
	uffd = zd_uffd_open();
	assert_true(uffd >= 0);
	assert_true(fcntl(uffd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(uffd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(zd_uffd_api(uffd, ZD_UFFD_FEATURES), 0);
	mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	other = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	assert_true(mem != MAP_FAILED && other != MAP_FAILED);
	assert_int_equal(zd_uffd_register(uffd, at(0), PAGES * 4096), 0);
	memset(other, 7, PAGES * 4096);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(uffd);
	munmap(mem, PAGES * 4096);
	munmap(other, PAGES * 4096);
	return 0;
}

static void handshake(void **state)
{
	int fd = zd_uffd_open();

	(void)state;
	assert_int_equal(zd_uffd_api(fd, UINT64_C(1) << 60), -EOPNOTSUPP);
	close(fd);
}

static void registering(void **state)
{
	int fd = zd_uffd_open();

	(void)state;
	assert_int_equal(zd_uffd_api(fd, 0), 0);
	assert_int_equal(zd_uffd_register(fd, at(0), 4096), -EBUSY);
	assert_int_equal(zd_uffd_register(uffd, at(0) + 1, 4096), -EINVAL);
	assert_int_equal(zd_uffd_unregister(uffd, at(0), PAGES * 4096), 0);
	assert_int_equal(zd_uffd_register(fd, at(0), 4096), 0);
	close(fd);
}

static void copying(void **state)
{
	(void)state;
	assert_int_equal(zd_uffd_copy(uffd, at(1), other, 2 * 4096, true), 2 * 4096);
	assert_int_equal(mem[4096], 7);
	assert_int_equal(zd_uffd_copy(uffd, at(1), other, 4096, true), -EEXIST);
	/* as many as fit before one that is there */
	assert_int_equal(zd_uffd_copy(uffd, at(0), other, 4 * 4096, true), 4096);
	assert_int_equal(zd_uffd_zeropage(uffd, at(3), 2 * 4096, true), 2 * 4096);
	assert_int_equal(mem[3 * 4096], 0);
	assert_int_equal(zd_uffd_zeropage(uffd, at(4), 4 * 4096, true), -EEXIST);
}

static void moving(void **state)
{
	ssize_t rc;

	(void)state;
	/* mem is the one that must be registered: the destination */
	assert_int_equal(zd_uffd_move(uffd, at(0), (uintptr_t)other, 4 * 4096), 4 * 4096);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(mem[i * 4096], 7);
		assert_false(is_resident(other + i * 4096));
	}
	assert_int_equal(zd_uffd_move(uffd, at(4), (uintptr_t)other, 4096), -ENOENT);
	assert_int_equal(zd_uffd_move(uffd, at(0), (uintptr_t)other + 4 * 4096, 4096), -EEXIST);
	/* up to a hole */
	madvise(other + 6 * 4096, 4096, MADV_DONTNEED);
	assert_int_equal(zd_uffd_move(uffd, at(4), (uintptr_t)other + 4 * 4096, 4 * 4096),
			 2 * 4096);
	/* up to the end of a mapping */
	assert_int_equal(mprotect(other + 10 * 4096, 4096, PROT_READ), 0);
	rc = zd_uffd_move(uffd, at(7), (uintptr_t)other + 7 * 4096, 4 * 4096);
	assert_true(rc >= 4096 && rc <= 3 * 4096 && !(rc & 4095));
	assert_false(is_resident(other + 6 * 4096 + rc));
	assert_true(is_resident(other + 10 * 4096));
	assert_int_equal(zd_uffd_move(uffd, at(12), (uintptr_t)other + 10 * 4096, 4096), -EINVAL);
}

static void *touch(void *p)
{
	return (void *)(uintptr_t) * (volatile char *)p;
}

/* A thread that faults is reported, waits, and is woken. */
static void faults(void **state)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;
	pthread_t thread;
	void *value;

	(void)state;
	for (int wake = 0; wake < 2; wake++) {
		assert_int_equal(pthread_create(&thread, NULL, touch, mem + wake * 4096), 0);
		assert_int_equal(poll(&pfd, 1, 20000), 1);
		assert_int_equal(read(uffd, &msg, sizeof(msg)), sizeof(msg));
		assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
		assert_int_equal(msg.arg.pagefault.address & ~4095ull, at(wake));
		assert_int_equal(zd_uffd_copy(uffd, at(wake), other, 4096, wake), 4096);
		if (!wake)
			assert_int_equal(zd_uffd_wake(uffd, at(wake), 4096), 0);
		assert_int_equal(pthread_join(thread, &value), 0);
		assert_int_equal((uintptr_t)value, 7);
	}
	assert_int_equal(read(uffd, &msg, sizeof(msg)), -1);
	assert_int_equal(errno, EAGAIN);
}

static void *drop(void *p)
{
	return (void *)(intptr_t)madvise(p, 4096, MADV_DONTNEED);
}

/* An event that waits to be read forbids everything else. */
static void events(void **state)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;
	pthread_t thread;
	void *rc;

	(void)state;
	assert_int_equal(zd_uffd_copy(uffd, at(0), other, 4096, true), 4096);
	assert_int_equal(pthread_create(&thread, NULL, drop, mem), 0);
	assert_int_equal(poll(&pfd, 1, 20000), 1);
	assert_int_equal(zd_uffd_copy(uffd, at(5), other, 4096, true), -EAGAIN);
	assert_int_equal(zd_uffd_zeropage(uffd, at(5), 4096, true), -EAGAIN);
	assert_int_equal(zd_uffd_move(uffd, at(5), (uintptr_t)other, 4096), -EAGAIN);
	assert_int_equal(zd_uffd_poison(uffd, at(5), 4096), -EAGAIN);
	assert_int_equal(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_REMOVE);
	assert_int_equal(msg.arg.remove.start, at(0));
	assert_int_equal(pthread_join(thread, &rc), 0);
	assert_null(rc);
	assert_false(is_resident(mem));
	assert_int_equal(zd_uffd_copy(uffd, at(5), other, 4096, true), 4096);
}

static void poisoned(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	assert_int_equal(zd_uffd_poison(uffd, at(2), 4096), 0);
	assert_int_equal(zd_uffd_poison(uffd, at(2), 4096), -EEXIST);
	assert_int_equal(zd_uffd_unregister(uffd, at(0), PAGES * 4096), 0);	/* outlives it */
	pid = fork();
	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		(void)*(volatile char *)(mem + 2 * 4096);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

/* Whose address space has ended. */
static void alive(void **state)
{
	int go[2], child, pidfd;
	pid_t pid;
	char c;

	(void)state;
	assert_true(zd_uffd_mm_alive(uffd));
	assert_int_equal(pipe(go), 0);
	/* or fork() would wait for us to read its event */
	assert_int_equal(zd_uffd_unregister(uffd, at(0), PAGES * 4096), 0);
	pid = fork();
	if (!pid) {
		int fd = zd_uffd_open();

		close(go[0]);
		if (fd < 0 || zd_uffd_api(fd, 0) || dup2(fd, 200) != 200)
			_exit(1);
		if (write(go[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(go[0], &c, 1), 1);
	pidfd = syscall(434 /* pidfd_open */, pid, 0);
	assert_true(pidfd >= 0);
	child = syscall(438 /* pidfd_getfd */, pidfd, 200, 0);
	close(pidfd);
	assert_true(child >= 0);
	assert_true(zd_uffd_mm_alive(child));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_false(zd_uffd_mm_alive(child));
	assert_int_equal(zd_uffd_copy(child, at(0), other, 4096, true), -ESRCH);
	close(child);
	close(go[0]);
	close(go[1]);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handshake),
		TEST(registering),
		TEST(copying),
		TEST(moving),
		TEST(faults),
		TEST(events),
		TEST(poisoned),
		TEST(alive),
	};
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	close(fd);
	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
