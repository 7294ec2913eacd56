/* SPDX-License-Identifier: MIT */
/*
 * Damaged regions: what is read from one is right, or an error.
 *
 * A world is an image of a region that was written under load, closed or cut off in the
 * middle of a request (as by kill -9), with copies of how its metadata were before.  Of a
 * world many images are made, each with random damage to pages of its metadata: zeroed,
 * with bits flipped, swapped with one another, as they were before.  For each:
 *
 *	open		fails, with a line that says why; or each block reads as it
 *			should, or fails: before and after others are written
 *	check		mends it, or says what can't be; then it opens, each block reads as
 *			it should or is one of those that the check has counted as lost, or
 *			as broken (a block that was zeroed, and whose entry and owner both are
 *			as before, has no content any more); and the next check finds nothing
 *
 * ZD_IMAGES: how many, 250 if it isn't set; ZD_SEED repeats a run.  A failure prints its
 * world and image, and what was done to it.
 *
 * A kind of region is an entry of kinds[]: with a function that lists where its metadata
 * are.  A kind without such a function is only opened and read.
 */
#include "pmem_test.h"

#include "drivers/btt/btt.h"
#include "drivers/pmem/pmem.h"

#define MAX_BYTES	(2 * MIB)
#define MAX_SECTORS	(MAX_BYTES / SECTOR)
#define MAX_PAGES	64u
#define SNAPSHOTS	4u
#define DEFAULT_IMAGES	250
#define IMAGES_PER_WORLD 50

struct kind {
	const char *name;
	unsigned int flags;
	uint64_t bytes;
	uint32_t block;			/* what is written at once */
	uint32_t (*metadata)(struct zd_pmem *pmem, uint64_t *pages);
};

static uint32_t btt_metadata(struct zd_pmem *pmem, uint64_t *pages)
{
	const struct zd_btt_info_block *info = &pmem->btt->info;
	uint32_t n = 0;

	for (uint32_t k = 0; k < ZD_BTT_NR_INFOS; k++)
		pages[n++] = info->info_off[k] / ZD_PAGE_SIZE;
	for (uint64_t off = info->map_off; off < info->info_off[2]; off += ZD_PAGE_SIZE) {
		assert_true(n < MAX_PAGES);
		pages[n++] = off / ZD_PAGE_SIZE;
	}
	return n;
}

static const struct kind kinds[] = {
	{ "btt", ZD_PMEM_BTT, 2 * MIB, 4096, btt_metadata },
	{ "btt small", ZD_PMEM_BTT, MIB, 4096, btt_metadata },
	{ "btt 512", ZD_PMEM_BTT, MIB, 512, btt_metadata },
};
#define NR_KINDS	(sizeof(kinds) / sizeof(kinds[0]))

/* --- the world --- */

static struct world {
	const struct kind *kind;
	bool closed;
	uint64_t sectors;
	char image[MAX_BYTES];
	char before[SNAPSHOTS][MAX_BYTES];
	uint64_t pages[MAX_PAGES];
	uint32_t nr_pages;
	/* what each sector holds; and what it would hold if the last request was done */
	int64_t now[MAX_SECTORS], next[MAX_SECTORS];
} w;

static uint32_t rand_state, next_gen, events, cut_at;
static char text[4096];			/* what was done to the image, for a failure */

static uint32_t pick(uint32_t n)
{
	return test_rand(&rand_state) % n;
}

__attribute__((format(printf, 1, 2)))
static void note(const char *fmt, ...)
{
	size_t len = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + len, sizeof(text) - len, fmt, ap);
	va_end(ap);
}

/* The image as it is at one of the stores of a request. */
static void cut(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	(void)what;
	(void)off;
	(void)len;
	if (events++ == cut_at)
		memcpy(w.image, m->base, m->bytes);
}

