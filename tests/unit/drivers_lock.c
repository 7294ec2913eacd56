/* SPDX-License-Identifier: MIT */
/*
 * What the lock of a file excludes: a second region or device on it, by whatever path.  And
 * what doesn't exclude zonedev: flock(), which udev takes on block devices, and a lock that is
 * there for a moment.
 */
#include "drivers_common.h"
#include "pmem_test.h"

#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "drivers/file_lock.h"

static const char *path;

static int make_file(void **state)
{
	int fd;

	(void)state;
	path = tmp_path("lock");
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB), 0);
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static int open_file(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* As udev locks a block device, and as programs do that make udev wait. */
static void test_flock(void **state)
{
	struct zd_pmem *pmem;
	struct zd_device *dev;
	int fd = open_file();

	(void)state;
	for (int op = LOCK_SH; op <= LOCK_EX; op += LOCK_EX - LOCK_SH) {
		assert_int_equal(flock(fd, op), 0);
		pmem = open_at(path, 0, 0);
		assert_non_null(pmem);
		zd_pmem_close(pmem);
		pmem = open_at(path, ZD_PMEM_READONLY, 0);
		assert_non_null(pmem);
		zd_pmem_close(pmem);
		assert_int_equal(zd_file_device_create(path, MIB, ZD_FILE_FORCE | ZD_FILE_KEEP,
						       &dev),
				 0);
		assert_int_equal(zd_device_unregister(dev), 0);
		assert_int_equal(ftruncate(fd, MIB), 0);
	}
	close(fd);
}

/* Regions and devices exclude each other, by hard links and symbolic ones too. */
static void test_links(void **state)
{
	const char *hard = tmp_path("hard"), *soft = tmp_path("soft");
	struct zd_pmem *pmem, *other;
	struct zd_device *dev;

	(void)state;
	assert_int_equal(link(path, hard), 0);
	assert_int_equal(symlink(path, soft), 0);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_int_equal(try_open(hard, 0, 0, &other), -EBUSY);
	assert_int_equal(try_open(soft, ZD_PMEM_READONLY, 0, &other), -EBUSY);
	assert_int_equal(zd_file_device_create(hard, MIB, ZD_FILE_FORCE, &dev), -EBUSY);
	zd_pmem_close(pmem);
	pmem = open_at(hard, ZD_PMEM_READONLY, 0);
	assert_non_null(pmem);
	assert_int_equal(try_open(soft, ZD_PMEM_READONLY, 0, &other), 0);
	zd_pmem_close(other);
	assert_int_equal(try_open(soft, 0, 0, &other), -EBUSY);
	zd_pmem_close(pmem);
	unlink(hard);
	unlink(soft);
}

static unsigned int refused;	/* locks, by the kernel */

int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;
	int rc;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	rc = syscall(SYS_fcntl, fd, cmd, arg);
	if (rc && cmd == F_OFD_SETLK)
		__atomic_add_fetch(&refused, 1, __ATOMIC_RELEASE);
	return rc;
}

/* The other program unlocks once its lock has been met. */
static void *let_go(void *fd)
{
	for (int i = 0; !__atomic_load_n(&refused, __ATOMIC_ACQUIRE) && i < 60000; i++)
		usleep(1000);
	close(*(int *)fd);
	return NULL;
}

/* A lock that is there for a moment is waited for; a longer one is not. */
static void test_moment(void **state)
{
	int holder = open_file(), fd = open_file();
	pthread_t t;

	(void)state;
	assert_int_equal(zd_lock_file(holder, false), 0);
	assert_int_equal(zd_lock_file(fd, false), -EBUSY);
	assert_int_equal(zd_lock_file(fd, true), -EBUSY);
	__atomic_store_n(&refused, 0, __ATOMIC_RELEASE);
	assert_int_equal(pthread_create(&t, NULL, let_go, &holder), 0);
	assert_int_equal(zd_lock_file(fd, false), 0);
	assert_true(__atomic_load_n(&refused, __ATOMIC_ACQUIRE) > 0);
	pthread_join(t, NULL);
	close(fd);
}

/* Other programs' locks of any part (the old ones, a process's). */
static void test_others(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
	int ready[2], fd, status;
	struct zd_pmem *pmem;
	pid_t child;
	char byte;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (!child) {
		fd = open(path, O_RDWR);
		if (fcntl(fd, F_SETLK, &lock) || write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(try_open(path, 0, 0, &pmem), -EBUSY);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	zd_pmem_close(pmem);
	close(ready[0]);
	close(ready[1]);
}

/* A block device, by two nodes of it. */
static void test_device(void **state)
{
	const char *node = tmp_path("node");
	struct zd_pmem *pmem, *other;
	struct stat st;

	(void)state;
	if (attach_loop(MIB)) {
		print_message("SKIP: no loop devices\n");
		skip();
	}
	assert_int_equal(stat(loop_path, &st), 0);
	if (mknod(node, S_IFBLK | 0600, st.st_rdev)) {
		detach_loop();
		print_message("SKIP: can't make a device node\n");
		skip();
	}
	assert_int_equal(flock(loop_fd, LOCK_EX), 0);
	pmem = open_at(loop_path, 0, 0);
	assert_non_null(pmem);
	assert_int_equal(try_open(node, 0, 0, &other), -EBUSY);
	assert_int_equal(try_open(node, ZD_PMEM_READONLY, 0, &other), -EBUSY);
	zd_pmem_close(pmem);
	pmem = open_at(loop_path, ZD_PMEM_READONLY, 0);
	assert_non_null(pmem);
	assert_int_equal(try_open(node, ZD_PMEM_READONLY, 0, &other), 0);
	zd_pmem_close(other);
	assert_int_equal(try_open(node, 0, 0, &other), -EBUSY);
	zd_pmem_close(pmem);
	assert_int_equal(try_open(node, 0, 0, &pmem), 0);
	zd_pmem_close(pmem);
	unlink(node);
	detach_loop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_flock, make_file, remove_file),
		cmocka_unit_test_setup_teardown(test_links, make_file, remove_file),
		cmocka_unit_test_setup_teardown(test_moment, make_file, remove_file),
		cmocka_unit_test_setup_teardown(test_others, make_file, remove_file),
		cmocka_unit_test(test_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
