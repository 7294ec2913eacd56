/* SPDX-License-Identifier: MIT */
/*
 * The nbd driver against real servers that do what servers do: answer with errors, forget,
 * refuse.  Servers that go away are in drivers_nbd_lost.c.
 */
#include "drivers_nbd_common.h"

#include <sys/stat.h>

/* Broken looks like: an error of the server's becomes one of the page's. */
static void errors_that_pass_are_not_seen(void **state)
{
	struct zd_nbd *nbd;
	struct set set;

	(void)state;
	/* at 20% one run in 25 had a command that failed each time */
	start_nbdkit("--filter=error", "memory", "16M", "error-pread-rate=10%",
		     "error-pwrite-rate=10%", "error-trim-rate=0%");
	nbd = open_device(20000, 2);
	make_set(&set, nbd, 512);
	write_set(&set, 1);
	for (unsigned int i = 0; i < set.nr; i++) {
		memset(set.pages[i].buf, 0, ZD_PAGE_SIZE);
		do_io_ok(&nbd->dev, ZD_FROM_DEVICE, &set.pages[i], 1);
	}
	expect_set(&set, 1);
	assert_true(stat_of(nbd, "retries") > 20);
	free_set(&set);
	close_device(nbd);
}

/* Broken looks like: a bad sector costs its neighbours, too, or never ends. */
static void a_bad_block_costs_its_page_alone(void **state)
{
	struct zd_nbd *nbd;
	struct set set;
	char map[96], path[96];
	FILE *f;

	(void)state;
	/* With ddrescue's map a server knows bad sectors: page 21, half of it. */
	snprintf(path, sizeof(path), "%s/data", dir);
	snprintf(map, sizeof(map), "ddrescue-mapfile=%s/map", dir);
	f = fopen(strchr(map, '/'), "w");
	assert_non_null(f);
	fprintf(f, "# x\n0x00000000 + 1\n0x00000000 0x00015000 +\n0x00015000 0x00000800 -\n"
		   "0x00015800 0x00fea800 +\n");
	fclose(f);
	/* The filter is for reading only, so the pages are written by another server. */
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), SIZE_MIB << 20), 0);
	fclose(f);
	start_nbdkit("file", path);
	nbd = open_device(20000, 1);
	make_set(&set, nbd, 64);
	write_set(&set, 1);
	kill_server();
	start_nbdkit("--filter=cow", "--filter=ddrescue", "file", path, map, "cow-block-size=4K");
	memset(set.mem, 0, set.nr * ZD_PAGE_SIZE);
	do_io(&nbd->dev, ZD_FROM_DEVICE, set.pages, set.nr);
	for (unsigned int i = 0; i < set.nr; i++) {
		bool bad = zd_device_page_index(&nbd->dev, set.pfns[i]) == 0x15;

		assert_int_equal(set.pages[i].error, bad ? -EIO : 0);
		assert_true(bad || filled(set.pages[i].buf, set.pfns[i] * 16 + 1));
	}
	free_set(&set);
	close_device(nbd);
}

/* A server that was started again with an empty memory.  Broken looks like: zeros. */
static void other_content_is_an_error(void **state)
{
	struct zd_nbd *nbd;
	struct set set, new;

	(void)state;
	start_nbdkit("memory", "16M");
	nbd = open_device(20000, 2);
	make_set(&set, nbd, 40);
	write_set(&set, 1);
	kill_server();
	start_nbdkit("memory", "16M");
	do_io(&nbd->dev, ZD_FROM_DEVICE, set.pages, set.nr);
	for (unsigned int i = 0; i < set.nr; i++)
		assert_int_equal(set.pages[i].error, -EIO);
	assert_true(stat_of(nbd, "checksum_errors") >= 40);
	assert_true(stat_of(nbd, "reconnects") >= 1);
	/* What is written from now on is as good as ever. */
	make_set(&new, nbd, 40);
	write_set(&new, 2);
	read_set(&new, 2);
	write_set(&set, 3);
	read_set(&set, 3);
	free_set(&new);
	free_set(&set);
	close_device(nbd);
}

static uint64_t file_bytes(void)
{
	char path[96];
	struct stat st;

	snprintf(path, sizeof(path), "%s/data", dir);
	assert_int_equal(stat(path, &st), 0);
	return st.st_blocks * 512UL;
}

static bool file_was_trimmed(struct zd_nbd *nbd)
{
	return file_bytes() <= (SIZE_MIB << 20) / 4 &&
	       stat_of(nbd, "trimmed_pages") >= NR_PAGES / 2;
}

/* Broken looks like: the server's memory stays taken for pages that are free. */
static void freed_pages_are_trimmed(void **state)
{
	struct zd_nbd *nbd;
	struct set set, kept;
	char path[96];
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/data", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), SIZE_MIB << 20), 0);
	fclose(f);
	start_nbdkit("file", path);
	nbd = open_device(20000, 2);
	make_set(&kept, nbd, 10);
	write_set(&kept, 1);
	make_set(&set, nbd, NR_PAGES - 200);
	write_set(&set, 1);
	assert_true(file_bytes() >= (NR_PAGES - 200) * ZD_PAGE_SIZE);
	free_set(&set);
	wait_until(nbd, file_was_trimmed);
	read_set(&kept, 1);
	free_set(&kept);
	close_device(nbd);
	assert_int_equal(file_bytes(), 0);	/* nothing is left behind */
}

