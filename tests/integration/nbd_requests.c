/* SPDX-License-Identifier: MIT */
/*
 * What a client may ask for, one by one.
 *
 *	nbd_requests URI [PID FILE]	URI: of an empty region of 1 MiB or more; PID, FILE:
 *					the server's process and the region's file, to see
 *					that what is durable is not dirty (not with a BTT:
 *					its log repeats a write that was cut short)
 */
#include <libnbd.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "tests/integration/lib_test.h"

#define LEN	(64ul << 10)

static struct nbd_handle *nbd;
static const char *uri, *server, *file;
static char buf[LEN], data[LEN];

static void write_all(void)
{
	CHECK_EQ(nbd_pwrite(nbd, data, LEN, 0, 0), 0);
}

static void expect_data(size_t from, size_t to)
{
	CHECK_EQ(nbd_pread(nbd, buf, LEN, 0, 0), 0);
	CHECK(!memcmp(buf + from, data + from, to - from));
}

static void expect_zeros(size_t from, size_t to)
{
	CHECK_EQ(nbd_pread(nbd, buf, LEN, 0, 0), 0);
	CHECK(is_zero(buf + from, to - from));
}

static void what_it_is(void)
{
	CHECK_EQ(nbd_can_flush(nbd), 1);
	CHECK_EQ(nbd_can_fua(nbd), 1);
	CHECK_EQ(nbd_can_trim(nbd), 1);
	CHECK_EQ(nbd_can_zero(nbd), 1);
	CHECK_EQ(nbd_can_fast_zero(nbd), 1);
	CHECK_EQ(nbd_can_multi_conn(nbd), 1);
	CHECK_EQ(nbd_is_rotational(nbd), 0);
	CHECK_EQ(nbd_is_read_only(nbd), 0);
	CHECK_EQ(nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM), 512);
	CHECK_EQ(nbd_get_block_size(nbd, LIBNBD_SIZE_PREFERRED), 4096);
	CHECK_EQ(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), 32 << 20);
}

static void zeroes_and_trim(void)
{
	write_all();
	CHECK_EQ(nbd_zero(nbd, 8192, 4096, 0), 0);
	expect_zeros(4096, 12288);
	expect_data(0, 4096);
	expect_data(12288, LEN);
	CHECK_EQ(nbd_zero(nbd, 8192, 16384, LIBNBD_CMD_FLAG_NO_HOLE | LIBNBD_CMD_FLAG_FUA), 0);
	expect_zeros(16384, 24576);
	expect_data(24576, LEN);
	/* Only a zeroing that gives storage back is fast. */
	CHECK_EQ(nbd_zero(nbd, 4096, 32768, LIBNBD_CMD_FLAG_FAST_ZERO), 0);
	expect_zeros(32768, 36864);
	CHECK_EQ(nbd_zero(nbd, 4096, 40960, LIBNBD_CMD_FLAG_FAST_ZERO | LIBNBD_CMD_FLAG_NO_HOLE),
		 -1);
	CHECK_EQ(nbd_get_errno(), ENOTSUP);
	expect_data(40960, 45056);
	CHECK_EQ(nbd_trim(nbd, 4096, 49152, LIBNBD_CMD_FLAG_FUA), 0);
	expect_data(45056, 49152);
	expect_data(53248, LEN);
}

struct extents {
	uint64_t at, data, holes;
	unsigned int nr;
};

static int extent(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t nr,
		  int *error)
{
	struct extents *e = opaque;

	(void)error;
	CHECK(!strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION));
	CHECK_EQ(offset, e->at);
	for (size_t i = 0; i < nr; i += 2) {
		e->at += entries[i];
		*(entries[i + 1] & LIBNBD_STATE_ZERO ? &e->holes : &e->data) += entries[i];
		e->nr++;
	}
	return 0;
}

static void block_status(void)
{
	nbd_extent_callback cb = { .callback = extent };
	struct extents e = { 0 };

	CHECK_EQ(nbd_trim(nbd, 1 << 20, 0, 0), 0);
	CHECK_EQ(nbd_pwrite(nbd, data, 4096, 65536, 0), 0);
	CHECK_EQ(nbd_pwrite(nbd, data, 8192, 131072, 0), 0);
	cb.user_data = &e;
	while (e.at < 1 << 20)
		CHECK_EQ(nbd_block_status(nbd, (1 << 20) - e.at, e.at, cb, 0), 0);
	CHECK_EQ(e.at, 1 << 20);
	CHECK_EQ(e.data, 12288);
	CHECK_EQ(e.holes, (1 << 20) - 12288);
	e = (struct extents){ .at = 65536 };
	CHECK_EQ(nbd_block_status(nbd, 1 << 19, 65536, cb, LIBNBD_CMD_FLAG_REQ_ONE), 0);
	CHECK_EQ(e.nr, 1);
	CHECK_EQ(e.data, 4096);
}

/* How many KiB of the server's mapping of the file are yet to be written back. */
static unsigned int dirty(void)
{
	char path[64], perm[5], line[4400];
	unsigned int kib, sum = 0;
	bool ours = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/smaps", server);
	f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*x-%*x %4s ", perm) == 1)
			ours = !strcmp(perm, "rw-s") && strstr(line, file);
		else if (ours && (sscanf(line, "Shared_Dirty: %u", &kib) == 1 ||
				  sscanf(line, "Private_Dirty: %u", &kib) == 1))
			sum += kib;
	}
	fclose(f);
	return sum;
}

