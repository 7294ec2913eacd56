/* SPDX-License-Identifier: MIT */
/* Media that fail: bad blocks, poison, truncation, a full file system. */
#include "pmem_test.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include "drivers/pmem/pmem.h"

/* --- the list, against a bitmap --- */

#define SECTORS	600u

static void check_against(struct zd_badblocks *bb, const bool *bad, uint64_t from, uint64_t nr)
{
	uint64_t first = from, end, got_first = 0, got_nr = 0;

	while (first < from + nr && !bad[first])
		first++;
	for (end = first; end < from + nr && bad[end]; end++)
		;
	assert_int_equal(zd_badblocks_check(bb, from, nr, &got_first, &got_nr), first < from + nr);
	if (first < from + nr) {
		assert_int_equal(got_first, first);
		assert_int_equal(got_nr, end - first);
	}
}

static void test_list(void **state)
{
	struct zd_badblocks bb = { 0 };
	uint32_t rand = test_seed() | 1;
	bool bad[SECTORS] = { false };
	uint32_t runs = 0;
	uint64_t sets, marks;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t from = test_rand(&rand) % SECTORS, nr = test_rand(&rand) % 40;
		bool set = test_rand(&rand) % 2;

		if (nr > SECTORS - from)
			nr = SECTORS - from;
		assert_int_equal(set ? zd_badblocks_set(&bb, from, nr) :
				       zd_badblocks_clear(&bb, from, nr, ZD_BAD_ALWAYS),
				 0);
		memset(bad + from, set, nr);
		check_against(&bb, bad, test_rand(&rand) % SECTORS / 2, test_rand(&rand) % 100);
	}
	/* no two ranges touch */
	for (uint32_t i = 0; i < SECTORS; i++)
		runs += bad[i] && (!i || !bad[i - 1]);
	assert_int_equal(bb.nr, runs);
	/* not if any sector was marked since, new or not */
	sets = zd_badblocks_sets(&bb);
	assert_int_equal(zd_badblocks_set(&bb, 7, 1), 0);
	if (zd_badblocks_sets(&bb) == sets)	/* the sector was listed already */
		assert_true(bad[7]);
	sets = zd_badblocks_sets(&bb);
	marks = zd_badblocks_marks(&bb);
	assert_int_equal(zd_badblocks_set(&bb, 7, 1), 0);
	assert_int_equal(zd_badblocks_sets(&bb), sets);
	assert_int_equal(zd_badblocks_clear(&bb, 7, 1, marks), 0);
	assert_int_equal(zd_badblocks_check(&bb, 7, 1, NULL, NULL), 1);
	assert_int_equal(zd_badblocks_clear(&bb, 7, 1, marks + 1), 0);
	assert_int_equal(zd_badblocks_check(&bb, 7, 1, NULL, NULL), 0);
	assert_int_equal(zd_badblocks_clear(&bb, 0, SECTORS, ZD_BAD_ALWAYS), 0);
	assert_false(zd_badblocks_any(&bb));
	zd_badblocks_exit(&bb);
}

/* --- requests on failing media --- */

static uint64_t bad_sector;

static void end_io(struct zd_pmem_request *req, int error)
{
	*(int *)req->private_data = error;
	bad_sector = req->bad_sector;
}

static int request_at(struct zd_pmem *pmem, enum zd_pmem_op op, uint64_t sector, uint64_t nr,
		      void *buf)
{
	struct iovec iov = { buf, nr * SECTOR };
	int error = 1;
	struct zd_pmem_request r = { .op = op,
				     .sector = sector,
				     .nr_sectors = nr,
				     .iov = &iov, .nr_iov = 1, .end_io = end_io,
				     .private_data = &error };

	zd_pmem_submit(pmem, &r);
	return error;
}

static int read_at(struct zd_pmem *pmem, uint64_t sector, uint64_t nr, void *buf)
{
	return request_at(pmem, ZD_PMEM_READ, sector, nr, buf);
}

