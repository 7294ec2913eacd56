/* SPDX-License-Identifier: MIT */
/*
 * From the start of the program to the end of the last process of its tree.
 *
 * When CMD ends while processes that it left behind live on (a daemon), the
 * shell must get its status, and they must be served: the supervisor forks, one
 * half reports and exits, the other goes on in the background, and writes the
 * report once more when the last of them has ended.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard/family.h"
#include "engine/mig.h"
#include "run/exit.h"
#include "run/host.h"
#include "run/launch.h"
#include "run/link.h"
#include "run/process.h"
#include "run/report.h"
#include "run/run.h"
#include "run/scout.h"
#include "run/tick.h"
#include "zonedev/log.h"

#define LINGER_NS	300000000ull	/* after CMD, for children about to end */

static int setup(struct run *run)
{
	int rc;

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
	if (run->front.fd < 0)
		rc = signals_open(run);
	if (rc)
		goto err_server;
	rc = link_open(run);
	if (rc)
		goto err_signals;
	if (!zd_keeper_open(&run->keeper))
		run->server.keeper = &run->keeper;
	rc = guards_start(run);
	if (rc)
		goto err_keeper;
	rc = scout_start(&run->server, tick_survey_made, run, &run->scout);
	if (rc)
		goto err_guards;
	return 0;

err_guards:
	guards_stop(run);
err_keeper:
	zd_keeper_close(&run->keeper);
	link_close(run);
err_signals:
	if (run->front.fd < 0)
		signals_close(run);
err_server:
	zd_server_destroy(&run->server);
	return rc;
}

static void teardown(struct run *run)
{
	scout_stop(run->scout);
	run->scout = NULL;
	guards_stop(run);
	zd_keeper_close(&run->keeper);
	link_close(run);
	if (run->front.fd >= 0)
		zd_server_remove(&run->server, &run->front);
	else
		signals_close(run);
	zd_server_destroy(&run->server);
	zd_device_unregister(run->dev);
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

void let_go_of_user(void)
{
	let_go(STDIN_FILENO, STDOUT_FILENO);
	let_go_of_inherited();
}

/* In the background half. */
static void go_to_background(struct run *run)
{
	setsid();
	let_go(STDIN_FILENO, STDERR_FILENO);
	report_background(run);
	run->opt.progress = false;
	run->background = true;
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

static void tell_of_daemons(struct run *run, pid_t server)
{
	unsigned int nr = count(run);

	if (!run->opt.quiet)
		fprintf(stderr, "zonedev: %s left %u process%s behind; pid %d keeps serving %s\n",
			run->opt.argv[0], nr, nr == 1 ? "" : "es", (int)server,
			nr == 1 ? "it" : "them");
}

/* The guards' parent, this process, is about to end in good order.  The copy of this
 * process has guards and a scout of its own, a thread isn't forked; so has this one, again,
 * if there is no copy. */
static pid_t copy(struct run *run)
{
	pid_t pid;

	guards_stop(run);
	scout_stop(run->scout);
	run->scout = NULL;
	fflush(NULL);
	pid = fork();
	if (pid <= 0) {
		run->server.hold_evictions = false;
		if (guards_start(run))
			zd_log(ZD_LOG_WARN, "no guard: if this process is killed the program may read "
			       "zeros for pages that are on the device");
		if (scout_start(&run->server, tick_survey_made, run, &run->scout))
			zd_log(ZD_LOG_ERR, "no memory is managed any more");
	}
	return pid;
}

/* CMD has ended, and others of its tree live.  Returns in both halves; true in the one that
 * reports and exits. */
static bool detach(struct run *run)
{
	pid_t pid;

	if (run->front.fd >= 0) {	/* what the starter waits for is another process already */
		run->server.hold_evictions = false;
		tell_of_daemons(run, getpid());
		front_done(run, report_all(run));
		go_to_background(run);
		return false;
	}
	pid = copy(run);
	if (pid > 0)
		tell_of_daemons(run, pid);
	else if (!pid) {
		signals_background(run);
		go_to_background(run);
	}
	return pid > 0;
}

/* To a process that has used no time yet. */
static void hand_over(struct run *run)
{
	if (copy(run) > 0)
		_exit(0);
}

/* Also when nobody is left: what is on its way to the device holds it, and who waits for
 * the device (teardown()) hears nothing of what it has done. */
static bool busy(struct run *run)
{
	return !run->child_done || !cds_list_empty(&run->processes) ||
	       !cds_list_empty(&run->server.migs);
}

/* Has CMD ended for longer than children take that end with it? */
static bool left_daemons(struct run *run, uint64_t now)
{
	return run->child_done && !run->background && !cds_list_empty(&run->processes) &&
	       now - run->end_ns > LINGER_NS;
}

/* True: this half is to report and exit. */
static bool loop(struct run *run)
{
	uint64_t now, again = 0;	/* not before: a fork has failed */

	while (busy(run)) {
		zd_server_poll(&run->server, tick(run));
		now = zd_now_ns();
		if (now < again)
			continue;
		if (left_daemons(run, now) && drained(run)) {
			again = now + LINGER_NS;
			if (detach(run))
				return true;
		} else if (front_is_due(run) && drained(run)) {
			again = now + LINGER_NS;
			hand_over(run);
		}
	}
	return !run->background;
}

/* In the half that the command's starter waits for. */
static int end(struct run *run)
{
	int rc = report_all(run);

	if (cds_list_empty(&run->processes)) {
		if (!run->child_managed && !run->nr_processes && !run->nr_unmanaged && !run->opt.quiet)
			zd_log(ZD_LOG_WARN, "%s never loaded zonedev's agent: it ran unmanaged",
			       run->opt.argv[0]);
		teardown(run);
	}
	if (run->front.fd >= 0) {
		front_done(run, rc);
		_exit(0);
	}
	witness_stop(&run->witness);
	return exit_as(run->child_status, rc);
}

int supervise(struct run *run, const char *path, const char *preload)
{
	bool in_front = run->front.fd >= 0;
	int rc = setup(run);

	if (rc)
		return exit_cant_start(rc);
	run->start_ns = zd_now_ns();
	rc = in_front ? front_launch(run) : launch(run, path, preload);
	if (rc) {
		teardown(run);
		return in_front ? 0 : exit_not_launched(run->opt.argv[0], rc);
	}
	/* not before: the program keeps its own score, and the floor below it */
	zd_family_oom_protect();
	/* input and output are the program's alone; we only have something to
	 * say on stderr */
	let_go_of_user();
	inherit_be_prompt(&run->in);
	if (loop(run))
		return end(run);
	if (run->opt.report)
		report_write(run);
	teardown(run);
	_exit(0);
}
