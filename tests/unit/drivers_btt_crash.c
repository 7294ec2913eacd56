/* SPDX-License-Identifier: MIT */
/*
 * Power loss, simulated: on the media is then what was made durable, and a random part of
 * everything that was stored since.
 *
 * A child writes, with the media's hook recording what becomes durable in an image that
 * the parent shares.  At a random event the child "loses power": random pieces of what isn't
 * durable get into the image all the same (caches are evicted, and pages written back,
 * at any time), and the child ends.  The parent puts the image in the file's place, opens it,
 * and compares with what was completed.  Then the next child goes on from there.
 *
 * Two kinds of media: memory, whose lines arrive word by word, flushed by CLWB and
 * drained by SFENCE; and a disk, whose pages arrive sector by sector, and msync.  A sync
 * makes durable what was stored before it began; what the other thread stores while the sync
 * runs may arrive or not.
 *
 * With a BTT two threads write, each to its half, with lanes that they share: each block must
 * be as it was before the interrupted write, or after; and what was completed must be there.
 * Without a BTT what FUA and FLUSH have promised must be there.
 */
#include "pmem_test.h"

#include "drivers/btt/btt.h"
#include "drivers/pmem/pmem.h"

#define BYTES		MIB
#define LINE		64u
#define LINES		(BYTES / LINE)
#define WINDOW		(64 * KIB)
#define OPS		64u
#ifdef __SANITIZE_THREAD__
#define CRASHES		15	/* the copies are slow */
#else
#define CRASHES		(SANITIZED ? 25 : 50)
#endif

struct op {
	uint64_t sector, nr;
	uint32_t gen;			/* 0: zeros; ~0: flush */
	bool fua;
};

#define FLUSH	(~0u)

struct script {
	struct op ops[OPS];
	uint32_t started, completed;
};

/* The parent shares this with the child. */
static struct shared {
	char image[BYTES];
	struct script script[2];	/* a thread each */
} * sh;

static bool disk, raw;
static uint32_t rand_state, block_bytes;

/* --- the child's media --- */

/* At once: a sanitizer's _exit() waits a second. */
__attribute__((noreturn)) static void end(int status)
{
	syscall(SYS_exit_group, status);
	__builtin_unreachable();
}

struct cache {
	char line[BYTES];		/* each line as it was when it was flushed */
	uint64_t flushed[LINES];	/* when: 0: not on its way */
};

static struct cache caches[2];
static uint64_t arrived[LINES];	/* when what is in the image was flushed */
static uint64_t clock_now = 1;
static char synced[BYTES];		/* the media as they were when the sync that runs began */
static uint64_t sync_began;
static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread struct cache *cache = &caches[0];
static uint32_t event, crash_at;

/* Random pieces of what is stored in [from, end), one in @odds, arrive by themselves: as a
 * whole, but for the line that is on its way when the power goes. */
static void leak(const char *base, uint64_t from, uint64_t end, uint32_t odds, uint64_t piece)
{
	for (uint64_t off = from; off < end; off += LINE) {
		if (!memcmp(base + off, sh->image + off, LINE))
			continue;
		for (uint64_t p = off & ~(piece - 1); p < off + LINE; p += piece)
			if (test_rand(&rand_state) % odds == 0) {
				memcpy(sh->image + p, base + p, piece);
				arrived[off / LINE] = clock_now++;
			}
	}
}

/* A fence: what this thread has flushed arrives, unless something newer has. */
static void arrive(void)
{
	for (uint64_t i = 0; i < LINES; i++) {
		if (cache->flushed[i] > arrived[i]) {
			memcpy(sh->image + i * LINE, cache->line + i * LINE, LINE);
			/* as it was then: what another thread has flushed since is newer */
			arrived[i] = cache->flushed[i];
		}
		cache->flushed[i] = 0;
	}
}

/* What was stored while the sync ran may have arrived or not: leak() does that. */
static void finish_sync(uint64_t off, uint64_t len)
{
	for (uint64_t i = off / LINE; i * LINE < off + len; i++)
		if (arrived[i] < sync_began)
			memcpy(sh->image + i * LINE, synced + i * LINE, LINE);
}

static void record(const char *base, enum zd_media_event what, uint64_t off, uint64_t len)
{
	switch (what) {
	case ZD_MEDIA_STORE:
		break;
	case ZD_MEDIA_FLUSH:
		for (uint64_t i = off / LINE; i * LINE < off + len; i++) {
			memcpy(cache->line + i * LINE, base + i * LINE, LINE);
			cache->flushed[i] = clock_now++;
		}
		break;
	case ZD_MEDIA_DRAIN:
		arrive();
		break;
	case ZD_MEDIA_SYNC_BEGIN:
		memcpy(synced + off, base + off, len);
		sync_began = clock_now++;
		break;
	case ZD_MEDIA_SYNC:
		finish_sync(off, len);
		break;
	}
}