static void test_poison(void **state)
{
	const char *path = tmp_path("poison");
	struct zd_pmem *pmem = open_new(path, 0, MIB);
	static char buf[64 * SECTOR];
	uint64_t first, nr;

	(void)state;
	assert_non_null(pmem);
	stamp(buf, 0, 64, 1);
	assert_int_equal(wr(pmem, 0, 64, buf), 0);
	assert_int_equal(zd_pmem_inject_poison(pmem, 17, 1), 0);	/* its whole page */
	assert_int_equal(zd_pmem_inject_poison(pmem, 2040, 9), -EINVAL);
	/* the page wasn't touched yet */
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 2048, NULL, NULL), 0);

	memset(buf, 0, sizeof(buf));
	assert_int_equal(read_at(pmem, 3, 50, buf), -EIO);
	assert_int_equal(bad_sector, 16);
	for (uint64_t s = 3; s < 16; s++)	/* what comes before is there */
		assert_int_equal(stamped(buf + (s - 3) * SECTOR, s), 1);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 2048, &first, &nr), 1);
	assert_int_equal(first, 16);
	assert_int_equal(nr, 8);
	assert_int_equal(read_at(pmem, 20, 1, buf), -EIO);
	assert_int_equal(bad_sector, 20);
	assert_int_equal(rd(pmem, 24, 8, buf), 0);
	assert_int_equal(rd(pmem, 0, 16, buf), 0);
	assert_int_equal(zd_pmem_direct_access(pmem, 2, 1, NULL, NULL), -EIO);
	assert_int_equal(zd_pmem_direct_access(pmem, 0, 9, NULL, (zd_pfn_t[1]){ 0 }), 2);
	zd_pmem_direct_release(pmem, pmem->info.pfn, 2);

	/* one sector written is one sector healed: the others are lost */
	stamp(buf, 18, 1, 2);
	assert_int_equal(wr(pmem, 18, 1, buf), 0);
	assert_int_equal(rd(pmem, 18, 1, buf), 0);
	assert_int_equal(stamped(buf, 18), 2);
	assert_int_equal(read_at(pmem, 18, 2, buf), -EIO);
	assert_int_equal(bad_sector, 19);
	assert_int_equal(rd(pmem, 17, 1, buf), -EIO);
	/* this page wasn't touched before: its other sectors are lost all the same */
	assert_int_equal(zd_pmem_inject_poison(pmem, 40, 1), 0);
	assert_int_equal(wr(pmem, 44, 1, buf), 0);
	assert_int_equal(rd(pmem, 44, 1, buf), 0);
	assert_int_equal(read_at(pmem, 40, 8, buf), -EIO);
	assert_int_equal(bad_sector, 40);
	stamp(buf, 40, 8, 1);
	assert_int_equal(wr(pmem, 40, 8, buf), 0);
	/* zeros heal as well */
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE_ZEROES, 0, 16, 2, NULL), 0);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 19, 5, NULL), 0);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 2048, NULL, NULL), 0);
	assert_int_equal(rd(pmem, 0, 64, buf), 0);
	for (uint64_t s = 0; s < 64; s++)
		assert_int_equal(stamped(buf + s * SECTOR, s), s == 18 ? 2 : s < 16 || s > 23);
	zd_pmem_close(pmem);
	unlink(path);
}

/* Beyond the file's end nothing reads as zeros, whatever the kernel shows there. */
static void test_truncate(void **state)
{
	static const uint64_t sizes[] = { 40 * KIB, 40 * KIB + 1, 40 * KIB + 512, 44 * KIB - 100 };
	const char *path = tmp_path("truncate");
	static char buf[2048 * SECTOR], old[2048 * SECTOR];

	(void)state;
	stamp(old, 0, 2048, 9);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct zd_pmem *pmem = open_new(path, 0, MIB);
		uint64_t good = sizes[i] / SECTOR;
		unsigned int flags;

		assert_non_null(pmem);
		assert_int_equal(wr(pmem, 0, 2048, old), 0);
		assert_int_equal(truncate(path, sizes[i]), 0);
		/* stores into the page that was cut don't fault, and are lost all the same */
		assert_int_equal(request_at(pmem, ZD_PMEM_WRITE, 80, 20, old + 80 * SECTOR), -EIO);
		assert_int_equal(bad_sector, good);
		for (uint64_t s = 70; s < 100; s++)
			assert_int_equal(rd(pmem, s, 1, buf), s < good ? 0 : -EIO);
		memset(buf, 0, sizeof(buf));
		assert_int_equal(read_at(pmem, 0, 2048, buf), -EIO);
		assert_int_equal(bad_sector, good);
		assert_memory_equal(buf, old, good * SECTOR);
		assert_int_equal(wr(pmem, good, 1, old), -EIO);
		assert_int_equal(wr(pmem, 2047, 1, old), -EIO);
		assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_WRITE_ZEROES, 0, 100, 100, NULL), -EIO);
		assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 100, 100, NULL), -EIO);
		/* and the write must not have made the file longer */
		assert_int_equal(lseek(pmem->media.program_fd, 0, SEEK_END), sizes[i]);
		assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL), -EIO);
		assert_int_equal(zd_pmem_persist_range(pmem, 512 * KIB, 1), -EIO);
		assert_int_equal(zd_pmem_direct_access(pmem, 200, 1, NULL, NULL), -EIO);
		assert_int_equal(zd_pmem_extent(pmem, 1000, 10, &flags), -EIO);
		assert_int_equal(wr(pmem, 1, 1, old + SECTOR), 0);

		/* the file grows back: what was lost stays lost until it is written */
		assert_int_equal(truncate(path, MIB), 0);
		assert_int_equal(rd(pmem, good, 1, buf), -EIO);
		assert_int_equal(rd(pmem, 2000, 1, buf), -EIO);
		/* and isn't told as a hole */
		assert_int_equal(zd_pmem_extent(pmem, 1000, 10, &flags), 10);
		assert_int_equal(flags, 0);
		assert_int_equal(wr(pmem, good, 2048 - good, old + good * SECTOR), 0);
		assert_int_equal(rd(pmem, 0, 2048, buf), 0);
		assert_memory_equal(buf, old, sizeof(buf));
		zd_pmem_close(pmem);
	}
	unlink(path);
}

