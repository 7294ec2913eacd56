/* SPDX-License-Identifier: MIT */
/* What is known to be lost stays known: the record of a region.  The library calls this file's
 * fsetxattr(), fgetxattr() and fsync(), which count, and fail as a test wants them to. */
#include "pmem_test.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include "drivers/media/crc32c.h"
#include "drivers/file_lock.h"
#include "drivers/media/record.h"
#include "drivers/media/record_form.h"
#include "drivers/pmem/pmem.h"

static struct {
	int set_errno, get_errno;	/* != 0: those calls fail with it */
	uint32_t sets, fsyncs_after;	/* attributes set; fsyncs since the last of them */
} calls;

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	if (calls.set_errno) {
		errno = calls.set_errno;
		return -1;
	}
	calls.sets++;
	calls.fsyncs_after = 0;
	return syscall(SYS_fsetxattr, fd, name, value, size, flags);
}

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
	if (calls.get_errno) {
		errno = calls.get_errno;
		return -1;
	}
	return syscall(SYS_fgetxattr, fd, name, value, size);
}

int fsync(int fd)
{
	calls.fsyncs_after++;
	return syscall(SYS_fsync, fd);
}

static uint32_t errors, warnings;
static char said[1024];

static void listen(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)ctx;
	errors += level == ZD_LOG_ERR;
	warnings += level == ZD_LOG_WARN;
	snprintf(said, sizeof(said), "%s", msg);
}

static struct zd_pmem *start(const char *path, unsigned int flags, uint64_t bytes)
{
	struct zd_pmem *pmem;

	memset(&calls, 0, sizeof(calls));
	errors = warnings = 0;
	pmem = open_new(path, flags, bytes);
	assert_non_null(pmem);
	return pmem;
}

/* As if the process had been killed: what a close would store isn't stored. */
static struct zd_pmem *kill_and_open(struct zd_pmem *pmem, const char *path)
{
	char copy[600];
	struct zd_pmem *again;
	int get = calls.get_errno;

	snprintf(copy, sizeof(copy), "%s.killed", path);
	calls.set_errno = EPERM;
	/* and not in PATH.zonedev, either */
	if (get)
		assert_int_equal(mkdir(copy, 0500), 0);
	zd_pmem_close(pmem);
	if (get)
		rmdir(copy);
	calls.set_errno = get;
	again = open_at(path, 0, 0);
	assert_non_null(again);
	return again;
}

static struct zd_pmem *close_and_open(struct zd_pmem *pmem, const char *path)
{
	zd_pmem_close(pmem);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	return pmem;
}

static int flush(struct zd_pmem *pmem)
{
	return zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL);
}

static bool is_bad(struct zd_pmem *pmem, uint64_t sector, uint64_t nr)
{
	uint64_t first, n;

	return zd_pmem_badblocks_check(pmem, sector, nr, &first, &n) == 1 && first == sector &&
	       n == nr;
}

/* What a truncation took is in the record when a request is told of it: the process may die
 * at once, and the power go. */
static void test_truncated(void **state)
{
	const char *path = tmp_path("cut");
	struct zd_pmem *pmem = start(path, 0, MIB);
	static char buf[2048 * SECTOR];

	(void)state;
	stamp(buf, 0, 2048, 1);
	assert_int_equal(wr(pmem, 0, 2048, buf), 0);
	assert_int_equal(flush(pmem), 0);
	assert_int_equal(truncate(path, 256 * KIB), 0);
	assert_int_equal(rd(pmem, 1024, 8, buf), -EIO);
	assert_true(calls.sets && calls.fsyncs_after);
	assert_int_equal(truncate(path, MIB), 0);
	pmem = kill_and_open(pmem, path);
	assert_true(is_bad(pmem, 512, 1536));
	assert_int_equal(rd(pmem, 1024, 8, buf), -EIO);
	assert_int_equal(rd(pmem, 511, 2, buf), -EIO);
	assert_int_equal(rd(pmem, 0, 512, buf), 0);
	assert_int_equal(stamped(buf + 511 * SECTOR, 511), 1);
	/* the log says so when the region is opened, in one line with its name */
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(said, path));
	assert_non_null(strstr(said, "786432 bytes"));
	zd_pmem_close(pmem);
	unlink(path);
}