static void hook(struct zd_media *m, enum zd_media_event what, uint64_t off, uint64_t len)
{
	static const uint32_t odds[] = { 1, 2, 2, 5, 50, 100000 };

	pthread_mutex_lock(&hook_lock);
	if (event++ == crash_at) {
		leak(m->base, 0, BYTES, odds[test_rand(&rand_state) % 6], disk ? SECTOR : 8);
		end(42);
	}
	if (test_rand(&rand_state) % 8 == 0) {
		uint64_t from = test_rand(&rand_state) % (BYTES / WINDOW) * WINDOW;

		leak(m->base, from, from + WINDOW, 8, disk ? SECTOR : LINE);
	}
	record(m->base, what, off, len);
	pthread_mutex_unlock(&hook_lock);
	/* let the other thread in, at every stage of a write */
	if (!raw)
		sched_yield();
}

static int do_op(struct zd_pmem *pmem, const struct op *op)
{
	char buf[200 * SECTOR];

	if (op->gen == FLUSH)
		return zd_pmem_rw(pmem, ZD_PMEM_FLUSH, 0, 0, 0, NULL);
	if (!op->gen)
		return zd_pmem_rw(pmem, op->nr % 2 ? ZD_PMEM_DISCARD : ZD_PMEM_WRITE_ZEROES,
				  op->fua ? ZD_PMEM_FUA : 0, op->sector, op->nr, NULL);
	stamp(buf, op->sector, op->nr, op->gen);
	return zd_pmem_rw(pmem, ZD_PMEM_WRITE, op->fua ? ZD_PMEM_FUA : 0, op->sector, op->nr, buf);
}

static struct zd_pmem *open_image(int fd)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr),
				     .flags = raw ? 0 : ZD_PMEM_BTT,
				     .btt_block = block_bytes };
	struct zd_pmem *pmem = NULL;
	char err[256];
	int rc;

	force_persist(disk ? "PAGE" : "CACHE_LINE");
	rc = zd_pmem_open_fd(fd, &attr, &pmem, err, sizeof(err));
	if (rc)
		fprintf(stderr, "open: %d: %s\n", rc, err);
	return pmem;
}

static struct zd_pmem *region;

static void *play(void *arg)
{
	struct script *script = arg;

	cache = &caches[script - sh->script];
	for (uint32_t i = 0; i < OPS; i++) {
		script->started = i + 1;
		if (do_op(region, &script->ops[i]))
			end(2);
		script->completed = i + 1;
	}
	return NULL;
}

/* The region is opened after a kill, and the power goes during that, or soon after. */
static void child_that_opens(int fd)
{
	alarm(60);
	zd_media_hook = hook;
	region = open_image(fd);
	if (!region)
		end(1);
	for (;;)
		hook(region->btt->m, ZD_MEDIA_STORE, 0, 0);
}

static void child(int fd)
{
	pthread_t t;

	alarm(60);
	zd_media_hook = hook;	/* the opening may be interrupted as well */
	region = open_image(fd);
	if (!region)
		end(1);
	/* with few lanes each has its turn again soon: is what it wrote before durable? */
	if (region->btt && test_rand(&rand_state) % 4)
		region->btt->ring_nr = 1 + test_rand(&rand_state) % 4;
	if (!raw && pthread_create(&t, NULL, play, &sh->script[1]))
		end(3);
	play(&sh->script[0]);
	if (!raw)
		pthread_join(t, NULL);
	end(0);
}

/* --- the parent's knowledge --- */

static uint32_t next_gen;

/* In [first, first + sectors) */
static void write_script(struct script *script, uint64_t first, uint64_t sectors)
{
	for (uint32_t i = 0; i < OPS; i++) {
		struct op *op = &script->ops[i];

		op->nr = test_rand(&rand_state) % 4 ? 1 + test_rand(&rand_state) % 20 :
						      1 + test_rand(&rand_state) % 200;
		/* a few blocks again and again */
		op->sector = test_rand(&rand_state) % 3 ? test_rand(&rand_state) % 40 :
							  test_rand(&rand_state) % sectors;
		if (op->nr > sectors - op->sector)
			op->nr = sectors - op->sector;
		op->sector += first;
		op->gen = test_rand(&rand_state) % 3 ? ++next_gen & 0xffffff : 0;
		op->fua = test_rand(&rand_state) % 3 == 0;
		if (raw && test_rand(&rand_state) % 8 == 0)
			*op = (struct op){ .gen = FLUSH };
	}
	script->started = script->completed = 0;
}

