/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/mig.h"
#include "run/background.h"
#include "run/front.h"
#include "run/process.h"
#include "run/removal.h"
#include "run/report.h"
#include "run/run.h"
#include "run/scout.h"
#include "run/signals.h"
#include "run/tick.h"
#include "run/user_fds.h"
#include "zonedev/log.h"

bool background_is_due(struct run *run, uint64_t now)
{
	/* children that end with CMD take a moment */
	return run->child.done && !run->background && !cds_list_empty(&run->processes) &&
	       now - run->child.end_ns > LINGER_NS;
}

/* Context: the half that goes on. */
static void go_to_background(struct run *run)
{
	setsid();
	user_fds_release_stderr();
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

/*
 * Nothing may be in flight to a device across the fork.  Batches that an agent has (which
 * may be stopped) or that wait to be put back are only memory: those may.  The thread that
 * unregisters a device wouldn't be in the copy.
 */
bool background_is_ready(struct run *run)
{
	struct zd_mig *mig;

	run->server.hold_evictions = true;
	if (removal_has_thread(run))
		return false;
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

/* Fork.  The guards' parent, this process, is about to end in good order, so its guards end
 * before; and the scout, a thread, isn't forked.  The copy starts both for itself; and so does
 * this process if there is no copy. */
static pid_t copy(struct run *run)
{
	pid_t pid;

	guards_stop(&run->guards);
	scout_stop(run->scout);
	run->scout = NULL;
	fflush(NULL);
	pid = fork();
	if (pid <= 0) {
		run->server.hold_evictions = false;
		if (guards_start(&run->guards, &run->server, run->socket_name))
			zd_log(ZD_LOG_WARN,
			       "no guard: if this process is killed the program may read "
			       "zeros for pages that are on the device");
		if (scout_start(&run->server, tick_survey_made, run, &run->scout))
			zd_log(ZD_LOG_ERR, "no memory is managed any more");
	}
	return pid;
}

bool background_detach(struct run *run)
{
	pid_t pid;

	if (run->front.fd >= 0) {	/* the starter waits for the front: no copy is needed */
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

void background_hand_over(struct run *run)
{
	if (copy(run) > 0)
		_exit(0);
}