/* A hold of pages, a persist, a block status, a poisoned page: each that tells of an error has
 * recorded it. */
static void test_who_tells(void **state)
{
	const char *path = tmp_path("tells");
	unsigned int flags;
	char buf[SECTOR];

	(void)state;
	for (int how = 0; how < 4; how++) {
		struct zd_pmem *pmem = start(path, 0, MIB);

		if (how == 3)
			assert_int_equal(zd_pmem_inject_poison(pmem, 1024, 8), 0);
		else
			assert_int_equal(truncate(path, 512 * KIB), 0);
		switch (how) {
		case 0:
			assert_int_equal(zd_pmem_direct_access(pmem, 128, 1, NULL, NULL), -EIO);
			break;
		case 1:
			assert_int_equal(zd_pmem_persist_range(pmem, 512 * KIB, 4096), -EIO);
			break;
		case 2:
			assert_int_equal(zd_pmem_extent(pmem, 1024, 8, &flags), -EIO);
			break;
		default:
			assert_int_equal(rd(pmem, 1025, 1, buf), -EIO);
		}
		assert_int_equal(truncate(path, MIB), 0);
		pmem = kill_and_open(pmem, path);
		assert_true(is_bad(pmem, 1024, how == 3 ? 8 : 1024));
		zd_pmem_close(pmem);
		unlink(path);
	}
}

/* The file is cut while no request is made: the close finds it. */
static void test_found_at_the_end(void **state)
{
	const char *path = tmp_path("end");
	struct zd_pmem *pmem = start(path, 0, MIB);

	(void)state;
	assert_int_equal(truncate(path, 512 * KIB), 0);
	assert_int_equal(zd_pmem_remove(pmem), -EIO);
	zd_pmem_close(pmem);
	assert_int_equal(truncate(path, MIB), 0);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_true(is_bad(pmem, 1024, 1024));
	zd_pmem_close(pmem);
	unlink(path);
}

/* Make the record look as one that was stored before the system started. */
static void other_boot(const char *path)
{
	static char buf[65536];
	ssize_t n = getxattr(path, ZD_RECORD_NAME, buf, sizeof(buf));
	uint64_t sum;

	assert_true(n >= 56);
	buf[24] ^= 2;
	sum = zd_crc32c(zd_crc32c(0, buf, 48), buf + 56, n - 56);
	memcpy(buf + 48, &sum, sizeof(sum));
	assert_int_equal(setxattr(path, ZD_RECORD_NAME, buf, n, 0), 0);
}

/* What was mended is good for the next opener after a kill; after a power loss only if it was
 * durable. */
static void test_mended(void **state)
{
	const char *path = tmp_path("mended");
	struct zd_pmem *pmem = start(path, 0, MIB);
	bool dax = pmem->media.drain_fn;
	char buf[4 * SECTOR];

	(void)state;
	assert_int_equal(zd_pmem_badblocks_set(pmem, 100, 10), 0);
	assert_int_equal(flush(pmem), 0);
	stamp(buf, 102, 4, 3);
	/* two of the sectors had been good */
	assert_int_equal(zd_pmem_badblocks_clear(pmem, 104, 2), 0);
	assert_int_equal(wr(pmem, 102, 4, buf), 0);
	assert_int_equal(rd(pmem, 102, 4, buf), 0);
	pmem = kill_and_open(pmem, path);
	assert_int_equal(rd(pmem, 102, 4, buf), 0);
	assert_int_equal(stamped(buf, 102), 3);
	assert_true(is_bad(pmem, 100, 2));
	assert_true(is_bad(pmem, 106, 4));
	zd_pmem_close(pmem);

	/* again, without the sync that the close was */
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_int_equal(flush(pmem), 0);	/* so that holes from before are durable */
	assert_int_equal(wr(pmem, 106, 2, buf), 0);
	calls.set_errno = EPERM;
	zd_pmem_close(pmem);
	calls.set_errno = 0;
	other_boot(path);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 102, 4, NULL, NULL), 0);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 106, 2, NULL, NULL), !dax);
	assert_true(is_bad(pmem, 108, 2));
	/* when the flush is done the data is durable, and the record as well */
	assert_int_equal(wr(pmem, 106, 4, buf), 0);
	assert_int_equal(flush(pmem), 0);
	assert_true(calls.fsyncs_after > 0);
	calls.set_errno = EPERM;
	zd_pmem_close(pmem);
	calls.set_errno = 0;
	other_boot(path);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 102, 100, NULL, NULL), 0);
	assert_true(is_bad(pmem, 100, 2));
	zd_pmem_close(pmem);
	unlink(path);
}

