/* SPDX-License-Identifier: MIT */
/* Too little address space (ulimit -v): a clean -ENOMEM wherever it is missed, and what was
 * done before is right. */
#include <sys/resource.h>

#include "tests/integration/lib_test.h"

#define N 600

static size_t address_space(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t pages;

	CHECK(f && fscanf(f, "%zu", &pages) == 1);
	fclose(f);
	return pages * PAGE;
}

/* Exit status: 10 + how many steps were done. */
static void attempt(void *arg)
{
	char *p = map(N);
	struct rlimit lim;
	struct zd_device *dev;
	struct zd_migrate_result r;
	struct zd_mm *mm;
	int rc;

	fill(p, N, 1);
	lim.rlim_cur = lim.rlim_max = address_space() + (uintptr_t)arg;
	CHECK(!setrlimit(RLIMIT_AS, &lim));
	rc = zd_ram_device_create(N * PAGE, &dev);
	CHECK(!rc || rc == -ENOMEM);
	if (rc)
		_exit(10);
	rc = zd_mm_open(NULL, &mm);
	if (rc == -EPERM || rc == -EOPNOTSUPP)
		_exit(77);
	CHECK(!rc || rc == -ENOMEM);
	if (rc) {
		CHECK_EQ(zd_device_unregister(dev), 0);
		_exit(11);
	}
	rc = zd_mm_register(mm, p, N * PAGE);
	CHECK(!rc || rc == -ENOMEM);
	if (rc) {
		close_mm(mm, dev);
		CHECK_FILLED(p, N, 1);
		_exit(12);
	}
	rc = zd_migrate_to_device(mm, p, N * PAGE, dev, &r);
	CHECK(!rc || rc == -ENOMEM);
	CHECK_FILLED(p, N, 1);
	close_mm(mm, dev);
	CHECK_FILLED(p, N, 1);
	_exit(rc ? 13 : 14);
}

int main(void)
{
	int status, last = 10;
	unsigned int seen = 0;

	for (size_t room = 0; last < 14; room += 128 << 10) {
		CHECK(room < 1UL << 30);
		status = child_status(child_start(attempt, (void *)room));
		CHECK(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77)
			skip("needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE");
		CHECK(WEXITSTATUS(status) >= 10);
		last = WEXITSTATUS(status);
		if (!(seen & 1u << last))
			printf("with %zu KiB: step %d\n", room >> 10, last);
		seen |= 1u << last;
	}
	CHECK(seen & 1u << 10);
	CHECK(seen & 1u << 11);
	return 0;
}