/* What each sector holds; and, raw, whether that is certain. */
static int64_t model[BYTES / SECTOR];
static bool certain[BYTES / SECTOR];

static void apply(const struct op *op, bool completed)
{
	/* memory has what was stored; but a hole is for the file system to write down */
	bool durable = completed && (op->fua || !raw || (!disk && op->gen));

	if (op->gen == FLUSH) {
		/* only what was completed is in the model, uncertain or not */
		if (completed)
			memset(certain, 1, sizeof(certain));
		return;
	}
	for (uint64_t s = op->sector; s < op->sector + op->nr; s++) {
		model[s] = op->gen;
		certain[s] = durable;
	}
	/* in memory all is durable but holes, for which FUA syncs everything; on a disk FUA syncs
	 * its own range */
	if (completed && op->fua && !disk)
		memset(certain, 1, sizeof(certain));
}

static int64_t gen_after(const struct op *op, uint64_t s)
{
	return op && s >= op->sector && s < op->sector + op->nr ? (int64_t)op->gen : model[s];
}

/* One block must be as before, or have the interrupted operation's part in it. */
static void check_block(const char *buf, uint64_t first, uint64_t nr, const struct op *cut)
{
	bool before = true, after = true;

	for (uint64_t s = first; s < first + nr; s++) {
		int64_t gen = stamped(buf + s * SECTOR, s);

		before &= gen == model[s];
		after &= gen == gen_after(cut, s);
	}
	if (before || after) {
		for (uint64_t s = first; s < first + nr && !before; s++)
			model[s] = gen_after(cut, s);
		return;
	}
	for (uint64_t s = first; s < first + nr; s++)
		fprintf(stderr, "sector %lu: generation %ld, not %ld%s\n", (unsigned long)s,
			(long)stamped(buf + s * SECTOR, s), (long)model[s],
			gen_after(cut, s) != model[s] ? " (being written)" : "");
	fail_msg("torn or lost");
}

static void check_raw(const char *buf, uint64_t sectors)
{
	for (uint64_t s = 0; s < sectors; s++) {
		int64_t gen = stamped(buf + s * SECTOR, s);

		if (certain[s] && gen != model[s])
			fail_msg("sector %lu: generation %ld, not %ld, which was durable",
				 (unsigned long)s, (long)gen, (long)model[s]);
		/* from here on the model has what was found; a torn sector is of no generation */
		model[s] = gen;
		certain[s] = gen >= 0;
	}
}

/* Each data block belongs to one block or to one lane. */
static void check_owners(struct zd_btt *btt)
{
	static uint8_t owned[BYTES / 512];

	memset(owned, 0, sizeof(owned));
	for (uint64_t b = 0; b < btt->nr_blocks; b++) {
		uint64_t entry = *(uint64_t *)(btt->m->base + zd_btt_map_off(btt, b));

		assert_int_equal(owned[zd_btt_data_block(entry)]++, 0);
	}
	for (uint32_t l = 0; l < btt->nr_lanes; l++)
		assert_int_equal(owned[btt->lanes[l].free]++, 0);
}

/* What @script has done; the operation that was cut off, or NULL. */
static const struct op *replay(const struct script *script)
{
	for (uint32_t i = 0; i < script->completed; i++)
		apply(&script->ops[i], true);
	return script->started > script->completed ? &script->ops[script->completed] : NULL;
}

static void check_image(struct zd_pmem *pmem, uint64_t sectors)
{
	const struct op *cut = replay(&sh->script[0]), *cut2;
	static char buf[BYTES];

	assert_int_equal(rd(pmem, 0, sectors, buf), 0);
	if (raw) {
		if (cut)
			apply(cut, false);
		check_raw(buf, sectors);
		return;
	}
	cut2 = replay(&sh->script[1]);
	check_owners(pmem->btt);
	for (uint64_t s = 0; s < sectors; s += block_bytes / SECTOR)
		check_block(buf, s, block_bytes / SECTOR, s < sectors / 2 ? cut : cut2);
}