/* The file is cut while the region is closed.  Short, it isn't opened; long again, its end doesn't
 * read as zeros. */
static void test_cut_while_closed(void **state)
{
	const char *path = tmp_path("closed");
	struct zd_pmem *pmem = start(path, 0, MIB), *none;
	struct zd_pmem_attr attr = { .size = sizeof(attr) };
	char buf[SECTOR], err[512] = "";

	(void)state;
	stamp(buf, 5, 1, 1);
	assert_int_equal(wr(pmem, 5, 1, buf), 0);
	zd_pmem_close(pmem);
	assert_int_equal(truncate(path, 512 * KIB + 4096), 0);
	assert_int_equal(zd_pmem_open(path, &attr, &none, err, sizeof(err)), -EUCLEAN);
	assert_non_null(strstr(err, "truncate -s 1048576"));
	assert_int_equal(try_open(path, 0, MIB, &none), -EUCLEAN);
	assert_int_equal(try_open(path, ZD_PMEM_READONLY, 0, &none), -EUCLEAN);
	assert_int_equal(truncate(path, MIB), 0);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_true(is_bad(pmem, 1032, 1016));
	assert_int_equal(rd(pmem, 5, 1, buf), 0);
	assert_int_equal(stamped(buf, 5), 1);
	zd_pmem_close(pmem);
	/* the owner asks for a smaller region, and for a larger one again */
	assert_int_equal(truncate(path, 768 * KIB), 0);
	pmem = open_at(path, 0, 768 * KIB);
	assert_non_null(pmem);
	assert_true(is_bad(pmem, 1032, 504));
	zd_pmem_close(pmem);
	assert_int_equal(truncate(path, 2 * MIB), 0);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 1536, 2560, NULL, NULL), 0);
	zd_pmem_close(pmem);
	/* a file that was emptied isn't made anew */
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(try_open(path, ZD_PMEM_CREATE, MIB, &none), -EUCLEAN);
	assert_int_equal(truncate(path, 2 * MIB), 0);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_true(is_bad(pmem, 0, 4096));
	zd_pmem_close(pmem);
	/* another file of that name is another region */
	unlink(path);
	pmem = open_new(path, 0, 64 * KIB);
	assert_non_null(pmem);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 128, NULL, NULL), 0);
	zd_pmem_close(pmem);
	unlink(path);
}

/* However the record is damaged, it isn't taken for one of fewer sectors. */
static void test_damaged(void **state)
{
	const char *path = tmp_path("damaged");
	struct zd_pmem *pmem = start(path, 0, MIB), *none;
	uint32_t rand = test_seed() | 1;
	static char whole[65536], buf[65536];
	ssize_t n;

	(void)state;
	assert_int_equal(zd_pmem_badblocks_set(pmem, 100, 10), 0);
	assert_int_equal(zd_pmem_badblocks_set(pmem, 700, 1000), 0);
	zd_pmem_close(pmem);
	n = getxattr(path, ZD_RECORD_NAME, whole, sizeof(whole));
	assert_true(n > 0);
	for (int i = 0; i < 300; i++) {
		size_t len = n, at = test_rand(&rand) % n;

		memcpy(buf, whole, n);
		if (i % 3 == 0)
			len = at;
		else if (i % 3 == 1)
			buf[at] ^= 1 << test_rand(&rand) % 8;
		else
			len += 8;
		assert_int_equal(setxattr(path, ZD_RECORD_NAME, buf, len, 0), 0);
		assert_int_equal(try_open(path, i % 2 ? ZD_PMEM_READONLY : 0, 0, &none), -EUCLEAN);
		memset(buf, 0, sizeof(buf));
	}
	assert_int_equal(setxattr(path, ZD_RECORD_NAME, whole, n, 0), 0);
	/* a record that can't be read isn't taken for none */
	calls.get_errno = EIO;
	assert_int_equal(try_open(path, 0, 0, &none), -EIO);
	calls.get_errno = 0;
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	assert_true(is_bad(pmem, 100, 10));
	assert_true(is_bad(pmem, 700, 1000));
	zd_pmem_close(pmem);
	unlink(path);
}

