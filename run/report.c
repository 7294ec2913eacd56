/* SPDX-License-Identifier: MIT */
/*
 * What happened: one JSON file, or a short table.
 *
 * Context: the thread that serves, before, between and after polls.  Writing may block on the
 * user's file or terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "run/report.h"
#include "run/report_json.h"
#include "run/run.h"
#include "run/tiers.h"
#include "zonedev/log.h"

#define MIB	(1024.0 * 1024.0)

int report_open(struct run *run)
{
	struct stat st;
	int flags;

	if (strcmp(run->opt.report, "-")) {
		run->report_fd = open(run->opt.report, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY,
				      0644);
		if (run->report_fd < 0)
			return -errno;
		run->report_again = !fstat(run->report_fd, &st) && S_ISREG(st.st_mode);
		return 0;
	}
	/* closed when the supervisor was started: then user_fds_occupy() has taken its place */
	flags = fcntl(STDOUT_FILENO, F_GETFD);
	if (flags < 0 || flags & FD_CLOEXEC)
		return -EBADF;
	run->report_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return run->report_fd < 0 ? -errno : 0;
}

struct reason {
	const char *what;
	uint64_t nr;
};

/* "3 statically linked, 1 ...": the reasons whose number isn't 0. */
static void list_reasons(const struct reason *r, unsigned int nr, const char *order, char *out,
			 size_t len)
{
	size_t n = 0;

	*out = '\0';
	for (unsigned int i = 0; i < nr && n < len; i++)
		if (r[i].nr)
			n += snprintf(out + n, len - n, order, n ? ", " : "",
				      (unsigned long long)r[i].nr, r[i].what);
}

/* The programs that ran unmanaged, and why: in one warning. */
static void report_unmanaged(struct run *run)
{
	const uint64_t *u = run->unmanaged;
	const struct reason reasons[] = {
		{ "statically linked", u[ZD_UNMANAGED_STATIC] },
		{ "set-user-ID or privileged", u[ZD_UNMANAGED_SUID] },
		{ "of 32 bits", u[ZD_UNMANAGED_32BIT] },
		{ "with another environment (LD_PRELOAD, " ZD_AGENT_ENV ")", u[ZD_UNMANAGED_ENV] },
		{ "that don't see zonedev's library (chroot)", u[ZD_UNMANAGED_HIDDEN] },
		{ "of another libc", u[ZD_UNMANAGED_LIBC] },
	};
	char text[512];

	list_reasons(reasons, sizeof(reasons) / sizeof(reasons[0]), "%s%llu %s", text,
		     sizeof(text));
	if (*text)
		zd_log(ZD_LOG_WARN, "programs that ran unmanaged: %s", text);
}

static void report_stayed(const struct zd_mm_stats *c)
{
	const struct reason reasons[] = {
		{ "in use by the kernel", c->refused_pinned },
		{ "shared after fork", c->refused_shared },
		{ "untouched or gone", c->refused_absent },
		{ "locked, not writable or not anonymous", c->refused_protection },
		{ "changing", c->refused_busy },
		{ "device full or failing", c->refused_device },
	};
	char text[512];

	list_reasons(reasons, sizeof(reasons) / sizeof(reasons[0]), "%s%llu %s", text,
		     sizeof(text));
	if (*text)
		fprintf(stderr, "zonedev:   stayed  %s\n", text);
}

int report_write(struct run *run)
{
	json_t *root;
	int rc = 0;

	if (run->report_fd < 0)
		return 0;
	/* the first report may have been longer */
	if (run->report_again &&
	    (ftruncate(run->report_fd, 0) || lseek(run->report_fd, 0, SEEK_SET)))
		rc = -errno;
	root = report_json(run);
	errno = EIO;
	if (!rc && (!root || json_dumpfd(root, run->report_fd, JSON_INDENT(2)) ||
		    write(run->report_fd, "\n", 1) != 1))
		rc = errno ? -errno : -EIO;
	json_decref(root);
	if (run->opt.verbose)
		report_stayed(&run->server.stats.c);
	if (rc)
		zd_log(ZD_LOG_ERR, "can't write the report to %s: %s", run->opt.report,
		       strerrordesc_np(-rc));
	return rc;
}

