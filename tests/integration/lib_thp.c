/* SPDX-License-Identifier: MIT */
/* Transparent huge pages go out, whole, and come home. */
#include "tests/integration/lib_huge.h"

#define NR	4			/* huge pages */
#define N	(NR * HUGE / PAGE)

/* Huge pages that this machine has split so far. */
static long splits(void)
{
	FILE *f = fopen("/proc/vmstat", "r");
	char line[128];
	long v, sum = 0;

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "thp_split_pmd %ld", &v) == 1)
			sum = v;
	fclose(f);
	return sum;
}

static void whole(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	long before;
	char *small = evicted(mm, 700, 5, dev);	/* staging has held small pages */
	char *p = map_huge(NR, 1);

	CHECK_EQ(zd_mm_register(mm, p, NR * HUGE), 0);
	before = splits();
	migrate_out(mm, p, NR * HUGE, N, dev, &r);
	printf("huge pages split meanwhile: %ld\n", splits() - before);
	CHECK_EQ(r.moved, N);
	CHECK_EQ(resident(p, N), 0);
	CHECK_EQ(huge_bytes(p), 0);
	CHECK_FILLED(p, N, 1);
	CHECK_FILLED(small, 700, 5);
	migrate_out(mm, p, NR * HUGE, N, dev, &r);
	CHECK_EQ(r.moved, N);
	CHECK_EQ(zd_migrate_to_ram(mm, p, NR * HUGE, &r), 0);
	CHECK_EQ(r.moved, N);
	CHECK_FILLED(p, N, 1);
}

/* A range that begins and ends inside huge pages. */
static void parts(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	char *p = map_huge(NR, 1);

	CHECK_EQ(zd_mm_register(mm, p, NR * HUGE), 0);
	migrate_out(mm, p + 5 * PAGE, (N - 12) * PAGE, N - 12, dev, &r);
	CHECK_EQ(r.moved, N - 12);
	CHECK_EQ(resident(p, N), 12);
	CHECK_FILLED(p, N, 1);
}

/* Shared with a child, they stay. */
static void pause_child(void *arg)
{
	char c;

	CHECK_EQ(read(*(int *)arg, &c, 1), 1);
}

static void shared(struct zd_mm *mm, struct zd_device *dev)
{
	struct zd_migrate_result r;
	char *p = map_huge(NR, 1);
	int go[2];
	pid_t pid;

	CHECK(!pipe(go));
	CHECK_EQ(zd_mm_register(mm, p, NR * HUGE), 0);
	pid = child_start(pause_child, &go[0]);
	CHECK_EQ(zd_migrate_to_device(mm, p, NR * HUGE, dev, &r), 0);
	CHECK_EQ(r.moved, 0);
	CHECK_EQ(r.shared + r.pinned, N);
	CHECK_EQ(write(go[1], "", 1), 1);
	child_ok(pid);
	CHECK_FILLED(p, N, 1);
}

int main(void)
{
	for (int latency = 0; latency < 2; latency++) {
		struct zd_mm *mm = open_mm();
		struct zd_device *dev = ram_device(N + 700);

		if (latency)
			set_latency(dev, 100);
		whole(mm, dev);
		parts(mm, dev);
		shared(mm, dev);
		close_mm(mm, dev);
	}
	return 0;
}