static void expect_refusal(const char *text, uint64_t size)
{
	const struct zd_nbd_options options = {
		.uri = uri, .connections = 2, .timeout_ms = 1000, .size = size,
	};
	unsigned int fds = count_fds();
	struct zd_device *dev;
	char err[512] = "";

	assert_true(zd_nbd_device_create(&options, &dev, err, sizeof(err)) < 0);
	if (!strstr(err, text) || strchr(err, '\n'))
		fail_msg("no '%s' in: %s", text, err);
	assert_int_equal(count_fds(), fds);
}

static void what_is_no_device_is_refused(void **state)
{
	(void)state;
	expect_refusal("start the server", 0);
	start_nbdkit("-r", "memory", "16M");
	expect_refusal("is read-only", 0);
	kill_server();
	start_nbdkit("memory", "1M");
	expect_refusal("2 MiB or more", 0);
	kill_server();
	start_nbdkit("memory", "16M");
	expect_refusal("give a smaller size", 32 << 20);
	kill_server();
	start_nbdkit("--filter=blocksize-policy", "memory", "16M", "blocksize-minimum=8K",
		     "blocksize-preferred=8K");
	expect_refusal("4096 bytes", 0);
	kill_server();
}

/* A server that takes 8 KiB at a time.  Broken looks like: larger commands, which fail. */
static void the_largest_block_is_respected(void **state)
{
	struct zd_nbd *nbd;
	struct set set;

	(void)state;
	start_nbdkit("--filter=blocksize-policy", "memory", "16M", "blocksize-maximum=8K",
		     "blocksize-error-policy=error");
	nbd = open_device(20000, 2);
	make_set(&set, nbd, 128);
	write_set(&set, 1);
	read_set(&set, 1);
	assert_true(stat_of(nbd, "commands") >= 128);
	assert_true(stat_of(nbd, "retries") == 0);
	free_set(&set);
	close_device(nbd);
}

/* Broken looks like: a page above the new size that is given out, or lost before it is freed. */
static void a_device_shrinks_and_grows(void **state)
{
	struct zd_nbd *nbd;
	struct set set, low;
	zd_pfn_t pfn;

	(void)state;
	start_nbdkit("memory", "16M");
	nbd = open_device(20000, 2);
	make_set(&set, nbd, NR_PAGES);
	write_set(&set, 1);
	/* no page of the set is live; zd_device_resize() waits for none */
	assert_int_equal(zd_device_resize(&nbd->dev, NR_PAGES / 2 + 5), 0);
	read_set(&set, 1);
	free_set(&set);
	make_set(&low, nbd, NR_PAGES / 2 + 5);
	assert_int_equal(nbd->dev.ops->alloc_pages(&nbd->dev, 1, &pfn), 0);
	for (unsigned int i = 0; i < low.nr; i++)
		assert_true(zd_device_page_index(&nbd->dev, low.pfns[i]) < NR_PAGES / 2 + 5);
	assert_int_equal(zd_device_resize(&nbd->dev, NR_PAGES), 0);
	alloc_pages(nbd, 1, &pfn);
	nbd->dev.ops->unalloc_pages(&nbd->dev, 1, &pfn);
	free_set(&low);
	close_device(nbd);
}

static void runs_are_one_command(void **state)
{
	struct zd_nbd *nbd;
	struct set set;

	(void)state;
	start_nbdkit("memory", "16M");
	nbd = open_device(20000, 4);
	make_set(&set, nbd, 512);
	write_set(&set, 1);
	read_set(&set, 1);
	assert_true(stat_of(nbd, "commands") == 2);
	assert_true(stat_of(nbd, "pages") == 1024);
	assert_true(stat_of(nbd, "read_p50_us") > 1 && stat_of(nbd, "read_p99_us") < 1e7);
	assert_true(stat_of(nbd, "in_flight") == 0);
	free_set(&set);
	close_device(nbd);
}

/* Many small batches at a time over all of the connections. */
static void connections_share_the_work(void **state)
{
	struct zd_device_io io[NR_PAGES / 4 + 1] = { 0 };
	struct zd_nbd *nbd;
	struct set set;

	(void)state;
	start_nbdkit("--filter=delay", "memory", "16M", "rdelay=10ms");
	nbd = open_device(20000, 4);
	make_set(&set, nbd, NR_PAGES / 4);
	write_set(&set, 1);
	for (int round = 0; round < 3; round++) {
		memset(set.mem, 0xee, set.nr * ZD_PAGE_SIZE);
		memset(io, 0, sizeof(io));
		for (unsigned int i = 0; i < set.nr; i++)
			start_io(&nbd->dev, &io[i], ZD_FROM_DEVICE, &set.pages[i], 1);
		for (unsigned int i = 0; i < set.nr; i++)
			wait_io(&nbd->dev, &io[i]);
		expect_set(&set, 1);
	}
	free_set(&set);
	close_device(nbd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(errors_that_pass_are_not_seen), TEST(a_bad_block_costs_its_page_alone),
		TEST(other_content_is_an_error),     TEST(freed_pages_are_trimmed),
		TEST(what_is_no_device_is_refused),  TEST(the_largest_block_is_respected),
		TEST(runs_are_one_command),	     TEST(connections_share_the_work),
		TEST(a_device_shrinks_and_grows),
	};

	if (!have_nbdkit()) {
		printf("SKIP: needs nbdkit\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
