/* SPDX-License-Identifier: MIT */
/* The BTT: its layout, what it reads and writes, what opening it again finds. */
#include "pmem_test.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include "drivers/btt/btt.h"
#include "drivers/pmem/pmem.h"

#define BYTES	(4 * MIB)

static uint32_t rand_state;

static struct zd_pmem *open_btt(const char *path, uint32_t block)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr),
				     .flags = ZD_PMEM_BTT | ZD_PMEM_CREATE,
				     .bytes = BYTES,
				     .btt_block = block };
	struct zd_pmem *pmem = NULL;
	char err[256];
	int rc = zd_pmem_open(path, &attr, &pmem, err, sizeof(err));

	if (rc)
		fprintf(stderr, "%d: %s\n", rc, err);
	return pmem;
}

/* Each data block belongs to one block or to one lane. */
static void check_owners(struct zd_pmem *pmem)
{
	struct zd_btt *btt = pmem->btt;
	uint64_t total = btt->nr_blocks + btt->nr_lanes;
	uint8_t *owned = calloc(total, 1);

	for (uint64_t b = 0; b < btt->nr_blocks; b++) {
		uint64_t entry = *(uint64_t *)(btt->m->base + zd_btt_map_off(btt, b));

		owned[zd_btt_data_block(entry)]++;
	}
	for (uint32_t l = 0; l < btt->nr_lanes; l++)
		owned[btt->lanes[l].free]++;
	for (uint64_t i = 0; i < total; i++)
		assert_int_equal(owned[i], 1);
	free(owned);
}

static void random_requests(struct zd_pmem *pmem, char *model, char *buf, uint64_t sectors,
			    int rounds)
{
	for (int i = 0; i < rounds; i++) {
		uint64_t s = test_rand(&rand_state) % sectors;
		uint64_t nr = test_rand(&rand_state) % 3 ? 1 + test_rand(&rand_state) % 9 :
							   1 + test_rand(&rand_state) % 300;

		if (nr > sectors - s)
			nr = sectors - s;
		switch (test_rand(&rand_state) % 6) {
		case 0:
			assert_int_equal(zd_pmem_rw(pmem,
						    i % 2 ? ZD_PMEM_WRITE_ZEROES : ZD_PMEM_DISCARD,
						    0, s, nr, NULL),
					 0);
			memset(model + s * SECTOR, 0, nr * SECTOR);
			break;
		case 1:
		case 2:
			assert_int_equal(rd(pmem, s, nr, buf), 0);
			assert_memory_equal(buf, model + s * SECTOR, nr * SECTOR);
			break;
		default:
			stamp(model + s * SECTOR, s, nr, 1 + i);
			assert_int_equal(wr(pmem, s, nr, model + s * SECTOR), 0);
			break;
		}
	}
}

static void test_model(void **state)
{
	static const uint32_t blocks[] = { 4096, 512 };
	char *model = calloc(1, BYTES), *buf = malloc(BYTES);
	const char *path = tmp_path("model");

	(void)state;
	rand_state = test_seed() | 1;
	for (int k = 0; k < 2; k++) {
		struct zd_pmem *pmem;
		struct zd_pmem_info info;

		unlink(path);
		memset(model, 0, BYTES);
		for (int round = 0; round < 4; round++) {
			/* the block size of the layout counts, not the one that is asked for */
			pmem = open_btt(path, round ? 0 : blocks[k]);
			assert_non_null(pmem);
			zd_pmem_get_info(pmem, &info);
			assert_int_equal(info.atomic_bytes, blocks[k]);
			assert_int_equal(info.flags, ZD_PMEM_BTT);
			assert_int_equal(info.nr_sectors % 8, 0);
			assert_true(info.nr_sectors * SECTOR > BYTES - 512 * KIB);
			check_owners(pmem);
			assert_int_equal(rd(pmem, 0, info.nr_sectors, buf), 0);
			assert_memory_equal(buf, model, info.nr_sectors * SECTOR);
			random_requests(pmem, model, buf, info.nr_sectors, 300);
			check_owners(pmem);
			zd_pmem_close(pmem);
		}
	}
	unlink(path);
	free(model);
	free(buf);
}

