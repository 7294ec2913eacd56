/* SPDX-License-Identifier: MIT */
/*
 * Clients of different sectors don't wait for each other; clients of the same sectors lose
 * nothing.  nbd_apart URI DIR: the server's msync() is nbd_msync.c's, told by files in DIR.
 * A request that waited, and must not, would wait for ever: hence the alarm.
 */
#include "lib_test.h"

#include <libnbd.h>
#include <pthread.h>
#include <sys/stat.h>

#define SECTOR		512
#define AT		(1 << 20)	/* in the region, which has 8 MiB */
#define ROUNDS		400
#define SIDES		3

static const char *uri, *dir;

static struct nbd_handle *connect_one(void)
{
	struct nbd_handle *nbd = nbd_create();

	CHECK(nbd);
	CHECK(!nbd_set_strict_mode(nbd, 0));
	if (nbd_connect_uri(nbd, uri))
		fprintf(stderr, "%s\n", nbd_get_error());
	CHECK(nbd_aio_is_ready(nbd));
	return nbd;
}

static void part(struct nbd_handle *nbd)
{
	CHECK(!nbd_shutdown(nbd, 0));
	nbd_close(nbd);
}

static uint64_t log_size(void)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/log", dir);
	return stat(path, &st) ? 0 : st.st_size;
}

static void hold(unsigned long least)
{
	char path[512], made[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/hold", dir);
	snprintf(made, sizeof(made), "%s/hold.new", dir);
	if (!least) {
		CHECK(!unlink(path));
		return;
	}
	f = fopen(made, "w");
	CHECK(f);
	fprintf(f, "%lu\n", least);
	CHECK(!fclose(f));
	CHECK(!rename(made, path));
}

struct slow {
	struct nbd_handle *nbd;
	int (*fn)(struct nbd_handle *nbd);
	pthread_t thread;
	uint32_t done;
};

static void *be_slow(void *arg)
{
	struct slow *s = arg;

	CHECK(!s->fn(s->nbd));
	__atomic_store_n(&s->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Waits until a request is in its msync(). */
static void start_slow(struct slow *s, int (*fn)(struct nbd_handle *nbd))
{
	uint64_t before = log_size();

	*s = (struct slow){ .nbd = connect_one(), .fn = fn };
	CHECK(!pthread_create(&s->thread, NULL, be_slow, s));
	WAIT_FOR(log_size() > before);
	CHECK_EQ(__atomic_load_n(&s->done, __ATOMIC_ACQUIRE), 0);
}

static void end_slow(struct slow *s)
{
	CHECK(!pthread_join(s->thread, NULL));
	part(s->nbd);
}

static int flush(struct nbd_handle *nbd)
{
	return nbd_flush(nbd, 0);
}

static int write_part_durably(struct nbd_handle *nbd)
{
	return nbd_pwrite(nbd, "durable", 7, AT + 3, LIBNBD_CMD_FLAG_FUA);
}

static void check_read(struct nbd_handle *nbd, uint64_t offset, const char *what)
{
	char buf[SECTOR];

	CHECK(!nbd_pread(nbd, buf, strlen(what), offset, 0));
	CHECK(!memcmp(buf, what, strlen(what)));
}

static void test_stalls(void)
{
	struct nbd_handle *nbd = connect_one(), *other = connect_one();
	char sector[SECTOR] = "whole";
	struct slow all, one;

	/* A flush that doesn't end. */
	CHECK(!nbd_pwrite(nbd, sector, SECTOR, 8 * SECTOR, 0));
	hold(1);
	start_slow(&all, flush);
	CHECK(!nbd_pwrite(nbd, "part", 4, 1, 0));
	check_read(other, 1, "part");
	check_read(other, 8 * SECTOR, "whole");
	CHECK(!nbd_pwrite(other, sector, SECTOR, 9 * SECTOR, 0));
	CHECK(!nbd_trim(other, 64 << 10, 2 << 20, 0));
	/* And beside the flush a write of less than a sector that waits for its own sync: even
	 * the sector of that write can be written. */
	start_slow(&one, write_part_durably);
	check_read(other, AT + 3, "durable");
	CHECK(!nbd_pwrite(nbd, "part", 4, AT + 20, 0));
	check_read(other, AT + 3, "durable");
	check_read(other, AT + 20, "part");
	CHECK(!nbd_pwrite(nbd, sector, SECTOR, AT, 0));
	check_read(nbd, AT, "whole");
	CHECK(!nbd_pwrite(nbd, sector, SECTOR, AT + SECTOR, 0));
	CHECK_EQ(__atomic_load_n(&all.done, __ATOMIC_ACQUIRE), 0);
	CHECK_EQ(__atomic_load_n(&one.done, __ATOMIC_ACQUIRE), 0);
	hold(0);
	end_slow(&all);
	end_slow(&one);
	/* A durable write doesn't wait for another client's flush. */
	hold(1 << 20);
	start_slow(&all, flush);
	CHECK(!nbd_pwrite(nbd, sector, SECTOR, AT, LIBNBD_CMD_FLAG_FUA));
	CHECK_EQ(__atomic_load_n(&all.done, __ATOMIC_ACQUIRE), 0);
	hold(0);
	end_slow(&all);
	part(nbd);
	part(other);
}

/* --- the same sectors --- */

/*
 * Sectors 0 to 3 of AT.  Side 0 writes sectors 1 and 2 whole; no other side writes their
 * bytes between the first and the last 8.  Each other side writes 16 bytes over a limit between
 * two sectors of its own: the end of sector 1 and the beginning of sector 2, and so on.
 */
static void *write_side(void *arg)
{
	uint64_t side = (uintptr_t)arg, from = AT + side * SECTOR - 8;
	struct nbd_handle *nbd = connect_one();
	char buf[2 * SECTOR], back[2 * SECTOR];

	for (uint32_t i = 1; i <= ROUNDS; i++) {
		memset(buf, 'a' + i % 26, sizeof(buf));
		if (!side) {
			CHECK(!nbd_pwrite(nbd, buf, SECTOR, AT + SECTOR + i % 2 * SECTOR, 0));
			CHECK(!nbd_pread(nbd, back, SECTOR, AT + SECTOR + i % 2 * SECTOR, 0));
			CHECK(!memcmp(buf, back + 8, SECTOR - 16));
			continue;
		}
		CHECK(!nbd_pwrite(nbd, buf, 16, side == 3 ? AT + 100 : from, 0));
		CHECK(!nbd_pread(nbd, back, 16, side == 3 ? AT + 100 : from, 0));
		if (side == 3)	/* no other side writes these */
			CHECK(!memcmp(buf, back, 16));
	}
	part(nbd);
	return NULL;
}

static void test_same_sectors(void)
{
	pthread_t t[SIDES + 1];

	for (uintptr_t i = 0; i <= SIDES; i++)
		CHECK(!pthread_create(&t[i], NULL, write_side, (void *)i));
	for (int i = 0; i <= SIDES; i++)
		CHECK(!pthread_join(t[i], NULL));
}

int main(int argc, char **argv)
{
	CHECK_EQ(argc, 3);
	uri = argv[1];
	dir = argv[2];
	alarm(50);
	test_stalls();
	test_same_sectors();
	return 0;
}
