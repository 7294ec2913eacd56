/* SPDX-License-Identifier: MIT */
/*
 * Damaged records: a region without a BTT has no metadata in its content; what it has is the
 * record of what is lost (drivers/media/record_form.h), in an attribute or in PATH.zonedev.
 *
 * A world is a region that was written under load, with sectors that went bad and some that
 * were mended, closed or killed; and its record as it was at several moments.  Of a world
 * many images are made, each with random damage to the record: bytes zeroed, bits flipped,
 * words swapped, an end cut off or added, a part of it as it was before.  For each image:
 *
 *	open	fails, with a line that says why; or each sector that is lost reads as an
 *		error, and each other as it should
 *	check	says so as well, and mends nothing of a content it can't know
 *
 * The whole record as it was before is not among the damages: nothing else in a raw region
 * says which of two records is the newer.
 *
 * ZD_IMAGES: how many in all, 1000 if it isn't set; ZD_SEED repeats a run.
 */
#include "pmem_test.h"

#include <sys/xattr.h>
#include "drivers/media/record_form.h"

#define BYTES		MIB
#define SECTORS		(BYTES / SECTOR)
#define SNAPSHOTS	6u
#define MAX_RECORD	16384u
#define DEFAULT_IMAGES	1000u
#define IMAGES_PER_WORLD 50u
#define BAD		(-2)

static bool in_file;		/* this world's file system has no attributes */

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	if (in_file) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return syscall(SYS_fsetxattr, fd, name, value, size, flags);
}

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
	if (in_file) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return syscall(SYS_fgetxattr, fd, name, value, size);
}

struct record {
	size_t len;
	unsigned char buf[2 * MAX_RECORD];
};

static struct world {
	char path[512], file[600];
	int64_t now[SECTORS];	/* a generation, 0: zeros; or BAD */
	struct record record, before[SNAPSHOTS];
} w;

static uint32_t rand_state, next_gen, opened, refused;
static const char *damage_done;

static uint32_t pick(uint32_t n)
{
	return test_rand(&rand_state) % n;
}

/* --- the record as bytes --- */

static void record_get(struct record *r)
{
	ssize_t n;

	if (in_file) {
		int fd = open(w.file, O_RDONLY | O_CLOEXEC);

		assert_true(fd >= 0);
		n = read(fd, r->buf, MAX_RECORD);
		close(fd);
	} else {
		n = getxattr(w.path, ZD_RECORD_NAME, r->buf, MAX_RECORD);
	}
	assert_true(n > 0 && n < (ssize_t)MAX_RECORD);
	r->len = n;
}

static void record_put(const struct record *r)
{
	if (in_file) {
		int fd = open(w.file, O_WRONLY | O_TRUNC | O_CLOEXEC);

		assert_true(fd >= 0);
		assert_int_equal(write(fd, r->buf, r->len), r->len);
		close(fd);
	} else {
		assert_int_equal(setxattr(w.path, ZD_RECORD_NAME, r->buf, r->len, 0), 0);
	}
}

/* --- the world --- */

static void write_some(struct zd_pmem *pmem)
{
	static char buf[64 * SECTOR];
	uint64_t nr = pick(3) ? 8 : 1 + pick(60), s = pick(SECTORS - nr);
	uint32_t gen = ++next_gen & 0xffffff;

	stamp(buf, s, nr, gen);
	assert_int_equal(wr(pmem, s, nr, buf), 0);
	for (uint64_t i = s; i < s + nr; i++)
		w.now[i] = gen;
}

static void lose_some(struct zd_pmem *pmem)
{
	uint64_t nr = 1 + pick(20), s = pick(SECTORS - nr);

	assert_int_equal(zd_pmem_badblocks_set(pmem, s, nr), 0);
	for (uint64_t i = s; i < s + nr; i++)
		w.now[i] = BAD;
}

static void make_world(void)
{
	struct zd_pmem *pmem;

	memset(&w.now, 0, sizeof(w.now));
	pmem = open_new(w.path, 0, BYTES);
	assert_non_null(pmem);
	for (uint32_t k = 0; k <= SNAPSHOTS; k++) {
		for (uint32_t i = 0; i < 20; i++) {
			if (pick(4))
				write_some(pmem);
			else
				lose_some(pmem);
		}
		lose_some(pmem);
		/* sometimes what was mended isn't durably so */
		if (pick(3))
			assert_int_equal(zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL), 0);
		zd_pmem_close(pmem);
		record_get(k < SNAPSHOTS ? &w.before[k] : &w.record);
		if (k == SNAPSHOTS)
			break;
		pmem = open_at(w.path, 0, 0);
		assert_non_null(pmem);
	}
}

/* --- damage --- */

static void zero(struct record *r)
{
	size_t n = 1 + pick(r->len < 64 ? r->len : 64), at = pick(r->len - n + 1);

	memset(r->buf + at, 0, n);
}

static void flip(struct record *r)
{
	for (uint32_t n = 1 + pick(3); n; n--)
		r->buf[pick(r->len)] ^= 1u << pick(8);
}