/* Each block is in one piece at any time, while other threads read and write. */
struct worker {
	struct zd_pmem *pmem;
	uint32_t seed;
	uint32_t *stop;
	const char *wrong;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t sectors = 64 * 8;
	char buf[4 * 4096];

	while (!__atomic_load_n(w->stop, __ATOMIC_RELAXED) && !w->wrong) {
		uint64_t first = test_rand(&w->seed) % (sectors / 8 - 4) * 8, nr = 32;
		uint32_t gen = test_rand(&w->seed) & 0xffffff;

		if (test_rand(&w->seed) % 2) {
			stamp(buf, first, nr, gen ? gen : 1);
			if (wr(w->pmem, first, nr, buf))
				w->wrong = "write failed";
			continue;
		}
		if (rd(w->pmem, first, nr, buf))
			w->wrong = "read failed";
		for (uint64_t s = first; s < first + nr; s++) {
			int64_t g = stamped(buf + (s - first) * SECTOR, s);

			if (g < 0)
				w->wrong = "torn sector";
			if (g != stamped(buf + (s / 8 * 8 - first) * SECTOR, s / 8 * 8))
				w->wrong = "torn block";
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	const char *path = tmp_path("threads");
	struct zd_pmem *pmem;
	struct worker w[4];
	pthread_t t[4];
	uint32_t stop = 0;

	(void)state;
	unlink(path);
	pmem = open_btt(path, 4096);
	assert_non_null(pmem);
	for (int i = 0; i < 4; i++) {
		w[i] = (struct worker){ .pmem = pmem,
					.seed = test_seed() + i * 77 + 1,
					.stop = &stop };
		assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	usleep(500000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(t[i], NULL), 0);
		assert_null(w[i].wrong);
	}
	check_owners(pmem);
	zd_pmem_close(pmem);
	unlink(path);
}

/* Fewer lanes than threads that wait for them. */
static void test_lanes(void **state)
{
	const char *path = tmp_path("lanes");
	struct zd_pmem *pmem;
	struct zd_btt *btt;
	static char buf[64 * KIB];

	(void)state;
	unlink(path);
	pmem = open_btt(path, 4096);
	assert_non_null(pmem);
	btt = pmem->btt;
	btt->ring_nr = 3;		/* as if other threads had the rest */
	stamp(buf, 0, 128, 6);
	assert_int_equal(wr(pmem, 0, 128, buf), 0);
	assert_int_equal(rd(pmem, 0, 128, buf), 0);
	for (uint64_t s = 0; s < 128; s++)
		assert_int_equal(stamped(buf + s * SECTOR, s), 6);
	assert_int_equal(btt->ring_nr, 3);
	zd_pmem_close(pmem);
	unlink(path);
}

static void scribble(const char *path, uint64_t off, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char junk[4096];

	memset(junk, 0x5a, sizeof(junk));
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, junk, len, off), len);
	close(fd);
}

static int reopen(const char *path, unsigned int flags)
{
	struct zd_pmem *pmem;
	int rc = try_open(path, flags, 0, &pmem);

	if (!rc)
		zd_pmem_close(pmem);
	return rc;
}

