/* SPDX-License-Identifier: MIT */
/*
 * A revoked mapping raises SIGBUS, wherever and however it is touched; under load,
 * every access finds the region's data or an error, and no other mapping ever gets the
 * addresses.
 */
#include <sys/uio.h>

#include "tests/integration/dax_test.h"

#define N	64

static int handled;

static void count_handler(int sig, siginfo_t *info, void *ctx)
{
	handled++;
	bus_handler(sig, info, ctx);
}

/* Installed before the first region: zonedev's handler goes in front of it. */
static void own_handler(void)
{
	struct sigaction sa = { .sa_sigaction = count_handler, .sa_flags = SA_SIGINFO };

	CHECK(!sigaction(SIGBUS, &sa, NULL));
}

static int first_byte(void *ctx)
{
	return *(volatile unsigned char *)ctx;
}

static int into_the_page(void *ctx)
{
	*(volatile char *)ctx = 7;
	return 0;
}

static void touched_afterwards(void)
{
	int fd = new_memfd(N * PAGE), file = new_memfd(PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_dax_mapping *map = map_all(dax, NULL, ZD_DAX_POPULATE), *other;
	unsigned char *mem = zd_dax_mapping_addr(map);
	char buf[16];

	fill(mem, N, 1);
	CHECK_EQ(zd_dax_access_guard(map, first_byte, mem), mem[0]);
	CHECK(!zd_dax_mapping_revoked(map));
	CHECK_EQ(zd_dax_revoke(dax), 0);
	CHECK(zd_dax_mapping_revoked(map));

	/* the program's own handler is still called */
	CHECK_EQ(handled, 0);
	for (size_t p = 0; p < N; p++)
		CHECK(raises_sigbus((char *)mem + p * PAGE + 5));
	CHECK_EQ(handled, N);
	CHECK_EQ(zd_dax_access_guard(map, first_byte, mem), -ENODEV);
	CHECK_EQ(zd_dax_read(map, 0, buf, sizeof(buf)), -ENODEV);
	CHECK_EQ(zd_dax_write(map, N * PAGE - 1, buf, 1), -ENODEV);
	CHECK_EQ(handled, N);
	CHECK_EQ(write(file, mem, 16), -1);
	CHECK_EQ(errno, EFAULT);

	/* the region is as it was */
	other = map_all(dax, NULL, 0);
	CHECK_FILLED(zd_dax_mapping_addr(other), N, 1);
	CHECK(raises_sigbus((char *)mem));
	CHECK_EQ(zd_dax_munmap(other), 0);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(file);
	close(fd);
}

struct nested {
	struct zd_dax_mapping *inner;
	char *outer_mem;
	int inner_result;
};

static int outer(void *ctx)
{
	struct nested *n = ctx;

	n->inner_result = zd_dax_access_guard(n->inner, first_byte, zd_dax_mapping_addr(n->inner));
	/* a fault outside of the inner range ends this guard, too */
	if (n->inner_result >= 0)
		zd_dax_access_guard(n->inner, into_the_page, n->outer_mem);
	return 77;
}

/* The file gets shorter; guards in guards; a copy tells which side faulted. */
static void truncated(void)
{
	int fd = new_memfd(N * PAGE), fd2 = new_memfd(PAGE);
	struct zd_dax *dax = open_dax(fd, 0), *dax2 = open_dax(fd2, 0);
	struct zd_dax_mapping *map = map_all(dax, NULL, 0), *map2 = map_all(dax2, NULL, 0);
	char *mem = zd_dax_mapping_addr(map), *mem2 = zd_dax_mapping_addr(map2),
	     *buf = malloc(N * PAGE);
	struct nested n = { .inner = map2, .outer_mem = mem + PAGE };

	fill(mem, N, 2);
	CHECK(!ftruncate(fd, PAGE));
	CHECK_EQ(zd_dax_read(map, 0, buf, N * PAGE), -EIO);
	CHECK_EQ(zd_dax_read(map, 0, buf, PAGE), 0);
	CHECK_FILLED(buf, 1, 2);
	CHECK_EQ(zd_dax_write(map, PAGE, buf, 1), -EIO);
	CHECK_EQ(zd_dax_access_guard(map, first_byte, mem + PAGE), -EIO);
	CHECK_EQ(zd_dax_read(map2, 0, mem + PAGE, 10), -EFAULT);

	/* the inner guard has its own range; the outer gets the rest */
	CHECK_EQ(zd_dax_access_guard(map, outer, &n), -EIO);
	CHECK_EQ(n.inner_result, 0);
	CHECK_EQ(zd_dax_revoke(dax2), 0);
	CHECK_EQ(zd_dax_access_guard(map, outer, &n), 77);
	CHECK_EQ(n.inner_result, -ENODEV);
	CHECK(raises_sigbus(mem2));
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_munmap(map2), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	CHECK_EQ(zd_dax_close(dax2), 0);
	close(fd);
	close(fd2);
	free(buf);
}

/* --- under load --- */

#define USERS	2
#define ROUNDS	200

struct user {
	pthread_t thread;
	struct zd_dax_mapping *map;	/* of this round, or NULL */
	uint64_t good, gone;
	uint64_t rng;
	bool in;
};

static struct user users[USERS];
static bool stop;
static uintptr_t taken, taken_end;	/* the round's mapping */

struct look {
	volatile uint64_t *word;
	uint64_t seen;
};

static int look(void *ctx)
{
	struct look *l = ctx;

	l->seen = *l->word;
	return 0;
}

static int touch(struct user *u, struct zd_dax_mapping *map)
{
	size_t page = rnd(&u->rng) % N, i = rnd(&u->rng) % (PAGE / 8);
	struct look l = { .word = (uint64_t *)zd_dax_mapping_addr(map) + page * (PAGE / 8) + i };
	uint64_t w = word(3, page, i);
	int rc;

	switch (rnd(&u->rng) % 3) {
	case 0:
		rc = zd_dax_access_guard(map, look, &l);
		break;
	case 1:
		rc = zd_dax_read(map, (page * (PAGE / 8) + i) * 8, &l.seen, 8);
		break;
	default:
		l.seen = w;
		rc = zd_dax_write(map, (page * (PAGE / 8) + i) * 8, &w, 8);
	}
	if (!rc)
		CHECK_EQ(l.seen, w);
	return rc;
}

static void *use(void *arg)
{
	struct user *u = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		struct zd_dax_mapping *map = __atomic_load_n(&u->map, __ATOMIC_ACQUIRE);
		int rc = 0;

		if (!map) {
			sched_yield();
			continue;
		}
		while (!rc) {
			rc = touch(u, map);
			u->good += !rc;
			__atomic_store_n(&u->in, true, __ATOMIC_RELEASE);
		}
		CHECK_EQ(rc, -ENODEV);
		u->gone++;
		__atomic_store_n(&u->map, NULL, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Maps whatever is free: never at the addresses of a mapping. */
static void *grab(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		char *p = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
		uintptr_t from = __atomic_load_n(&taken, __ATOMIC_ACQUIRE);
		uintptr_t to = __atomic_load_n(&taken_end, __ATOMIC_ACQUIRE);

		CHECK(p != MAP_FAILED);
		/* the round may have ended since */
		if ((uintptr_t)p < to && (uintptr_t)p + N * PAGE > from)
			CHECK(__atomic_load_n(&taken, __ATOMIC_ACQUIRE) != from);
		CHECK(!munmap(p, N * PAGE));
	}
	return NULL;
}

static void take(struct zd_dax_mapping *map)
{
	uintptr_t at = map ? (uintptr_t)zd_dax_mapping_addr(map) : 0;

	__atomic_store_n(&taken_end, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&taken, at, __ATOMIC_RELEASE);
	__atomic_store_n(&taken_end, at ? at + N * PAGE : 0, __ATOMIC_RELEASE);
}

static void under_load(uint64_t *rng)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax *dax = open_dax(fd, 0);
	struct zd_dax_mapping *map = map_all(dax, NULL, 0);
	pthread_t grabber;

	fill(zd_dax_mapping_addr(map), N, 3);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK(!pthread_create(&grabber, NULL, grab, NULL));
	for (int i = 0; i < USERS; i++) {
		users[i].rng = rnd(rng) | 1;
		CHECK(!pthread_create(&users[i].thread, NULL, use, &users[i]));
	}
	for (int round = 0; round < ROUNDS; round++) {
		map = map_all(dax, NULL, round % 2 ? ZD_DAX_POPULATE : 0);
		take(map);
		for (int i = 0; i < USERS; i++) {
			__atomic_store_n(&users[i].in, false, __ATOMIC_RELEASE);
			__atomic_store_n(&users[i].map, map, __ATOMIC_RELEASE);
		}
		for (int i = 0; i < USERS; i++)
			WAIT_FOR(__atomic_load_n(&users[i].in, __ATOMIC_ACQUIRE));
		if (round % 8 == 7) {	/* or the region is closed, and opened again */
			CHECK_EQ(zd_dax_close_timeout(dax, PATIENCE * 1000, NULL), 0);
			dax = open_dax(fd, 0);
		} else {
			CHECK_EQ(zd_dax_revoke(dax), 0);
		}
		for (int i = 0; i < USERS; i++)
			WAIT_FOR(!__atomic_load_n(&users[i].map, __ATOMIC_ACQUIRE));
		take(NULL);
		CHECK_EQ(zd_dax_munmap(map), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	CHECK(!pthread_join(grabber, NULL));
	for (int i = 0; i < USERS; i++) {
		CHECK(!pthread_join(users[i].thread, NULL));
		CHECK(users[i].good >= ROUNDS);
		CHECK_EQ(users[i].gone, ROUNDS);
	}
	map = map_all(dax, NULL, 0);
	CHECK_FILLED(zd_dax_mapping_addr(map), N, 3);
	CHECK_EQ(zd_dax_munmap(map), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	close(fd);
}

int main(int argc, char **argv)
{
	uint64_t rng = seed(argc, argv);

	own_handler();
	touched_afterwards();
	truncated();
	under_load(&rng);
	return 0;
}