static void request(struct zd_pmem *pmem)
{
	static char buf[64 * SECTOR];
	uint64_t nr = pick(3) ? 8 : 1 + pick(60), s = pick(w.sectors - nr);
	bool zeros = !pick(6);

	/* some are written again and again, some never */
	if (pick(2))
		s = s % 256;
	if (pick(2))
		s &= ~7ull;
	next_gen++;
	for (uint64_t i = s; i < s + nr; i++)
		w.next[i] = zeros ? 0 : next_gen & 0xffffff;
	stamp(buf, s, nr, next_gen & 0xffffff);
	assert_int_equal(zeros ? zd_pmem_rw(pmem, pick(2) ? ZD_PMEM_DISCARD : ZD_PMEM_WRITE_ZEROES,
					    pick(2) ? ZD_PMEM_NOUNMAP : 0, s, nr, NULL) :
				 wr(pmem, s, nr, buf),
			 0);
}

static struct zd_pmem *open_image(int fd, int *rc, char *err, size_t errlen)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr),
				     .flags = w.kind->flags,
				     .btt_block = w.kind->block };
	struct zd_pmem *pmem = NULL;

	*rc = zd_pmem_open_fd(fd, &attr, &pmem, err, errlen);
	return pmem;
}

static int new_fd(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, w.kind->bytes), 0);
	return fd;
}

static void write_world(struct zd_pmem *pmem, uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++) {
		if (i % (rounds / SNAPSHOTS) == 0)
			memcpy(w.before[i / (rounds / SNAPSHOTS) % SNAPSHOTS], pmem->media.base,
			       pmem->media.bytes);
		request(pmem);
		memcpy(w.now, w.next, sizeof(w.now));
	}
}

static void make_world(void)
{
	struct zd_pmem *pmem;
	uint64_t bytes;
	int fd, rc;

	w.kind = &kinds[pick(NR_KINDS)];
	w.closed = pick(2);
	memset(w.now, 0, sizeof(w.now));
	memset(w.next, 0, sizeof(w.next));
	fd = new_fd();
	pmem = open_image(fd, &rc, NULL, 0);
	assert_non_null(pmem);
	w.sectors = pmem->info.nr_sectors;
	bytes = pmem->media.bytes;
	w.nr_pages = w.kind->metadata(pmem, w.pages);
	/* after few requests the snapshots are nearly the same; after many all was written since */
	write_world(pmem, 8u << pick(6));
	events = 0;
	cut_at = pick(12);
	if (!w.closed)
		zd_media_hook = cut;
	request(pmem);
	/* the request was done before it could be cut off */
	if (!w.closed && events <= cut_at)
		cut(&pmem->media, ZD_MEDIA_STORE, events = cut_at, 0);
	zd_media_hook = NULL;
	zd_pmem_close(pmem);
	if (w.closed) {
		memcpy(w.now, w.next, sizeof(w.now));
		assert_int_equal(pread(fd, w.image, bytes, 0), bytes);
	}
	close(fd);
}

/* --- damage --- */

static void damage(char *image)
{
	uint32_t nr = 1 + pick(pick(3) ? 3 : 8), snapshot = pick(SNAPSHOTS);

	text[0] = '\0';
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t page = w.pages[pick(w.nr_pages)], other = w.pages[pick(w.nr_pages)];
		char *at = image + page * ZD_PAGE_SIZE, swap[ZD_PAGE_SIZE];

		switch (pick(4)) {
		case 0:
			memset(at, pick(4) ? 0 : 0xff, ZD_PAGE_SIZE);
			note("page %lu zeroed; ", (unsigned long)page);
			break;
		case 1:
			for (uint32_t n = 1 + pick(8); n; n--) {
				uint32_t bit = pick(ZD_PAGE_SIZE * 8);

				at[bit / 8] ^= 1 << bit % 8;
				note("page %lu bit %u flipped; ", (unsigned long)page, bit);
			}
			break;
		case 2:
			memcpy(swap, at, ZD_PAGE_SIZE);
			memcpy(at, image + other * ZD_PAGE_SIZE, ZD_PAGE_SIZE);
			memcpy(image + other * ZD_PAGE_SIZE, swap, ZD_PAGE_SIZE);
			note("pages %lu and %lu swapped; ", (unsigned long)page,
			     (unsigned long)other);
			break;
		default:
			memcpy(at, w.before[snapshot] + page * ZD_PAGE_SIZE, ZD_PAGE_SIZE);
			note("page %lu as of snapshot %u; ", (unsigned long)page, snapshot);
			break;
		}
	}
}