static void test_open(void **state)
{
	const char *path = tmp_path("open");
	char buf[SECTOR];
	struct zd_pmem *pmem;
	struct zd_btt btt;

	(void)state;
	unlink(path);
	assert_int_equal(try_open(path, ZD_PMEM_CREATE | ZD_PMEM_BTT, 64 * KIB, &pmem), -EINVAL);
	/* the file was made in vain, and is gone again */
	assert_int_equal(access(path, F_OK), -1);
	/* data isn't overwritten, unless that is asked for */
	pmem = open_new(path, 0, BYTES);
	stamp(buf, 4000, 1, 1);
	assert_int_equal(wr(pmem, 4000, 1, buf), 0);
	zd_pmem_close(pmem);
	assert_int_equal(reopen(path, ZD_PMEM_BTT), -EEXIST);
	assert_int_equal(reopen(path, ZD_PMEM_BTT | ZD_PMEM_READONLY), -ENOENT);
	assert_int_equal(reopen(path, 0), 0);
	pmem = open_at(path, ZD_PMEM_BTT | ZD_PMEM_FORCE, 0);
	assert_non_null(pmem);
	btt = *pmem->btt;
	assert_int_equal(rd(pmem, 4000, 1, buf), 0);
	assert_true(all_zero(buf, SECTOR));
	stamp(buf, 7, 1, 2);
	assert_int_equal(wr(pmem, 7, 1, buf), 0);
	zd_pmem_close(pmem);
	assert_int_equal(reopen(path, 0), -EMEDIUMTYPE);
	assert_int_equal(reopen(path, ZD_PMEM_FORCE), 0);
	assert_int_equal(reopen(path, ZD_PMEM_BTT | ZD_PMEM_READONLY), 0);

	/* any info block is enough, and mends the others */
	for (int keep = 0; keep < 3; keep++) {
		for (int k = 0; k < 3; k++)
			if (k != keep)
				scribble(path, btt.info.info_off[k] + 100, k ? 50 : 3996);
		assert_int_equal(reopen(path, ZD_PMEM_BTT | ZD_PMEM_READONLY), 0);
		assert_int_equal(reopen(path, 0), -EMEDIUMTYPE);
		assert_int_equal(reopen(path, ZD_PMEM_BTT), 0);
	}
	for (int k = 0; k < 3; k++)
		scribble(path, btt.info.info_off[k] + 16, 4);
	assert_int_equal(reopen(path, ZD_PMEM_BTT), -EUCLEAN);
	unlink(path);
}

/* A region of another size than its BTT was laid out for isn't opened. */
static void test_resized(void **state)
{
	const char *path = tmp_path("resized");
	struct zd_pmem *pmem;

	(void)state;
	unlink(path);
	pmem = open_btt(path, 0);
	assert_non_null(pmem);
	zd_pmem_close(pmem);
	assert_int_equal(truncate(path, 2 * BYTES), 0);
	assert_int_equal(reopen(path, ZD_PMEM_BTT), -EUCLEAN);
	assert_int_equal(reopen(path, 0), -EMEDIUMTYPE);
	assert_int_equal(truncate(path, BYTES), 0);
	assert_int_equal(reopen(path, ZD_PMEM_BTT), 0);
	unlink(path);
}

/* A step 3 that was lost is done by an opening for writing, and not by a read-only one. */
static void test_redo(void **state)
{
	static char image[BYTES];
	const char *path = tmp_path("redo");
	uint64_t map_off, old, now;
	struct zd_pmem *pmem;
	char buf[4096];
	int fd;

	(void)state;
	unlink(path);
	pmem = open_btt(path, 4096);
	assert_non_null(pmem);
	map_off = zd_btt_map_off(pmem->btt, 5);
	stamp(buf, 40, 8, 1);
	assert_int_equal(wr(pmem, 40, 8, buf), 0);
	old = *(uint64_t *)(pmem->media.base + map_off);
	stamp(buf, 40, 8, 2);
	assert_int_equal(wr(pmem, 40, 8, buf), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	/* as if the process had been killed */
	assert_int_equal(pread(fd, image, BYTES, 0), BYTES);
	zd_pmem_close(pmem);
	assert_int_equal(pwrite(fd, image, BYTES, 0), BYTES);
	assert_int_equal(pread(fd, &now, 8, map_off), 8);
	assert_int_equal(pwrite(fd, &old, 8, map_off), 8);
	assert_int_equal(reopen(path, ZD_PMEM_BTT | ZD_PMEM_READONLY), -EUCLEAN);
	pmem = open_btt(path, 0);
	assert_non_null(pmem);
	check_owners(pmem);
	assert_int_equal(rd(pmem, 40, 8, buf), 0);
	for (uint64_t s = 40; s < 48; s++)
		assert_int_equal(stamped(buf + (s - 40) * SECTOR, s), 2);
	zd_pmem_close(pmem);
	assert_int_equal(pread(fd, &old, 8, map_off), 8);
	assert_int_equal(old, now);
	close(fd);
	unlink(path);
}

static void test_extent(void **state)
{
	const char *path = tmp_path("extent");
	struct zd_pmem *pmem;
	static char buf[64 * KIB];
	unsigned int flags;

	(void)state;
	unlink(path);
	pmem = open_btt(path, 4096);
	assert_non_null(pmem);
	stamp(buf, 100, 100, 1);
	assert_int_equal(wr(pmem, 100, 100, buf), 0);
	assert_int_equal(zd_pmem_extent(pmem, 0, 1000, &flags), 96);
	assert_int_equal(flags, ZD_PMEM_EXTENT_HOLE | ZD_PMEM_EXTENT_ZERO);
	assert_int_equal(zd_pmem_extent(pmem, 99, 1000, &flags), 101);
	assert_int_equal(flags, 0);
	assert_int_equal(zd_pmem_extent(pmem, 120, 5, &flags), 5);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 128, 32, NULL), 0);
	assert_int_equal(zd_pmem_extent(pmem, 120, 1000, &flags), 8);
	assert_int_equal(zd_pmem_extent(pmem, 128, 1000, &flags), 32);
	assert_true(flags & ZD_PMEM_EXTENT_ZERO);
	zd_pmem_close(pmem);
	unlink(path);
}