static const char *grown;

/* The file gets its length back between the copy and the question how long it is: by that, what
 * was stored beyond the short end becomes zeros. */
static void grow(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	(void)m;
	(void)off;
	(void)len;
	if (what == ZD_MEDIA_STORE)
		assert_int_equal(truncate(grown, MIB), 0);
}

/* A file that has become longer has lost nothing, also if its length doesn't fit an int. */
static void test_grown(void **state)
{
	const char *path = tmp_path("longer");
	struct zd_pmem *pmem = open_new(path, 0, MIB);
	char buf[SECTOR];

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(truncate(path, 4ull << 30), 0);
	stamp(buf, 9, 1, 1);
	assert_int_equal(wr(pmem, 9, 1, buf), 0);
	assert_int_equal(rd(pmem, 9, 1, buf), 0);
	assert_int_equal(stamped(buf, 9), 1);
	assert_int_equal(truncate(path, (4ull << 30) + 4096), 0);
	assert_int_equal(rd(pmem, 9, 1, buf), 0);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 2048, NULL, NULL), 0);
	zd_pmem_close(pmem);
	unlink(path);
}

static struct zd_pmem *cut_region;

/* The file is cut in the middle of a write to sectors that are bad already; another thread sees
 * that, but adds nothing new to the list; and the file has its length back in time. */
static void cut_again(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	char buf[SECTOR];

	(void)off;
	(void)len;
	if (what != ZD_MEDIA_STORE)
		return;
	zd_media_hook = NULL;
	assert_int_equal(ftruncate(m->fd, 41 * KIB), 0);
	assert_int_equal(zd_pmem_rw(cut_region, ZD_PMEM_FLUSH, 0, 0, 0, NULL), -EIO);
	assert_int_equal(rd(cut_region, 90, 1, buf), -EIO);
	assert_int_equal(ftruncate(m->fd, MIB), 0);
}

/* Writes to the page that a truncation cut: nothing faults there. */
static void test_truncate_write(void **state)
{
	static char buf[SECTOR];
	struct zd_pmem *pmem;

	(void)state;
	grown = tmp_path("cut");
	pmem = open_new(grown, 0, MIB);
	assert_non_null(pmem);
	stamp(buf, 82, 1, 1);
	assert_int_equal(wr(pmem, 82, 1, buf), 0);
	assert_int_equal(truncate(grown, 41 * KIB), 0);
	/* the first touch of the page is a write */
	assert_int_equal(wr(pmem, 82, 1, buf), -EIO);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 82, 1, NULL, NULL), 1);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 82, NULL, NULL), 0);
	zd_media_hook = grow;
	assert_int_equal(wr(pmem, 82, 1, buf), -EIO);
	zd_media_hook = NULL;
	assert_int_equal(truncate(grown, MIB), 0);
	assert_int_equal(rd(pmem, 82, 1, buf), -EIO);
	/* a write that heals must not be fooled either */
	cut_region = pmem;
	zd_media_hook = cut_again;
	stamp(buf, 82, 1, 3);
	assert_int_equal(wr(pmem, 82, 1, buf), 0);
	assert_null(zd_media_hook);
	assert_int_equal(rd(pmem, 82, 1, buf), 0);
	assert_int_equal(stamped(buf, 82), 3);
	stamp(buf, 82, 1, 1);
	assert_int_equal(wr(pmem, 82, 1, buf), 0);
	assert_int_equal(rd(pmem, 82, 1, buf), 0);
	assert_int_equal(stamped(buf, 82), 1);
	zd_pmem_close(pmem);
	unlink(grown);
}

