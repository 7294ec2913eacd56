/* SPDX-License-Identifier: MIT */
/*
 * From the start of the program to the end of the last process of its tree.
 *
 * When CMD ends while processes that it left behind live on (a daemon), the
 * shell must get its status, and they must be served: the supervisor forks, one
 * half reports and exits, the other goes on in the background.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mm/family.h"
#include "mm/mig.h"
#include "tools/cmd.h"
#include "tools/run/launch.h"
#include "tools/run/run.h"
#include "zonedev/log.h"

#define LINGER_NS	300000000ull	/* after CMD, for children about to end */

/* A process takes ten descriptors here, and there may be hundreds of them. */
static void allow_files(struct run *run)
{
	struct rlimit more;

	if (getrlimit(RLIMIT_NOFILE, &run->user_files))
		return;
	more = (struct rlimit){ run->user_files.rlim_max, run->user_files.rlim_max };
	setrlimit(RLIMIT_NOFILE, &more);
}

/* --- the guard --- */

static int start_guard(struct run *run, struct run_guard *g)
{
	/* the first also holds the descriptors where there is no keeper */
	int rc = zd_guard_start(&g->guard, run->socket_name,
				g == run->guards ? ZD_GUARD_COPY : ZD_GUARD_PROGRAM);

	if (rc)
		return rc;
	g->end.fd = g->guard.own_pidfd;
	return zd_server_add(&run->server, &g->end);
}

static void stop_guard(struct run *run, struct run_guard *g)
{
	if (!g->guard.pid)
		return;
	zd_server_remove(&run->server, &g->end);
	zd_guard_stop(&g->guard);
}

/* Killed, by itself: there must be another before the supervisor is, too. */
static void restart_guard(struct run *run, struct run_guard *g)
{
	int rc;

	stop_guard(run, g);
	rc = start_guard(run, g);
	if (rc)
		zd_log(ZD_LOG_WARN, "no guard: %s", strerrordesc_np(-rc));
}

static void first_ended(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, guards[0].end);

	(void)events;
	restart_guard(run, &run->guards[0]);
}

static void second_ended(struct zd_source *source, uint32_t events)
{
	struct run *run = caa_container_of(source, struct run, guards[1].end);

	(void)events;
	restart_guard(run, &run->guards[1]);
}

static void stop_guards(struct run *run)
{
	stop_guard(run, &run->guards[1]);
	stop_guard(run, &run->guards[0]);
}

static int start_guards(struct run *run)
{
	int rc;

	run->guards[0].end.ready = first_ended;
	run->guards[1].end.ready = second_ended;
	rc = start_guard(run, &run->guards[0]);
	if (!rc && start_guard(run, &run->guards[1]))
		zd_log(ZD_LOG_DEBUG, "no second guard");
	return rc;
}

static int setup(struct run *run)
{
	int rc;

	allow_files(run);
	CDS_INIT_LIST_HEAD(&run->processes);
	rc = zd_server_init(&run->server, &run_host, run);
	if (rc)
		return rc;
	run->server.limit = run->opt.ram / ZD_PAGE_SIZE;
	run->server.track = true;
	run->server.spin = true;
	rc = zd_server_attach(&run->server, run->dev);
	if (rc)
		goto err_server;
	rc = signals_open(run);
	if (rc)
		goto err_server;
	rc = link_open(run);
	if (rc)
		goto err_signals;
	if (!zd_keeper_open(&run->keeper))
		run->server.keeper = &run->keeper;
	rc = start_guards(run);
	if (rc)
		goto err_keeper;
	rc = scout_start(&run->server, budget_survey_made, run, &run->scout);
	if (rc)
		goto err_guards;
	return 0;

err_guards:
	stop_guards(run);
err_keeper:
	zd_keeper_close(&run->keeper);

	link_close(run);
err_signals:
	signals_close(run);
err_server:
	zd_server_destroy(&run->server);
	return rc;
}

static void teardown(struct run *run)
{
	scout_stop(run->scout);
	run->scout = NULL;
	stop_guards(run);
	zd_keeper_close(&run->keeper);
	link_close(run);
	signals_close(run);
	zd_server_destroy(&run->server);
	zd_device_unregister(run->dev);
}

static void tell(struct run *run)
{
	if (run->opt.progress)
		report_progress(run, true);
	if (run->opt.report)
		report_write(run);
	else if (!run->opt.quiet)
		report_summary(run);
}