/* A bad data block fails its block alone; a new content heals it. */
static void test_bad(void **state)
{
	const char *path = tmp_path("bad");
	struct zd_pmem *pmem;
	static char buf[64 * KIB];
	uint64_t media, entry;

	(void)state;
	unlink(path);
	pmem = open_btt(path, 4096);
	assert_non_null(pmem);
	stamp(buf, 0, 128, 1);
	assert_int_equal(wr(pmem, 0, 128, buf), 0);
	entry = *(uint64_t *)(pmem->media.base + zd_btt_map_off(pmem->btt, 3));
	media = zd_btt_data_off(pmem->btt, zd_btt_data_block(entry)) / SECTOR;
	assert_int_equal(zd_pmem_inject_poison(pmem, media, 1), 0);
	assert_int_equal(rd(pmem, 24, 8, buf), -EIO);
	assert_int_equal(rd(pmem, 32, 96, buf), 0);
	assert_int_equal(zd_pmem_badblocks_check(pmem, media, 8, NULL, NULL), 1);
	/* a part of the block can't be merged with the rest, which is lost */
	assert_int_equal(wr(pmem, 24, 1, buf), -EIO);
	stamp(buf, 24, 8, 2);
	assert_int_equal(wr(pmem, 24, 8, buf), 0);
	assert_int_equal(rd(pmem, 0, 128, buf), 0);
	assert_int_equal(stamped(buf + 25 * SECTOR, 25), 2);
	/* the lane that has the bad data block now gets over it */
	for (int i = 0; i < 600; i++) {
		stamp(buf, 64, 64, 3 + i);
		assert_int_equal(wr(pmem, 64, 64, buf), 0);
	}
	assert_int_equal(zd_pmem_badblocks_check(pmem, media, 8, NULL, NULL), 0);
	check_owners(pmem);

	/* an entry that was overwritten isn't followed */
	media = zd_btt_map_off(pmem->btt, 40);
	entry = UINT32_MAX;
	for (int i = 0; i < 3;
	     i++, entry = i % 2 ? 5 : *(uint64_t *)(pmem->media.base + media + 8)) {
		assert_int_equal(pwrite(pmem->media.fd, &entry, 8, media), 8);
		assert_int_equal(rd(pmem, 320, 8, buf), -EIO);
		assert_int_equal(wr(pmem, 320, 8, buf), -EIO);
		assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 320, 8, NULL), -EIO);
	}

	assert_int_equal(truncate(path, BYTES / 2), 0);
	assert_int_equal(rd(pmem, 0, 8, buf), -EIO);
	assert_int_equal(wr(pmem, 0, 8, buf), -EIO);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_DISCARD, 0, 0, 64, NULL), -EIO);
	assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL), -EIO);
	zd_pmem_close(pmem);
	unlink(path);
}

