/* SPDX-License-Identifier: MIT */
/*
 * zd_memremap_pages() of 16 TiB: time, and growth of the resident set; each
 * round in a process of its own, since the first one pays for the descriptor
 * table.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "zonedev/pagemap.h"

#define ROUNDS	11

struct figures {
	double ms, mib, unmap_ms;
};

static void page_free(struct zd_page *page)
{
	(void)page;
}

/* statm's counters lag behind; smaps walks the page tables. */
static double rss_mib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	long kib = -1;

	while (f && kib < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "Rss: %ld kB", &kib) != 1)
			kib = -1;
	if (f)
		fclose(f);
	if (kib < 0)
		bench_skip("no /proc/self/smaps_rollup");
	return kib / 1024.0;
}

static void measure(struct figures *out)
{
	static const struct zd_pagemap_ops ops = { .size = sizeof(ops), .page_free = page_free };
	struct zd_pagemap pgmap = {
		.type = ZD_MEMORY_DEVICE_PRIVATE, .ops = &ops,
		.nr_pages = (16ull << 40) / ZD_PAGE_SIZE,
	};
	double before;
	uint64_t t;
	int rc;

	rss_mib();		/* stdio's own buffers */
	before = rss_mib();
	t = bench_now_ns();
	rc = zd_memremap_pages(&pgmap);
	out->ms = (bench_now_ns() - t) / 1e6;
	if (rc)
		bench_die("zd_memremap_pages: %s", strerror(-rc));
	out->mib = rss_mib() - before;
	t = bench_now_ns();
	if (zd_memunmap_pages(&pgmap))
		bench_die("zd_memunmap_pages failed");
	out->unmap_ms = (bench_now_ns() - t) / 1e6;
}

int main(void)
{
	static double ms[ROUNDS], mib[ROUNDS], unmap_ms[ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		struct figures f = { 0 };
		int pipefd[2], status;
		pid_t pid;

		if (pipe(pipefd))
			bench_die("pipe");
		fflush(stdout);
		pid = fork();
		if (!pid) {
			measure(&f);
			fflush(stdout);
			_exit(write(pipefd[1], &f, sizeof(f)) != sizeof(f));
		}
		close(pipefd[1]);
		if (pid < 0 || read(pipefd[0], &f, sizeof(f)) != sizeof(f) ||
		    waitpid(pid, &status, 0) != pid)
			return 77;
		close(pipefd[0]);
		ms[r] = f.ms;
		mib[r] = f.mib;
		unmap_ms[r] = f.unmap_ms;
	}
	bench_report_limit("mapping a pagemap of 16 TiB: time", "ms", bench_median(ms, ROUNDS), 1);
	bench_report_limit("mapping a pagemap of 16 TiB: resident memory", "MiB",
			   bench_median(mib, ROUNDS), 1);
	bench_report_limit("unmapping it: time", "ms", bench_median(unmap_ms, ROUNDS), 1);
	return 0;
}