/* The record can't be stored: the log says so, once, and it is tried again. */
static void test_cant_store(void **state)
{
	const char *path = tmp_path("cant");
	struct zd_pmem *pmem = start(path, 0, MIB);
	char buf[SECTOR];

	(void)state;
	calls.set_errno = EPERM;
	assert_int_equal(zd_pmem_inject_poison(pmem, 80, 8), 0);
	assert_int_equal(rd(pmem, 80, 1, buf), -EIO);
	assert_int_equal(errors, 1);
	assert_non_null(strstr(said, path));
	assert_int_equal(rd(pmem, 80, 1, buf), -EIO);
	assert_int_equal(flush(pmem), 0);
	assert_int_equal(errors, 1);
	calls.set_errno = 0;
	assert_int_equal(flush(pmem), 0);
	assert_int_equal(errors, 1);
	pmem = kill_and_open(pmem, path);
	assert_true(is_bad(pmem, 80, 8));
	zd_pmem_close(pmem);
	unlink(path);
}

/* --- in a file --- */

static void set_many(struct zd_pmem *pmem, uint64_t nr, bool bad)
{
	for (uint64_t i = 0; i < nr; i++)
		assert_int_equal(bad ? zd_badblocks_set(&pmem->media.bad, i * 1000 % 130003, 1) :
				       zd_badblocks_clear(&pmem->media.bad, i * 1000 % 130003, 1,
							  ZD_BAD_ALWAYS),
				 0);
	zd_media_record(&pmem->media, ZD_RECORD_ALL);
}

static void check_many(struct zd_pmem *pmem, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		assert_int_equal(zd_pmem_badblocks_check(pmem, i * 1000 % 130003, 1, NULL, NULL),
				 1);
}

/* More than an attribute holds: the list moves to a file, and back. */
static void test_many(void **state)
{
	const char *path = tmp_path("many");
	struct zd_pmem *pmem = start(path, 0, 64 * MIB), *none;
	char file[600], aside[600];

	(void)state;
	snprintf(file, sizeof(file), "%s" ZD_RECORD_FILE, path);
	snprintf(aside, sizeof(aside), "%s.aside", path);
	set_many(pmem, 40000, true);
	assert_int_equal(access(file, F_OK), 0);
	pmem = close_and_open(pmem, path);
	assert_int_equal(pmem->media.bad.nr, 40000);
	check_many(pmem, 40000);
	zd_pmem_close(pmem);
	/* the region isn't opened without its list, nor with a damaged one */
	assert_int_equal(rename(file, aside), 0);
	assert_int_equal(try_open(path, 0, 0, &none), -EUCLEAN);
	assert_int_equal(rename(aside, file), 0);
	assert_int_equal(truncate(file, 5000), 0);
	assert_int_equal(try_open(path, 0, 0, &none), -EUCLEAN);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(removexattr(path, ZD_RECORD_NAME), 0);
	pmem = open_at(path, 0, 0);
	assert_non_null(pmem);
	set_many(pmem, 40000, true);
	set_many(pmem, 39990, false);
	assert_int_equal(access(file, F_OK), -1);
	pmem = close_and_open(pmem, path);
	assert_int_equal(pmem->media.bad.nr, 10);
	zd_pmem_close(pmem);
	unlink(path);
}