/* A write that is durable when it is acknowledged leaves no dirty page. */
static void durability(void)
{
	struct statfs st;

	CHECK(!statfs(file, &st));
	if (st.f_type == TMPFS_MAGIC)
		return;
	write_all();
	CHECK_EQ(nbd_flush(nbd, 0), 0);
	CHECK_EQ(dirty(), 0);
	CHECK_EQ(nbd_pwrite(nbd, data, LEN, 0, LIBNBD_CMD_FLAG_FUA), 0);
	CHECK_EQ(dirty(), 0);
	CHECK_EQ(nbd_zero(nbd, LEN / 2, 0, LIBNBD_CMD_FLAG_NO_HOLE | LIBNBD_CMD_FLAG_FUA), 0);
	CHECK_EQ(dirty(), 0);
	/* Pages of other writes may be dirty. */
	write_all();
	CHECK_EQ(nbd_zero(nbd, LEN / 2, 0, LIBNBD_CMD_FLAG_FUA), 0);
	CHECK(dirty() <= LEN / 2 / 1024);
	write_all();
	CHECK_EQ(nbd_trim(nbd, LEN / 2, 0, LIBNBD_CMD_FLAG_FUA), 0);
	CHECK(dirty() <= LEN / 2 / 1024);
	write_all();
	CHECK_EQ(nbd_pwrite(nbd, data, LEN / 2, LEN / 2, LIBNBD_CMD_FLAG_FUA), 0);
	CHECK(dirty() <= LEN / 2 / 1024);
}

static struct nbd_handle *connect_to(void)
{
	struct nbd_handle *h = nbd_create();

	CHECK(h);
	CHECK_EQ(nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION), 0);
	if (nbd_connect_uri(h, uri)) {
		fprintf(stderr, "%s\n", nbd_get_error());
		exit(1);
	}
	return h;
}

/* Two clients write into one sector at once: none undoes the other's write. */
static void shared_sector(void)
{
	struct nbd_handle *clients[2] = { connect_to(), connect_to() };
	char mine[2][100], back[512];
	int64_t cookies[2];

	for (int round = 0; round < 300; round++) {
		for (int i = 0; i < 2; i++) {
			CHECK_EQ(nbd_set_strict_mode(clients[i], 0), 0);
			memset(mine[i], round * 2 + i, sizeof(mine[i]));
			cookies[i] = nbd_aio_pwrite(clients[i], mine[i], sizeof(mine[i]), i * 256,
						    NBD_NULL_COMPLETION, 0);
			CHECK(cookies[i] >= 0);
		}
		for (int i = 0; i < 2; i++)
			while (!nbd_aio_command_completed(clients[i], cookies[i]))
				CHECK(nbd_poll(clients[i], -1) >= 0);
		CHECK_EQ(nbd_pread(nbd, back, sizeof(back), 0, 0), 0);
		for (int i = 0; i < 2; i++)
			CHECK(!memcmp(back + i * 256, mine[i], sizeof(mine[i])));
	}
	nbd_close(clients[0]);
	nbd_close(clients[1]);
}

/* The protocol forbids these requests; some clients send them. */
static void odd_sizes(void)
{
	CHECK_EQ(nbd_set_strict_mode(nbd, 0), 0);
	write_all();
	memset(buf, 'x', 1000);
	CHECK_EQ(nbd_pwrite(nbd, buf, 1000, 4093, LIBNBD_CMD_FLAG_FUA), 0);
	CHECK_EQ(nbd_pread(nbd, buf, 1002, 4092, 0), 0);
	CHECK_EQ(buf[0], data[4092]);
	CHECK_EQ(buf[1], 'x');
	CHECK_EQ(buf[1000], 'x');
	CHECK_EQ(buf[1001], data[5093]);
	expect_data(0, 4093);
	expect_data(5093, LEN);
	CHECK_EQ(nbd_zero(nbd, 10, 8190, 0), 0);
	expect_zeros(8190, 8200);
	expect_data(8200, LEN);
	/* A trim of less than sectors trims no more than its range. */
	CHECK_EQ(nbd_trim(nbd, 2000, 16383, 0), 0);
	expect_data(8200, 16384);
	expect_data(18383 / 512 * 512, LEN);
	CHECK_EQ(nbd_trim(nbd, 10, 20000, 0), 0);
	expect_data(18383 / 512 * 512, LEN);
	/* Beyond the end of the region. */
	CHECK_EQ(nbd_pread(nbd, buf, 512, nbd_get_size(nbd), 0), -1);
	CHECK_EQ(nbd_pwrite(nbd, buf, 1024, nbd_get_size(nbd) - 512, 0), -1);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2 || argc == 4);
	uri = argv[1];
	server = argv[2];
	file = argc > 2 ? argv[3] : NULL;
	fill(data, LEN / PAGE, 7);
	nbd = connect_to();
	what_it_is();
	zeroes_and_trim();
	block_status();
	odd_sizes();
	shared_sector();
	if (file)
		durability();
	nbd_close(nbd);
	return 0;
}
