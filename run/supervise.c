/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's loop: from the start of the program to the end of the last process of its
 * tree.
 *
 * Context: one thread, which serves faults: what it does between two polls must be short, and
 * must wait for no program.
 */
#include <unistd.h>

#include "base/time.h"
#include "engine/poll.h"
#include "engine/silence.h"
#include "guard/family.h"
#include "run/background.h"
#include "run/control.h"
#include "run/exit.h"
#include "run/front.h"
#include "run/host.h"
#include "run/launch.h"
#include "run/link.h"
#include "run/removal.h"
#include "run/report.h"
#include "run/run.h"
#include "run/scout.h"
#include "run/signals.h"
#include "run/supervise.h"
#include "run/tick.h"
#include "run/tiers.h"
#include "run/user_fds.h"
#include "zonedev/log.h"

static int setup(struct run *run)
{
	int rc;

	CDS_INIT_LIST_HEAD(&run->processes);
	rc = zd_server_init(&run->server, &run_host, run);
	if (rc)
		goto err_tiers;
	run->server.limit = run->opt.ram / ZD_PAGE_SIZE;
	run->server.track = true;
	run->server.spin = true;
	rc = tiers_attach(run);
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
	rc = guards_start(&run->guards, &run->server, run->socket_name);
	if (rc)
		goto err_keeper;
	rc = scout_start(&run->server, tick_survey_made, run, &run->scout);
	if (rc)
		goto err_guards;
	control_open(run);
	return 0;

err_guards:
	guards_stop(&run->guards);
err_keeper:
	zd_keeper_close(&run->keeper);
	link_close(run);
err_signals:
	if (run->front.fd < 0)
		signals_close(run);
err_server:
	zd_server_destroy(&run->server);
err_tiers:
	tiers_close(run);
	return rc;
}

static void teardown(struct run *run)
{
	scout_stop(run->scout);
	run->scout = NULL;
	guards_stop(&run->guards);
	zd_keeper_close(&run->keeper);
	link_close(run);
	if (run->front.fd >= 0)
		zd_loop_remove(&run->server.loop, &run->front);
	else
		signals_close(run);
	removal_stop(run);
	zd_server_detach_all(&run->server);
	tiers_close(run);
	control_close(run);
	zd_server_destroy(&run->server);
}

/* Batches count as well: they hold the device, and once teardown() waits for the device their
 * completions are not read any more.  But for those of a device that doesn't answer: no program
 * needs them any more. */
static bool busy(struct run *run)
{
	return !run->child.done || !cds_list_empty(&run->processes) ||
	       (!cds_list_empty(&run->server.migs) && !zd_server_is_silent(&run->server));
}

/* True: this half is to report and exit. */
static bool loop(struct run *run)
{
	uint64_t now, again = 0;	/* after a fork that failed: not before */

	while (busy(run)) {
		zd_server_poll(&run->server, tick(run));
		now = zd_now_ns();
		if (now < again)
			continue;
		if (background_is_due(run, now) && background_is_ready(run)) {
			again = now + LINGER_NS;
			if (background_detach(run))
				return true;
		} else if (front_is_due(run) && background_is_ready(run)) {
			again = now + LINGER_NS;
			background_hand_over(run);
		}
	}
	return !run->background;
}

/* The end, in the process that the command's starter waits for.  Returns the exit status. */
static int end(struct run *run)
{
	int rc = report_all(run);

	if (cds_list_empty(&run->processes) && cds_list_empty(&run->server.migs)) {
		if (!run->child.managed && !run->nr_processes && !run->nr_unmanaged &&
		    !run->opt.quiet)
			zd_log(ZD_LOG_WARN, "%s never loaded zonedev's agent: it ran unmanaged",
			       run->opt.argv[0]);
		teardown(run);
	}
	if (run->front.fd >= 0) {
		front_done(run, rc);
		_exit(0);
	}
	witness_stop(&run->witness);
	return exit_as(run->child.status, rc);
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
	/* after the launch, since the program inherits the score, and the lowest it may have */
	zd_family_oom_protect();
	user_fds_release();
	inherit_be_prompt(&run->in);
	if (loop(run))
		return end(run);
	if (run->opt.report)
		report_write(run);
	if (cds_list_empty(&run->server.migs))
		teardown(run);
	_exit(0);
}