/* The buffer fails, not the medium. */
static void test_buffer(void **state)
{
	struct zd_pmem *pmem = open_at("memfd:buffer", 0, MIB);
	int fd = memfd_create("buffer", MFD_CLOEXEC);
	char *buf, first[SECTOR], back[SECTOR];

	(void)state;
	assert_non_null(pmem);
	assert_int_equal(ftruncate(fd, 4096), 0);
	buf = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	stamp(first, 0, 1, 4);
	assert_int_equal(wr(pmem, 0, 1, first), 0);
	assert_int_equal(wr(pmem, 0, 16, buf), -EFAULT);
	assert_int_equal(rd(pmem, 8, 16, buf), -EFAULT);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 2048, NULL, NULL), 0);
	assert_int_equal(wr(pmem, 0, 1, first), 0);
	assert_int_equal(rd(pmem, 0, 1, back), 0);
	assert_memory_equal(first, back, SECTOR);
	munmap(buf, 8192);
	close(fd);
	zd_pmem_close(pmem);
}

/* The buffer is in the region itself: it matters which of the two pages has failed. */
static void test_own_buffer(void **state)
{
	struct zd_pmem *pmem = open_at("memfd:own", 0, MIB);
	char first[SECTOR], *kaddr;
	zd_pfn_t pfn;

	(void)state;
	assert_non_null(pmem);
	stamp(first, 0, 1, 4);
	assert_int_equal(wr(pmem, 0, 1, first), 0);
	assert_int_equal(zd_pmem_direct_access(pmem, 5, 1, (void **)&kaddr, &pfn), 1);
	assert_int_equal(zd_pmem_inject_poison(pmem, 40, 1), 0);
	assert_int_equal(wr(pmem, 0, 1, kaddr), -EFAULT);
	assert_int_equal(rd(pmem, 0, 1, kaddr), -EFAULT);
	/* the bad page isn't healed by that, nor is a good one bad */
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 2048, NULL, NULL), 0);
	assert_int_equal(rd(pmem, 40, 1, first), -EIO);
	assert_int_equal(rd(pmem, 0, 1, first), 0);
	zd_pmem_direct_release(pmem, pfn, 1);
	zd_pmem_close(pmem);
}

/* A sparse file on a full file system: -ENOSPC, nothing is bad, and when there is room
 * again the same write goes through. */
static void test_full(void **state)
{
	const char *dir = tmp_path("small");
	char path[600], other[600];
	static char buf[4 * MIB];
	struct zd_pmem *pmem;
	uint64_t written = 0;
	int rc = 0, fd;

	(void)state;
	assert_int_equal(mkdir(dir, 0700), 0);
	if (mount("small", dir, "tmpfs", 0, "size=2M")) {
		rmdir(dir);
		print_message("can't mount a tmpfs: left out\n");
		return;
	}
	snprintf(path, sizeof(path), "%s/region", dir);
	snprintf(other, sizeof(other), "%s/other", dir);
	fd = open(other, O_CREAT | O_RDWR, 0600);
	assert_int_equal(fallocate(fd, 0, 0, MIB), 0);
	close(fd);
	pmem = open_new(path, 0, 4 * MIB);
	assert_non_null(pmem);
	stamp(buf, 0, 8192, 1);
	for (uint64_t s = 0; s < 8192 && !rc; s += 64) {
		rc = wr(pmem, s, 64, buf + s * SECTOR);
		written = s;
	}
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 8192, NULL, NULL), 0);
	/* a hole is zeros, also where even a load of one takes storage */
	memset(buf, 1, 64 * SECTOR);
	assert_int_equal(rd(pmem, written + 64, 64, buf), 0);
	assert_true(all_zero(buf, 64 * SECTOR));
	assert_int_equal(zd_pmem_badblocks_check(pmem, 0, 8192, NULL, NULL), 0);
	assert_int_equal(rd(pmem, 0, written, buf), 0);
	for (uint64_t s = 0; s < written; s++)
		assert_int_equal(stamped(buf + s * SECTOR, s), 1);
	stamp(buf, written, 64, 2);
	assert_int_equal(unlink(other), 0);
	assert_int_equal(wr(pmem, written, 64, buf), 0);
	assert_int_equal(rd(pmem, written + 63, 1, buf), 0);
	assert_int_equal(stamped(buf, written + 63), 2);
	zd_pmem_close(pmem);
	assert_int_equal(umount(dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),	   cmocka_unit_test(test_poison),
		cmocka_unit_test(test_truncate),   cmocka_unit_test(test_truncate_write),
		cmocka_unit_test(test_grown),	   cmocka_unit_test(test_buffer),
		cmocka_unit_test(test_own_buffer), cmocka_unit_test(test_full),
	};

	return RUN_BOTH(tests);
}