/* Whoever is at the other end of the user's pipes must not wait for us. */
static void let_go(int first, int last)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = first; null >= 0 && fd <= last; fd++)
		dup2(null, fd);
	close(null);
}

/* What else we were started with is the program's, and has been passed on.  (All that is
 * ours is closed by exec.) */
static void let_go_of_inherited(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		int fd = strtol(d->d_name, NULL, 10), flags = fcntl(fd, F_GETFD);

		if (fd > STDERR_FILENO && flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
	if (dir)
		closedir(dir);
}

/* In the background half. */
static void go_to_background(struct run *run)
{
	setsid();
	let_go(STDIN_FILENO, STDERR_FILENO);
	run->opt.progress = false;
}

static unsigned int count(const struct run *run)
{
	const struct process *p;
	unsigned int nr = 0;

	cds_list_for_each_entry(p, &run->processes, node)
		nr++;
	return nr;
}

/* Nothing may be in flight to the device across the fork.  False: not yet.  What an agent
 * has, that may be stopped, or what waits to be put back is only memory. */
static bool drained(struct run *run)
{
	struct zd_mig *mig;

	run->server.hold_evictions = true;
	cds_list_for_each_entry(mig, &run->server.migs, node)
		if (!mig->retry && !(mig->mm && mig->mm->out == mig))
			return false;
	return true;
}

/* Returns in both halves; true in the one that reports and exits. */
static bool detach(struct run *run)
{
	unsigned int nr = count(run);
	pid_t pid;

	run->server.hold_evictions = false;
	/* its parent, this process, is about to end in good order */
	stop_guards(run);
	/* a thread is not forked */
	scout_stop(run->scout);
	run->scout = NULL;
	fflush(NULL);
	pid = fork();
	if (pid > 0) {
		if (!run->opt.quiet)
			fprintf(stderr, "zonedev: %s left %u process%s behind; pid %d keeps serving "
				"%s\n", run->opt.argv[0], nr, nr == 1 ? "" : "es", (int)pid,
				nr == 1 ? "it" : "them");
		return true;
	}
	if (!pid)
		go_to_background(run);
	/* else stay in the foreground, then */
	start_guards(run);
	if (scout_start(&run->server, budget_survey_made, run, &run->scout))
		zd_log(ZD_LOG_ERR, "no memory is managed any more");
	return false;
}

/* Also when nobody is left: what is on its way to the device holds it, and who waits for
 * the device (teardown()) hears nothing of what it has done. */
static bool busy(struct run *run)
{
	return !run->child_done || !cds_list_empty(&run->processes) ||
	       !cds_list_empty(&run->server.migs);
}

static void loop(struct run *run, bool *foreground)
{
	bool detached = false;

	while (busy(run)) {
		zd_server_poll(&run->server, budget_tick(run));
		if (!run->child_done || detached || cds_list_empty(&run->processes) ||
		    zd_now_ns() - run->end_ns < LINGER_NS || !drained(run))
			continue;
		detached = true;
		*foreground = detach(run);
		if (*foreground)
			return;
	}
	*foreground = !detached;
}

int supervise(struct run *run, const char *path, const char *preload)
{
	bool foreground;
	int rc = setup(run);

	if (rc)
		return cmd_error("can't start: %s", strerrordesc_np(-rc));
	run->start_ns = zd_now_ns();
	rc = launch(run, path, preload);
	if (rc) {
		teardown(run);
		cmd_error("%s: %s", run->opt.argv[0], strerrordesc_np(-rc));
		return rc == -ENOENT ? 127 : 126;
	}
	/* not before: the program keeps its own score, and the floor below it */
	zd_family_oom_protect();
	/* input and output are the program's alone; we only have something to
	 * say on stderr */
	let_go(STDIN_FILENO, STDOUT_FILENO);
	let_go_of_inherited();
	/* whoever waits for a fault waits for us; the program has its own nice
	 * value, and where we may not change ours we keep it */
	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - 10);
	loop(run, &foreground);
	if (!foreground) {
		teardown(run);
		_exit(0);
	}
	tell(run);
	if (cds_list_empty(&run->processes)) {
		if (!run->child_managed && !run->nr_processes && !run->opt.quiet)
			zd_log(ZD_LOG_WARN, "%s never loaded zonedev's agent: it ran unmanaged",
			       run->opt.argv[0]);
		teardown(run);
	}
	return signals_exit_as(run->child_status);
}