/* --- what must hold --- */

static void wrong(uint64_t first, uint64_t nr, const char *buf, const char *when)
{
	for (uint64_t s = first; s < first + nr; s++)
		fprintf(stderr, "sector %lu: generation %ld, not %ld or %ld\n", (unsigned long)s,
			(long)stamped(buf + (s - first) * SECTOR, s), (long)w.now[s],
			(long)w.next[s]);
	fail_msg("%s, %s: wrong: %s: %s", w.kind->name, w.closed ? "closed" : "cut off", when,
		 text);
}

/* Each block must be as it was, or as it was being written, or fail; how many fail. */
static uint64_t read_all(struct zd_pmem *pmem, const char *when)
{
	uint64_t per = w.kind->block / SECTOR, nr_bad = 0;
	char buf[4096];

	for (uint64_t s = 0; s < w.sectors; s += per) {
		bool now = true, next = true;
		int rc = rd(pmem, s, per, buf);

		assert_true(!rc || rc == -EIO);
		nr_bad += rc != 0;
		for (uint64_t i = 0; i < per && !rc; i++) {
			now &= stamped(buf + i * SECTOR, s + i) == w.now[s + i];
			next &= stamped(buf + i * SECTOR, s + i) == w.next[s + i];
		}
		if (!now && !next)
			wrong(s, per, buf, when);
	}
	return nr_bad;
}

/* Writes to some blocks must not change others. */
static void write_some(struct zd_pmem *pmem)
{
	uint64_t per = w.kind->block / SECTOR;
	char buf[4096];

	for (int i = 0; i < 40; i++) {
		uint64_t s = pick(w.sectors / per) * per;

		stamp(buf, s, per, 0xffffff);
		if (wr(pmem, s, per, buf))
			continue;
		for (uint64_t k = s; k < s + per; k++)
			w.now[k] = w.next[k] = 0xffffff;
	}
}

static struct totals {
	uint64_t images, refused, served, with_errors, mended, with_lost, lost, hopeless;
} totals;

static void put_image(int fd, const char *image)
{
	assert_int_equal(pwrite(fd, image, w.kind->bytes, 0), w.kind->bytes);
}

static void try_open_damaged(int fd)
{
	char err[256] = "";
	uint64_t bad;
	int rc;
	struct zd_pmem *pmem = open_image(fd, &rc, err, sizeof(err));

	if (!pmem) {
		if (!err[0] || strchr(err, '\n'))
			fail_msg("no line with %d: %s", rc, text);
		totals.refused++;
		return;
	}
	totals.served++;
	bad = read_all(pmem, "opened");
	write_some(pmem);
	read_all(pmem, "opened, and some written");
	totals.with_errors += bad > 0;
	zd_pmem_close(pmem);
}