/* --- what happens in between --- */

static struct zd_pmem *region;
static const char *region_path;
static int events;
static char block[4096];

/* One of the blocks is written after their entries were marked, and before their storage goes. */
static void write_between(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	(void)m;
	(void)off;
	(void)len;
	if (what == ZD_MEDIA_DRAIN && ++events == 2) {
		stamp(block, 8, 8, 2);
		assert_int_equal(wr(region, 8, 8, block), 0);
	}
}

static void test_zero_and_write(void **state)
{
	static char buf[4 * 4096];

	(void)state;
	force_persist("CACHE_LINE");
	region_path = tmp_path("between");
	unlink(region_path);
	region = open_btt(region_path, 4096);
	assert_non_null(region);
	stamp(buf, 0, 32, 1);
	assert_int_equal(wr(region, 0, 32, buf), 0);
	events = 0;
	zd_media_hook = write_between;
	assert_int_equal(zd_pmem_rw(region, ZD_PMEM_DISCARD, 0, 0, 32, NULL), 0);
	zd_media_hook = NULL;
	assert_true(events >= 2);
	assert_int_equal(rd(region, 0, 32, buf), 0);
	for (uint64_t s = 0; s < 32; s++)
		assert_int_equal(stamped(buf + s * SECTOR, s), s >= 8 && s < 16 ? 2 : 0);
	zd_pmem_close(region);
	unlink(region_path);
}

/* A read completes while a writer is at any of its steps, of the same block or another. */
struct reader {
	uint64_t sector;
	int64_t gen;
};

static void *read_one(void *arg)
{
	struct reader *r = arg;
	char buf[4096];

	r->gen = rd(region, r->sector, 8, buf) ? -1 : stamped(buf, r->sector);
	return NULL;
}

static int64_t read_in_thread(uint64_t sector)
{
	struct reader r = { .sector = sector };
	struct timespec until;
	pthread_t t;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	assert_int_equal(pthread_create(&t, NULL, read_one, &r), 0);
	if (pthread_timedjoin_np(t, NULL, &until))
		exit(3);		/* the read waits for the writer, which is this thread */
	return r.gen;
}

static void read_between(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	(void)m;
	(void)what;
	(void)off;
	(void)len;
	events++;
	/* old or new: but not torn, and not waiting */
	assert_in_range(read_in_thread(8), 1, 2);
	assert_int_equal(read_in_thread(16), 1);
}

static void test_read_and_write(void **state)
{
	static char buf[4 * 4096];

	(void)state;
	region_path = tmp_path("beside");
	unlink(region_path);
	region = open_btt(region_path, 4096);
	assert_non_null(region);
	stamp(buf, 0, 32, 1);
	assert_int_equal(wr(region, 0, 32, buf), 0);
	events = 0;
	stamp(buf, 8, 8, 2);
	zd_media_hook = read_between;
	assert_int_equal(wr(region, 8, 8, buf), 0);
	zd_media_hook = NULL;
	assert_true(events >= 5);
	assert_int_equal(read_in_thread(8), 2);
	zd_pmem_close(region);
	unlink(region_path);
}