static int run_child(int fd, void (*fn)(int fd))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		fn(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	rand_state += 977;
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* One life of the region. */
static bool live_and_die(int fd, uint64_t sectors)
{
	struct zd_pmem *pmem;
	int status;

	write_script(&sh->script[0], 0, raw ? sectors : sectors / 2);
	write_script(&sh->script[1], sectors / 2, sectors / 2);
	crash_at = test_rand(&rand_state) % (raw ? 150 : disk ? 700 : 1500);
	status = run_child(fd, child);
	assert_true(status == 42 || status == 0);
	/* The child was killed, and the power has stayed: the next one finds what was stored,
	 * durable or not. */
	if (status == 42 && !raw && test_rand(&rand_state) % 3 == 0) {
		crash_at = test_rand(&rand_state) % 80;
		assert_int_equal(run_child(fd, child_that_opens), 42);
	}
	/* without a crash the file is as it is */
	if (status == 42)
		assert_int_equal(pwrite(fd, sh->image, BYTES, 0), BYTES);
	pmem = open_image(fd);
	assert_non_null(pmem);
	check_image(pmem, sectors);
	zd_pmem_close(pmem);
	assert_int_equal(pread(fd, sh->image, BYTES, 0), BYTES);
	return status == 42;
}

static void crashes(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct zd_pmem *pmem;
	uint64_t sectors;
	int died = 0;

	rand_state = test_seed() | 1;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	memset(model, 0, sizeof(model));
	memset(certain, 1, sizeof(certain));
	pmem = open_image(fd);
	assert_non_null(pmem);
	sectors = pmem->info.nr_sectors & ~31ull;	/* two halves of whole blocks */
	zd_pmem_close(pmem);
	assert_int_equal(pread(fd, sh->image, BYTES, 0), BYTES);
	for (int i = 0; i < CRASHES; i++)
		died += live_and_die(fd, sectors);
	print_message("%d of %d lost power\n", died, CRASHES);
	assert_true(died > CRASHES / 4);
	close(fd);
}

/* Opened after a layout that was interrupted: pieces of an info block may look like data, so that
 * it takes force. */
static struct zd_pmem *open_again(int fd)
{
	struct zd_pmem_attr attr = { .size = sizeof(attr),
				     .flags = ZD_PMEM_BTT,
				     .btt_block = block_bytes };
	struct zd_pmem *pmem = NULL;
	int rc;

	force_persist(disk ? "PAGE" : "CACHE_LINE");
	rc = zd_pmem_open_fd(fd, &attr, &pmem, NULL, 0);
	if (rc == -EEXIST) {
		attr.flags |= ZD_PMEM_FORCE;
		rc = zd_pmem_open_fd(fd, &attr, &pmem, NULL, 0);
	}
	return rc ? NULL : pmem;
}

/* A BTT is laid out, by force over what was there: power is lost at each step of that, and it is
 * simply done again. */
static void layouts(char junk)
{
	int fd = memfd_create("image", MFD_CLOEXEC), status = 0;
	static char buf[BYTES];
	uint32_t n;

	rand_state = test_seed() | 1;
	for (n = 0; WEXITSTATUS(status) == 42 || !n; n++) {
		struct zd_pmem *pmem;
		pid_t pid;

		assert_true(n < 1000);
		memset(sh->image, junk, BYTES);
		assert_int_equal(pwrite(fd, sh->image, BYTES, 0), BYTES);
		crash_at = n;
		rand_state += 977;
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			zd_media_hook = hook;
			end(!open_again(fd));
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) &&
			    (WEXITSTATUS(status) == 42 || !WEXITSTATUS(status)));
		assert_int_equal(pwrite(fd, sh->image, BYTES, 0), BYTES);
		pmem = open_again(fd);
		assert_non_null(pmem);
		assert_int_equal(rd(pmem, 0, pmem->info.nr_sectors, buf), 0);
		assert_true(all_zero(buf, pmem->info.nr_sectors * SECTOR));
		check_owners(pmem->btt);
		zd_pmem_close(pmem);
	}
	assert_true(n > 10);
	close(fd);
}

static void test_layout(void **state)
{
	(void)state;
	raw = disk = false;
	block_bytes = 4096;
	layouts(0x5a);
	disk = true;
	layouts(0);
}

static void test_memory(void **state)
{
	(void)state;
	disk = raw = false;
	block_bytes = 4096;
	crashes();
}

static void test_memory_512(void **state)
{
	(void)state;
	disk = raw = false;
	block_bytes = 512;
	crashes();
}

static void test_disk(void **state)
{
	(void)state;
	disk = true;
	raw = false;
	block_bytes = 4096;
	crashes();
}

static void test_disk_512(void **state)
{
	(void)state;
	disk = true;
	raw = false;
	block_bytes = 512;
	crashes();
}

static void test_memory_raw(void **state)
{
	(void)state;
	disk = false;
	raw = true;
	crashes();
}

static void test_disk_raw(void **state)
{
	(void)state;
	disk = raw = true;
	crashes();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),	   cmocka_unit_test(test_memory),
		cmocka_unit_test(test_memory_512), cmocka_unit_test(test_disk),
		cmocka_unit_test(test_disk_512),   cmocka_unit_test(test_memory_raw),
		cmocka_unit_test(test_disk_raw),
	};

	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