void report_background(struct run *run)
{
	if (!run->opt.report || run->report_again)
		return;
	close(run->report_fd);
	run->report_fd = -1;
}

static void summary_devices(struct run *run)
{
	tiers_count(run);
	for (unsigned int i = 0; i < run->nr_tiers; i++) {
		const struct tier *tier = &run->tiers[i];

		fprintf(stderr, "zonedev:   device  %s: %.1f MiB to, %.1f MiB from%s\n",
			tier->device, tier->counts.in * ZD_PAGE_SIZE / MIB,
			tier->counts.home * ZD_PAGE_SIZE / MIB,
			tier->state == TIER_USED ? "" : "; removed");
	}
}

static void report_summary(struct run *run)
{
	const struct zd_mm_stats *c = &run->server.stats.c;

	fprintf(stderr,
		"zonedev: %s: %.1f s, %llu process%s, peak RAM %.1f of %.1f MiB\n"
		"zonedev:   pages   out %llu  home %llu  freed %llu  zero %llu  live %llu\n"
		"zonedev:   faults  %llu (home %llu, new memory %llu), p50 %.0f us, p99 %.0f us\n",
		run->opt.argv[0], report_seconds(run), (unsigned long long)run->nr_processes,
		run->nr_processes == 1 ? "" : "es", run->peak * ZD_PAGE_SIZE / MIB,
		run->opt.ram / MIB, (unsigned long long)c->pages_out,
		(unsigned long long)c->pages_home, (unsigned long long)c->pages_freed,
		(unsigned long long)c->pages_zero, (unsigned long long)tiers_live(run),
		(unsigned long long)c->faults, (unsigned long long)c->faults_home,
		(unsigned long long)c->faults_zero, report_latency_us(run, 0.5),
		report_latency_us(run, 0.99));
	summary_devices(run);
	report_stayed(c);
	if (c->pages_poisoned)
		fprintf(stderr,
			"zonedev:   LOST    %llu pages that the device could not read back\n",
			(unsigned long long)c->pages_poisoned);
}

#define PROGRESS_NS	1000000000ull

/* " lz4 12.0 file 3.1" */
static void where(const struct run *run, char *text, size_t len)
{
	size_t n = 0;

	*text = '\0';
	for (unsigned int i = 0; i < run->nr_tiers && n < len; i++)
		if (run->tiers[i].dev)
			n += snprintf(text + n, len - n, " %s %.1f", run->tiers[i].name,
				      zd_device_live_pages(run->tiers[i].dev) * ZD_PAGE_SIZE / MIB);
}

void report_progress(struct run *run, bool last)
{
	char on[ZD_TIERS_MAX * (TIER_NAME + 16)];
	const struct zd_mm_stats *c = &run->server.stats.c;
	bool tty = isatty(STDERR_FILENO);
	uint64_t now = zd_now_ns();

	if (!last && now < run->progress_ns)
		return;
	run->progress_ns = now + PROGRESS_NS;
	where(run, on, sizeof(on));
	fprintf(stderr, "%szonedev: %5.1f s  RAM %.1f of %.1f MiB  out %.1f  home %.1f  on%s MiB%s",
		tty ? "\r" : "", (now - run->start_ns) / 1e9,
		(run->server.resident * ZD_PAGE_SIZE + tiers_ram(run)) / MIB, run->opt.ram / MIB,
		c->pages_out * ZD_PAGE_SIZE / MIB, c->pages_home * ZD_PAGE_SIZE / MIB, on,
		tty && !last ? "\033[K" : "\n");
}

int report_all(struct run *run)
{
	int rc = 0;

	if (run->opt.progress)
		report_progress(run, true);
	if (run->opt.report)
		rc = report_write(run);
	else if (!run->opt.quiet)
		report_summary(run);
	report_unmanaged(run);
	return rc;
}
