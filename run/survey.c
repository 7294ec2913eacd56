/* SPDX-License-Identifier: MIT */
/* The files that a survey reads, and its parts one after the other; survey.h says what it is
 * for. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "run/proc.h"
#include "run/survey.h"
#include "zonedev/page.h"

int survey_new(const struct survey_target *of, struct survey **survey)
{
	struct survey *s = zd_alloc(sizeof(*s));
	char path[32];
	int rc;

	if (!s)
		return -ENOMEM;
	s->of = *of;
	s->maps_fd = proc_open(of->memory, of->tid, "maps");
	s->rollup_fd = proc_open(of->memory, of->tid, "smaps_rollup");
	s->mem_fd = proc_open(of->memory, of->tid, "mem");
	snprintf(path, sizeof(path), "/proc/%d/task", (int)of->pid);
	s->task_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->maps_fd >= 0 && s->rollup_fd >= 0 && s->mem_fd >= 0 && s->task_fd >= 0) {
		*survey = s;
		return 0;
	}
	rc = -errno;
	survey_free(s);
	return rc;
}

void survey_free(struct survey *s)
{
	const int fd[] = { s->maps_fd, s->rollup_fd, s->mem_fd, s->task_fd };

	for (unsigned int i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		if (fd[i] >= 0)
			close(fd[i]);
	zd_ranges_destroy(&s->managed);
	zd_ranges_destroy(&s->growing);
	zd_free(s->found);
	zd_free(s->unevictable);
	zd_free(s->heads);
	zd_free(s);
}

static uint64_t kilobytes(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* The share of the pages that the process has with its forks. */
static void read_share(struct survey *s)
{
	char buf[2048];
	ssize_t n = pread(s->rollup_fd, buf, sizeof(buf) - 1, 0);

	s->pss = s->anon = 0;
	if (n <= 0)
		return;
	buf[n] = 0;
	s->pss = kilobytes(buf, "\nPss_Anon:") * 1024 / ZD_PAGE_SIZE;
	s->anon = kilobytes(buf, "\nAnonymous:") * 1024 / ZD_PAGE_SIZE;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

void survey_make(struct survey *s)
{
	uint64_t start = cpu_ns();

	s->pss = s->anon = 0;
	survey_threads(s);
	s->gone = !survey_maps(s);
	if (s->want_pss)
		read_share(s);
	s->took_ns = cpu_ns() - start;
}