/* The writer of a free data block waits for a reader that still reads what the block had. */
static void *write_all(void *arg)
{
	static char buf[4096];

	for (int i = 0; i < 600; i++) {
		stamp(buf, 24, 8, 3);
		if (wr(region, 24, 8, buf))
			break;
	}
	__atomic_store_n((uint32_t *)arg, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void test_writer_waits(void **state)
{
	uint32_t done = 0, at, *word;
	pthread_t t;

	(void)state;
	region_path = tmp_path("waits");
	unlink(region_path);
	region = open_btt(region_path, 4096);
	assert_non_null(region);
	at = region->btt->lanes[2].free;
	word = &region->btt->readers[5].word;
	__atomic_store_n(word, at + 1, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_create(&t, NULL, write_all, &done), 0);
	for (int i = 0; __atomic_load_n(word, __ATOMIC_RELAXED) == at + 1; i++) {
		assert_true(i < 200000);
		usleep(100);
	}
	assert_int_equal(__atomic_load_n(&done, __ATOMIC_ACQUIRE), 0);
	assert_int_equal(*(uint64_t *)(region->media.base + zd_btt_data_off(region->btt, at)), 0);
	__atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
	zd_futex_wake(word, INT32_MAX);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(done, 1);
	zd_pmem_close(region);
	unlink(region_path);
}

/* The file is cut when the flog has been written, and the map not yet. */
static void cut_map(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	(void)len;
	if (what == ZD_MEDIA_STORE && off >= region->btt->info.flog_off && !events++)
		assert_int_equal(ftruncate(m->fd, region->btt->info.map_off), 0);
}

/* A write failed between flog and map: it isn't known then who owns which data block: no more
 * writes. */
static void test_half_written(void **state)
{
	(void)state;
	region_path = tmp_path("half");
	unlink(region_path);
	region = open_btt(region_path, 4096);
	assert_non_null(region);
	stamp(block, 0, 8, 1);
	assert_int_equal(wr(region, 0, 8, block), 0);
	events = 0;
	zd_media_hook = cut_map;
	assert_int_equal(wr(region, 0, 8, block), -EIO);
	zd_media_hook = NULL;
	assert_true(events > 0);
	assert_int_equal(ftruncate(region->media.fd, BYTES), 0);
	zd_pmem_badblocks_clear(region, 0, BYTES / SECTOR);
	assert_int_equal(wr(region, 8, 8, block), -EIO);
	assert_int_equal(zd_pmem_rw(region, ZD_PMEM_DISCARD, 0, 0, 8, NULL), -EIO);
	zd_pmem_close(region);
	unlink(region_path);
}

/* So many pages are left in the file system, where the region's file is sparse. */
static int write_with_room(const char *dir, unsigned int pages)
{
	char path[600], filler[600];
	int fd, rc;

	snprintf(path, sizeof(path), "%s/region", dir);
	snprintf(filler, sizeof(filler), "%s/filler", dir);
	unlink(path);
	region = open_btt(path, 4096);
	assert_non_null(region);
	fd = open(filler, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (off_t at = 0; !fallocate(fd, 0, at, 4096); at += 4096)
		;
	assert_int_equal(ftruncate(fd, lseek(fd, 0, SEEK_END) - pages * 4096), 0);
	stamp(block, 0, 8, 1);
	rc = wr(region, 0, 8, block);
	/* with room again all goes on as before */
	assert_int_equal(ftruncate(fd, 0), 0);
	stamp(block, 0, 8, 2);
	assert_int_equal(wr(region, 0, 8, block), 0);
	assert_int_equal(rd(region, 0, 8, block), 0);
	assert_int_equal(stamped(block, 0), 2);
	check_owners(region);
	zd_pmem_close(region);
	close(fd);
	return rc;
}

static void test_full(void **state)
{
	const char *dir = tmp_path("small");
	unsigned int pages;
	int rc = -ENOSPC;

	(void)state;
	assert_int_equal(mkdir(dir, 0700), 0);
	if (mount("small", dir, "tmpfs", 0, "size=2M")) {
		rmdir(dir);
		print_message("can't mount a tmpfs: left out\n");
		return;
	}
	for (pages = 0; pages < 10 && rc == -ENOSPC; pages++)
		rc = write_with_room(dir, pages);
	assert_int_equal(rc, 0);
	assert_true(pages > 1);
	assert_int_equal(umount(dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),	       cmocka_unit_test(test_resized),
		cmocka_unit_test(test_model),	       cmocka_unit_test(test_threads),
		cmocka_unit_test(test_lanes),	       cmocka_unit_test(test_redo),
		cmocka_unit_test(test_extent),	       cmocka_unit_test(test_bad),
		cmocka_unit_test(test_half_written),   cmocka_unit_test(test_read_and_write),
		cmocka_unit_test(test_writer_waits),   cmocka_unit_test(test_full),
		cmocka_unit_test(test_zero_and_write),	/* the last: it chooses how to persist */
	};

	return RUN_BOTH(tests);
}