/* After the check. */
static void try_open_mended(int fd, const struct zd_pmem_check *c, const char *path)
{
	char err[256] = "";
	struct zd_pmem_check again;
	int rc;
	struct zd_pmem *pmem = open_image(fd, &rc, err, sizeof(err));
	uint64_t bad;

	if (!pmem)
		fail_msg("mended, and doesn't open: %s: %s", err, text);
	bad = read_all(pmem, "mended");
	if (bad != c->nr_lost + c->nr_bad)
		fail_msg("%s, %s: %lu blocks fail, and %lu are lost (image %lu): %s", w.kind->name,
			 w.closed ? "closed" : "cut off", (unsigned long)bad,
			 (unsigned long)c->nr_lost, (unsigned long)totals.images, text);
	write_some(pmem);
	read_all(pmem, "mended, and some written");
	zd_pmem_close(pmem);
	assert_int_equal(zd_pmem_check(path, ZD_PMEM_CHECK_DATA, NULL, NULL, &again, err,
				       sizeof(err)),
			 0);
	if (again.damaged || again.nr_bad > c->nr_bad || again.nr_lost > c->nr_lost)
		fail_msg("mended, and damaged: %s", text);
}

/* What the check says joins what a failure prints. */
static void hear(void *arg, const char *line)
{
	(void)arg;
	note("[%s] ", line);
}

static void try_check(int fd)
{
	struct zd_pmem_check look, c;
	char err[256] = "", path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (zd_pmem_check(path, ZD_PMEM_CHECK_LOOK, NULL, NULL, &look, err, sizeof(err)) ||
	    zd_pmem_check(path, ZD_PMEM_CHECK_DATA, hear, NULL, &c, err, sizeof(err)))
		fail_msg("can't be examined: %s: %s", err, text);
	assert_int_equal(look.damaged, c.damaged);
	assert_int_equal(look.nr_lost, c.nr_lost);
	assert_false(look.mended);
	if (!c.btt || (c.damaged && !c.mended)) {
		totals.hopeless++;
		return;
	}
	totals.mended += c.mended;
	totals.with_lost += c.nr_lost > 0;
	totals.lost += c.nr_lost;
	try_open_mended(fd, &c, path);
}

static void try_image(int fd, char *image)
{
	static int64_t now[MAX_SECTORS], next[MAX_SECTORS];

	memcpy(image, w.image, w.kind->bytes);
	damage(image);
	memcpy(now, w.now, sizeof(now));
	memcpy(next, w.next, sizeof(next));
	put_image(fd, image);
	try_open_damaged(fd);
	memcpy(w.now, now, sizeof(now));
	memcpy(w.next, next, sizeof(next));
	put_image(fd, image);
	try_check(fd);
	memcpy(w.now, now, sizeof(now));
	memcpy(w.next, next, sizeof(next));
	totals.images++;
}

/* The world's image must be right before anything is done to it. */
static void try_whole(int fd)
{
	struct zd_pmem *pmem;
	int rc;

	text[0] = '\0';
	put_image(fd, w.image);
	pmem = open_image(fd, &rc, NULL, 0);
	assert_non_null(pmem);
	assert_int_equal(read_all(pmem, "not damaged"), 0);
	zd_pmem_close(pmem);
}

static void test_damage(void **state)
{
	const char *env = getenv("ZD_IMAGES");
	long images = env ? atol(env) : DEFAULT_IMAGES;
	static char image[MAX_BYTES];
	uint32_t seed = test_seed();

	(void)state;
	rand_state = seed * 2 + 1;
	for (long i = 0; i < images; i += IMAGES_PER_WORLD) {
		int fd;

		make_world();
		fd = new_fd();
		try_whole(fd);
		for (int k = 0; k < IMAGES_PER_WORLD; k++)
			try_image(fd, image);
		close(fd);
	}
	print_message("%lu images: %lu refused, %lu served (%lu of them with errors); "
		      "%lu mended, %lu of them with %lu blocks lost; %lu beyond that\n",
		      totals.images, totals.refused, totals.served, totals.with_errors,
		      totals.mended, totals.with_lost, totals.lost, totals.hopeless);
	assert_true(totals.refused && totals.served && totals.mended && totals.with_lost);
}

/* Warnings of damage are expected here. */
static void no_log(enum zd_log_level level, const char *msg, void *ctx)
{
	(void)level;
	(void)msg;
	(void)ctx;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damage),
	};

	zd_set_log(no_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
