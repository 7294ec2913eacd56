/* SPDX-License-Identifier: MIT */
/* Memory that has moved to a device is the kernel's again when the call returns (of two that
 * migrate at once, one or the other): the caller's thread gives pages back, while the server
 * goes on. */
#include "tests/integration/lib_test.h"

#define N	5000	/* ten batches, and not a multiple of one */
#define SLACK	256	/* pages; the kernel counts in batches, and this test needs some */
#define ROUNDS	12

static struct zd_mm *mm;
static struct zd_device *dev;

/* Anonymous pages of this process in RAM. */
static long in_ram(void)
{
	char line[128];
	FILE *f = fopen("/proc/self/status", "r");
	long kib = -1;

	CHECK(f);
	while (kib < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "RssAnon: %ld", &kib);
	fclose(f);
	CHECK(kib > 0);
	return kib * 1024 / PAGE;
}

static void out(char *p, uint64_t tag)
{
	struct zd_migrate_result r;

	fill(p, N, tag);
	migrate_out(mm, p, N * PAGE, N, dev, &r);
	CHECK_EQ(r.moved, N);
}

static void given_back(char *p)
{
	for (int round = 0; round < 5; round++) {
		long with;

		fill(p, N, 1 + round);
		with = in_ram();
		out(p, 1 + round);
		/* a sanitizer needs memory for what the device touches first */
		CHECK(round < 2 || in_ram() <= with - N + SLACK);
		CHECK_FILLED(p, N, 1 + round);
	}
}

/* Two callers at once: each may find the other's pages to give back, or none. */
static void *caller(void *arg)
{
	char *p = arg;

	for (int round = 0; round < ROUNDS; round++) {
		out(p, 10 + round);
		CHECK_FILLED(p, N, 10 + round);
	}
	return NULL;
}

int main(void)
{
	char *p[2];
	pthread_t t[2];

	mm = open_mm();
	dev = ram_device(2 * N);
	for (int i = 0; i < 2; i++) {
		p[i] = map(N);
		/* small pages: the server gives a huge one back without help */
		madvise(p[i], N * PAGE, MADV_NOHUGEPAGE);
		CHECK_EQ(zd_mm_register(mm, p[i], N * PAGE), 0);
	}
	given_back(p[0]);
	for (int i = 0; i < 2; i++)
		CHECK(!pthread_create(&t[i], NULL, caller, p[i]));
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 2; i++)
		munmap(p[i], N * PAGE);
	close_mm(mm, dev);
	return 0;
}
