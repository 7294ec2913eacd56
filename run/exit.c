/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/exit.h"
#include "zonedev/log.h"

int exit_cant_start(int rc)
{
	zd_log(ZD_LOG_ERR, "can't start: %s", strerrordesc_np(-rc));
	return RUN_EXIT_FAILED;
}

int exit_not_launched(const char *cmd, int rc)
{
	zd_log(ZD_LOG_ERR, "%s: %s", cmd, strerrordesc_np(-rc));
	return rc == -ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_NOT_EXECUTABLE;
}

static int die_of(int sig)
{
	const struct rlimit no_core = { 0, 0 };
	const uint64_t dfl[4] = { 0 };	/* the kernel's struct sigaction */
	uint64_t set;			/* and its sigset_t */

	/* the core, if any, was the program's */
	setrlimit(RLIMIT_CORE, &no_core);
	prctl(PR_SET_DUMPABLE, 0);
	/* by system calls, since libc keeps two signals for itself; and no other signal that
	 * may be pending is let through */
	set = UINT64_C(1) << (sig - 1);
	syscall(SYS_rt_sigaction, sig, dfl, NULL, sizeof(set));
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, sizeof(set));
	syscall(SYS_tgkill, getpid(), gettid(), sig);
	return 128 + sig;
}

int exit_as(int status, bool report_failed)
{
	if (!WIFEXITED(status))
		return die_of(WTERMSIG(status));
	return report_failed && !WEXITSTATUS(status) ? RUN_EXIT_FAILED : WEXITSTATUS(status);
}