/* Where there are no attributes. */
static void test_no_attributes(void **state)
{
	const char *path = tmp_path("plain");
	char file[600], buf[SECTOR];
	struct zd_pmem *pmem = start(path, 0, MIB), *none;

	(void)state;
	zd_pmem_close(pmem);
	unlink(path);
	calls.set_errno = calls.get_errno = EOPNOTSUPP;
	snprintf(file, sizeof(file), "%s" ZD_RECORD_FILE, path);
	pmem = open_new(path, 0, MIB);
	assert_non_null(pmem);
	assert_int_equal(flush(pmem), 0);
	assert_int_equal(access(file, F_OK), -1);	/* nothing is lost */
	assert_int_equal(zd_pmem_inject_poison(pmem, 80, 8), 0);
	assert_int_equal(rd(pmem, 80, 1, buf), -EIO);
	assert_int_equal(errors, 0);
	assert_int_equal(access(file, F_OK), 0);
	pmem = close_and_open(pmem, path);
	assert_true(is_bad(pmem, 80, 8));
	zd_pmem_close(pmem);
	/* the list of another file is neither taken nor thrown away */
	unlink(path);
	assert_int_equal(try_open(path, ZD_PMEM_CREATE, MIB, &none), -EUCLEAN);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(unlink(file), 0);
	/* a link is no list: it may lead anywhere */
	assert_int_equal(symlink("/dev/zero", file), 0);
	assert_int_equal(try_open(path, ZD_PMEM_CREATE, MIB, &none), -ELOOP);
	assert_int_equal(unlink(file), 0);
	/* when the file is deleted while it is open there is no place for a record */
	pmem = open_new(path, 0, MIB);
	assert_non_null(pmem);
	unlink(path);
	errors = 0;
	assert_int_equal(zd_pmem_inject_poison(pmem, 80, 8), 0);
	assert_int_equal(rd(pmem, 80, 1, buf), -EIO);
	assert_int_equal(errors, 1);
	zd_pmem_close(pmem);
}

/* Readers that share a region: what one of them finds the others don't undo. */
static void test_sharers(void **state)
{
	const char *path = tmp_path("sharers");
	struct zd_pmem *a = start(path, 0, MIB), *b;
	struct flock turn = { .l_type = F_WRLCK, .l_start = ZD_LOCK_BYTES, .l_len = 1 };
	char buf[SECTOR];
	int fd;

	(void)state;
	zd_pmem_close(a);
	a = open_at(path, ZD_PMEM_READONLY, 0);
	b = open_at(path, ZD_PMEM_READONLY, 0);
	assert_true(a && b);
	assert_int_equal(zd_pmem_inject_poison(a, 80, 8), 0);
	assert_int_equal(zd_pmem_inject_poison(b, 160, 8), 0);
	assert_int_equal(rd(a, 80, 1, buf), -EIO);
	assert_int_equal(rd(b, 160, 1, buf), -EIO);
	assert_int_equal(rd(b, 80, 1, buf), -EIO);	/* learnt by its own store */
	/* the lock by which they take turns isn't their own lock of the file */
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_GETLK, &turn), 0);
	assert_int_equal(turn.l_type, F_UNLCK);
	turn = (struct flock){ .l_type = F_WRLCK, .l_len = 1 };
	assert_int_equal(fcntl(fd, F_OFD_GETLK, &turn), 0);
	assert_int_equal(turn.l_type, F_RDLCK);
	close(fd);
	zd_pmem_close(a);
	zd_pmem_close(b);
	a = open_at(path, 0, 0);
	assert_non_null(a);
	assert_true(is_bad(a, 80, 8));
	assert_true(is_bad(a, 160, 8));
	zd_pmem_close(a);
	unlink(path);
}

/* A memfd of the region's own goes with the handle: no record, and no warning. */
static void test_memfd(void **state)
{
	struct zd_pmem *pmem;
	char buf[SECTOR];

	(void)state;
	memset(&calls, 0, sizeof(calls));
	pmem = open_at("memfd:record", 0, MIB);
	assert_non_null(pmem);
	errors = warnings = 0;
	assert_int_equal(zd_pmem_inject_poison(pmem, 80, 8), 0);
	assert_int_equal(rd(pmem, 80, 1, buf), -EIO);
	assert_int_equal(wr(pmem, 80, 1, buf), 0);
	assert_int_equal(flush(pmem), 0);
	zd_pmem_close(pmem);
	assert_int_equal(errors + warnings, 0);
	assert_int_equal(calls.sets, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_who_tells),
		cmocka_unit_test(test_found_at_the_end),
		cmocka_unit_test(test_mended),
		cmocka_unit_test(test_cut_while_closed),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_cant_store),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_no_attributes),
		cmocka_unit_test(test_sharers),
		cmocka_unit_test(test_memfd),
	};

	zd_set_log(listen, NULL);
	return RUN_BOTH(tests);
}
