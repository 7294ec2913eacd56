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
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "run/report.h"
#include "run/run.h"
#include "zonedev/log.h"

#define MIB	(1024.0 * 1024.0)

static double us(const struct run *run, double q)
{
	return zd_hist_quantile(&run->server.stats.latency, q) / 1000.0;
}

static double seconds(const struct run *run)
{
	return ((run->child.end_ns ? run->child.end_ns : zd_now_ns()) - run->start_ns) / 1e9;
}

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

static json_t *num(uint64_t v)
{
	return json_integer(v);
}

static json_t *build(const struct run *run)
{
	const struct zd_mm_stats *c = &run->server.stats.c;
	bool exited = WIFEXITED(run->child.status);

	return json_pack("{s:i, s:s, s:s, s:o, s:f, s:{s:o,s:o}, s:o, s:o,"
			 " s:{s:o,s:o,s:o,s:o,s:o,s:o},"
			 " s:o, s:o, s:o, s:{s:f,s:f,s:f,s:f}, s:{s:o,s:o},"
			 " s:{s:o,s:o,s:o,s:o,s:o,s:o}, s:o,"
			 " s:{s:o,s:o,s:o,s:o,s:o,s:o,s:o}}",
			 "version", 1, "command", run->opt.argv[0], "device", run->dev->name,
			 "device_size", num(run->dev->nr_pages * ZD_PAGE_SIZE), "seconds",
			 seconds(run), "status", "exit",
			 exited ? num(WEXITSTATUS(run->child.status)) : json_null(), "signal",
			 exited ? json_null() : num(WTERMSIG(run->child.status)), "ram",
			 num(run->opt.ram), "peak_ram", num(run->peak * ZD_PAGE_SIZE), "pages",
			 "out", num(c->pages_out), "home", num(c->pages_home), "freed",
			 num(c->pages_freed), "zero", num(c->pages_zero), "poisoned",
			 num(c->pages_poisoned), "live", num(zd_device_live_pages(run->dev)),
			 "faults", num(c->faults), "faults_home", num(c->faults_home),
			 "faults_zero", num(c->faults_zero), "fault_latency_us", "p50",
			 us(run, 0.5), "p90", us(run, 0.9), "p99", us(run, 0.99), "max",
			 run->server.stats.latency.max / 1000.0, "bytes", "to_device",
			 num(c->bytes_to_device), "from_device", num(c->bytes_from_device),
			 "refused", "pinned", num(c->refused_pinned), "shared",
			 num(c->refused_shared), "absent", num(c->refused_absent), "protection",
			 num(c->refused_protection), "busy", num(c->refused_busy), "device",
			 num(c->refused_device), "processes", num(run->nr_processes), "unmanaged",
			 "static", num(run->unmanaged[ZD_UNMANAGED_STATIC]), "privileged",
			 num(run->unmanaged[ZD_UNMANAGED_SUID]), "32bit",
			 num(run->unmanaged[ZD_UNMANAGED_32BIT]), "environment",
			 num(run->unmanaged[ZD_UNMANAGED_ENV]), "hidden",
			 num(run->unmanaged[ZD_UNMANAGED_HIDDEN]), "libc",
			 num(run->unmanaged[ZD_UNMANAGED_LIBC]), "refused", num(run->nr_unmanaged));
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
	root = build(run);
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

static void report_summary(struct run *run)
{
	const struct zd_mm_stats *c = &run->server.stats.c;

	fprintf(stderr,
		"zonedev: %s: %.1f s, %llu process%s, peak RAM %.1f of %.1f MiB\n"
		"zonedev:   pages   out %llu  home %llu  freed %llu  zero %llu  live %llu\n"
		"zonedev:   faults  %llu (home %llu, new memory %llu), p50 %.0f us, p99 %.0f us\n"
		"zonedev:   device  %s: %.1f MiB to, %.1f MiB from\n",
		run->opt.argv[0], seconds(run), (unsigned long long)run->nr_processes,
		run->nr_processes == 1 ? "" : "es", run->peak * ZD_PAGE_SIZE / MIB,
		run->opt.ram / MIB, (unsigned long long)c->pages_out,
		(unsigned long long)c->pages_home, (unsigned long long)c->pages_freed,
		(unsigned long long)c->pages_zero,
		(unsigned long long)zd_device_live_pages(run->dev), (unsigned long long)c->faults,
		(unsigned long long)c->faults_home, (unsigned long long)c->faults_zero,
		us(run, 0.5), us(run, 0.99), run->dev->name, c->bytes_to_device / MIB,
		c->bytes_from_device / MIB);
	report_stayed(c);
	if (c->pages_poisoned)
		fprintf(stderr,
			"zonedev:   LOST    %llu pages that the device could not read back\n",
			(unsigned long long)c->pages_poisoned);
}

#define PROGRESS_NS	1000000000ull

void report_progress(struct run *run, bool last)
{
	const struct zd_mm_stats *c = &run->server.stats.c;
	bool tty = isatty(STDERR_FILENO);
	uint64_t now = zd_now_ns();

	if (!last && now < run->progress_ns)
		return;
	run->progress_ns = now + PROGRESS_NS;
	fprintf(stderr,
		"%szonedev: %5.1f s  RAM %.1f of %.1f MiB  out %.1f  home %.1f  "
		"on device %.1f MiB%s",
		tty ? "\r" : "", (now - run->start_ns) / 1e9,
		run->server.resident * ZD_PAGE_SIZE / MIB, run->opt.ram / MIB,
		c->pages_out * ZD_PAGE_SIZE / MIB, c->pages_home * ZD_PAGE_SIZE / MIB,
		zd_device_live_pages(run->dev) * ZD_PAGE_SIZE / MIB,
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