static void swap(struct record *r)
{
	size_t a = pick(r->len / 8) * 8, b = pick(r->len / 8) * 8;
	unsigned char word[8];

	memcpy(word, r->buf + a, 8);
	memcpy(r->buf + a, r->buf + b, 8);
	memcpy(r->buf + b, word, 8);
}

static void cut(struct record *r)
{
	r->len = pick(r->len);
}

static void lengthen(struct record *r)
{
	size_t n = 1 + pick(64);

	for (size_t i = 0; i < n; i++)
		r->buf[r->len + i] = pick(4) ? 0 : pick(256);
	r->len += n;
}

/* A part as it was before, as a torn write leaves it. */
static void tear(struct record *r)
{
	const struct record *old = &w.before[pick(SNAPSHOTS)];
	size_t at = 1 + pick(r->len - 1);

	if (pick(2)) {		/* the old head, the new rest */
		memcpy(r->buf, old->buf, at < old->len ? at : old->len);
	} else if (at < old->len) {
		memcpy(r->buf + at, old->buf + at, old->len - at);
		r->len = old->len;
	}
}

static const struct {
	const char *name;
	void (*fn)(struct record *r);
} damages[] = {
	{ "zeroed", zero }, { "flipped", flip },	{ "swapped", swap },
	{ "cut", cut },	    { "lengthened", lengthen }, { "torn", tear },
};

/* --- what is read --- */

static bool is_right(struct zd_pmem *pmem, uint64_t s)
{
	char buf[SECTOR];
	int rc = rd(pmem, s, 1, buf);

	if (w.now[s] == BAD)
		return rc == -EIO;
	return rc == -EIO || (!rc && stamped(buf, s) == w.now[s]);
}

static void read_all(struct zd_pmem *pmem, bool damaged)
{
	for (uint64_t s = 0; s < SECTORS; s++) {
		if (is_right(pmem, s))
			continue;
		fail_msg("sector %llu (%s) of %s, its record %s: wrong", (unsigned long long)s,
			 w.now[s] == BAD ? "lost" : "good", w.path,
			 damaged ? damage_done : "whole");
	}
}

static bool is_as_before(const struct record *r)
{
	for (uint32_t k = 0; k < SNAPSHOTS; k++)
		if (r->len == w.before[k].len && !memcmp(r->buf, w.before[k].buf, r->len))
			return true;
	return false;
}

static void try_image(uint32_t nr)
{
	static struct record r;
	uint32_t d = pick(sizeof(damages) / sizeof(damages[0]));
	struct zd_pmem_check out = { 0 };
	struct zd_pmem *pmem = NULL;
	char err[512] = "";
	bool same;
	int rc;

	r = w.record;
	damage_done = damages[d].name;
	damages[d].fn(&r);
	if (is_as_before(&r))
		return;
	same = r.len == w.record.len && !memcmp(r.buf, w.record.buf, r.len);
	record_put(&r);
	rc = zd_pmem_check(w.path, nr % 2 ? ZD_PMEM_CHECK_LOOK : 0, NULL, NULL, &out, err,
			   sizeof(err));
	assert_int_equal(rc && !err[0], 0);
	assert_int_equal(try_open(w.path, ZD_PMEM_READONLY, 0, &pmem), rc);
	if (rc) {
		assert_false(same);
		refused++;
	} else {
		read_all(pmem, true);
		zd_pmem_close(pmem);
		opened++;
	}
	record_put(&w.record);
}

static void run(bool file)
{
	const char *env = getenv("ZD_IMAGES");
	uint32_t images = (env ? strtoul(env, NULL, 0) : DEFAULT_IMAGES) / 2;

	in_file = file;
	opened = refused = 0;
	rand_state = test_seed() | 1;
	snprintf(w.path, sizeof(w.path), "%s", tmp_path("record"));
	snprintf(w.file, sizeof(w.file), "%s" ZD_RECORD_FILE, w.path);
	for (uint32_t i = 0; i < images; i++) {
		struct zd_pmem *pmem;

		if (i % IMAGES_PER_WORLD == 0)
			make_world();
		try_image(i);
		if (i % IMAGES_PER_WORLD != IMAGES_PER_WORLD - 1)
			continue;
		/* nothing of all that was lost */
		pmem = open_at(w.path, 0, 0);
		assert_non_null(pmem);
		read_all(pmem, false);
		zd_pmem_close(pmem);
		unlink(w.path);
		unlink(w.file);
	}
	unlink(w.path);
	unlink(w.file);
	printf("%u images: %u refused, %u opened\n", images, refused, opened);
	assert_true(refused > images / 2);
}

static void test_attribute(void **state)
{
	(void)state;
	run(false);
}

static void test_file(void **state)
{
	(void)state;
	run(true);
}

static void quiet(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)level;
	(void)msg;
	(void)ctx;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attribute),
		cmocka_unit_test(test_file),
	};

	zd_set_log(quiet, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
