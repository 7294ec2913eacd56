/* SPDX-License-Identifier: MIT */
/*
 * Making the agent, so that the program doesn't notice.
 *
 * The agent is a process that shares the program's memory, and not its
 * descriptors, directories, signals or credentials: it is in no list of the
 * program's threads, and the program may end, exec, unshare, change its user or
 * filter its system calls as if it were alone.  Nor is the agent the program's
 * child: a middleman makes the agent and ends, so that the agent belongs to init.  The
 * middleman has no exit signal, and the program's thread reaps it at once.  (Where the
 * program is a child of the supervisor, middleman and agent are too, and the supervisor
 * reaps them.)
 *
 * The program's thread makes no system call but clone(), wait4(), and in narrow places
 * kill() and futex(); the last two only when the middleman has found that no seccomp filter
 * kills for them.  All else that a filter might not allow is done by the middleman, whose
 * death does no harm.  (Where there can't even be a middleman, because the user has too many
 * processes, the thread of a program that has just been exec'ed makes the system calls that
 * tell the supervisor.)
 * CLONE_VFORK makes the thread wait for the middleman without asking.
 *
 * Between its birth and its first system call, which blocks all signals, the
 * middleman could be sent a signal that was meant for the program's process
 * group, and would run the program's handler.  So the middleman's stack begins in a page
 * that can't be written: no handler can be entered there; the middleman dies,
 * and another one is made.  (A handler with SA_ONSTACK can be entered, where the thread has
 * an alternate stack.)
 *
 * The descriptors: the middleman shares the program's table, and gives it up for
 * an empty one before the program's thread goes on (CLOSE_RANGE_UNSHARE).  No
 * file is held for a moment longer than the program holds it.
 *
 * In a pid namespace other than the supervisor's own, a process without a parent
 * belongs to the namespace's first process, which may be a program that counts
 * its children.  There the agent is a thread.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "run/agent/agent.h"

#define TRIES		3	/* a middleman may have met a signal */
#define LATE_TRIES	25
#define LATE_PAUSE_NS	2000000
#define REAP_TRIES	1000
#define PAUSE_NS	200000

/*
 * long agent_clone(unsigned long flags, char *nowhere, char *stack, int (*fn)(void)):
 * a task that runs fn on the stack, its signals blocked before it has one.  The
 * new task's id, or -errno.
 */
long agent_clone(unsigned long flags, char *nowhere, char *stack, int (*fn)(void));
#if defined(__x86_64__)
__asm__(".text\n"
	".hidden agent_clone\n"
	".globl agent_clone\n"
	".type agent_clone, @function\n"
	"agent_clone:\n"
	"	mov %rdx, %r8\n"
	"	mov %rcx, %r9\n"
	"	xor %edx, %edx\n"
	"	xor %r10d, %r10d\n"
	"	mov $56, %eax\n"	/* clone */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jnz 1f\n"
	"	mov $14, %eax\n"	/* rt_sigprocmask(SIG_SETMASK, all, NULL, 8) */
	"	mov $2, %edi\n"
	"	lea 2f(%rip), %rsi\n"
	"	xor %edx, %edx\n"
	"	mov $8, %r10d\n"
	"	syscall\n"
	"	mov %r8, %rsp\n"
	"	xor %ebp, %ebp\n"
	"	call *%r9\n"
	"	mov %eax, %edi\n"
	"	mov $60, %eax\n"	/* exit */
	"	syscall\n"
	"	hlt\n"
	"1:	ret\n"
	"	.balign 8\n"
	"2:	.quad -1\n"
	".size agent_clone, . - agent_clone\n");
#else
#error "agent_clone: port me"
#endif

/* --- the middleman --- */

/* The agent is not made where that would take one of the last processes that the user may
 * have: the program might need them.  The limit that is lowered is the middleman's own, and
 * the agent inherits it.  (The kernel doesn't apply the limit to privileged users.) */
static void leave_places(void)
{
	struct rlimit limit;
	rlim_t spare;

	if (raw_syscall(SYS_getrlimit, RLIMIT_NPROC, (long)&limit, 0, 0, 0, 0) ||
	    limit.rlim_cur == RLIM_INFINITY)
		return;
	spare = limit.rlim_cur / 4 > 16 ? limit.rlim_cur / 4 : 16;
	limit.rlim_cur = limit.rlim_cur > spare ? limit.rlim_cur - spare : 0;
	raw_syscall(SYS_setrlimit, RLIMIT_NPROC, (long)&limit, 0, 0, 0, 0);
}

static long inode_of(const char *path)
{
	struct stat st;
	long rc = raw_syscall(SYS_stat, (long)path, (long)&st, 0, 0, 0, 0);

	return rc ? rc : (long)st.st_ino;
}

static bool in_foreign_namespace(void)
{
	long ns = agent.owner == 1 ? 0 : inode_of("/proc/self/ns/pid");

	/* without /proc: taken for the supervisor's own */
	return ns >= 0 && (uint64_t)ns != agent.hello.pid_ns;
}

static void set_birth(enum agent_birth birth)
{
	__atomic_store_n(&agent.birth, birth, __ATOMIC_RELEASE);
}

/*
 * A program whose threads keep every CPU busy could have taken any amount of memory before
 * the agent says hello: so the program begins after that.
 *
 * Context: the middleman (while the program's thread waits in CLONE_VFORK), or the program's
 * thread.  Waits for at most a second after each wake-up.
 */
static void wait_for_greeting(void)
{
	const struct timespec bound = { 1, 0 };

	while (!__atomic_load_n(&agent.greeted, __ATOMIC_ACQUIRE)) {
		long rc = raw_syscall(SYS_futex, (long)&agent.greeted, FUTEX_WAIT, 0, (long)&bound,
				      0, 0);

		if (rc && rc != -EAGAIN && rc != -EINTR)
			return;
	}
}

/* Where there is a seccomp filter, the middleman tries the calls that the program's thread
 * would make: if a call kills the middleman, the thread doesn't make it. */
static bool may_go_on(void)
{
	bool wait, wake;

	if (!raw_syscall(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0, 0))
		return true;
	wait = raw_syscall(SYS_wait4, -1, 0, __WALL | WNOHANG, 0, 0, 0) == -ECHILD;
	wake = raw_syscall(SYS_futex, (long)&agent.greeted, FUTEX_WAKE, 1, 0, 0, 0) >= 0;
	return wait && wake && !raw_syscall(SYS_kill, agent.owner, 0, 0, 0, 0, 0);
}

/* Context: a task of its own on agent.middle_stack, all signals blocked, in the program's
 * memory, while the program's thread waits for its end. */
static int middleman(void)
{
	long rc;

	set_birth(BIRTH_BEGUN);
	agent_be_prompt();	/* the program waits; and the agent inherits the attributes */
	if (raw_syscall(SYS_close_range, 0, ~0U, 2 /* CLOSE_RANGE_UNSHARE */, 0, 0, 0))
		return 0;
	if (!may_go_on())
		return 0;
	if (in_foreign_namespace()) {
		set_birth(BIRTH_THREAD);
		return 0;
	}
	/* if the program is killed meanwhile its id may become another process's; the
	 * program lives as long as it is the middleman's parent, which is checked below */
	agent.pidfd = raw_syscall(SYS_pidfd_open, agent.owner, 0, 0, 0, 0, 0);
	set_birth(BIRTH_DONE);
	if (!agent.parent && raw_syscall(SYS_getppid, 0, 0, 0, 0, 0, 0) != agent.owner)
		return 0;
	leave_places();
	rc = agent.pidfd < 0 ?
		     agent.pidfd :
		     agent_clone(CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_UNTRACED | agent.parent,
				 agent.nowhere, agent.stack + STACK_BYTES, agent_main);
	agent.refused = rc == -EAGAIN;
	if (agent.kind == ZD_AGENT_FORK)
		return 0;
	if (rc > 0)
		wait_for_greeting();
	else
		agent_say_none(rc);
	return 0;
}

/* --- the program's thread --- */

/* The agent as a thread of the program.  Signals are blocked here already, for the new
 * thread to inherit that.  Context: the program's thread. */
static void start_thread(void)
{
	const uint64_t all = ~UINT64_C(0);
	uint64_t old;
	long rc;

	agent.pidfd = -1;
	agent.thread = true;
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0, 0);
	rc = agent_clone(CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, agent.nowhere,
			 agent.stack + STACK_BYTES, agent_main);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8, 0, 0);
	if (rc > 0 && agent.kind == ZD_AGENT_FRESH)
		wait_for_greeting();
}

/* Returns the id of a middleman whose work is done; or -errno.  Context: the program's
 * thread, which CLONE_VFORK makes wait. */
static long run_middleman(void)
{
	long pid = 0;

	for (int i = 0; i < TRIES; i++) {
		uint32_t birth;

		set_birth(BIRTH_UNKNOWN);
		pid = agent_clone(CLONE_VM | CLONE_FILES | CLONE_VFORK | CLONE_UNTRACED |
					  agent.parent,
				  agent.nowhere, agent.middle_stack + MIDDLE_BYTES, middleman);
		birth = __atomic_load_n(&agent.birth, __ATOMIC_ACQUIRE);
		if (pid <= 0 || birth != BIRTH_UNKNOWN)
			break;
	}
	return pid;
}

/* The user can have no more processes.  Perhaps the last one was the agent that this program
 * had before its exec: the supervisor has dismissed that agent, and the kernel counts it
 * until it is reaped. */
static long run_middleman_late(void)
{
	const struct timespec pause = { 0, LATE_PAUSE_NS };
	long pid = -EAGAIN;

	agent.thread = true;	/* the program's own thread speaks */
	agent_say_none(0);
	for (int i = 0; i < LATE_TRIES && pid == -EAGAIN; i++) {
		agent.thread = false;
		pid = run_middleman();
		if (pid == -EAGAIN)
			raw_syscall(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
	}
	if (pid == -EAGAIN) {
		agent.thread = true;
		agent_say_none(pid);
	}
	return pid;
}

/* The supervisor reaps the middleman @pid; until then the kernel counts it among the user's
 * processes, and the program may be about to make the last one that the user may have. */
static void wait_until_reaped(long pid)
{
	const struct timespec pause = { 0, PAUSE_NS };

	for (int i = 0; i < REAP_TRIES && !raw_syscall(SYS_kill, pid, 0, 0, 0, 0, 0); i++)
		raw_syscall(SYS_futex, (long)&agent.birth, FUTEX_WAIT, agent.birth, (long)&pause, 0,
			    0);
}

/* Context: the program's thread: the one that runs constructors, or a fork's child. */
void agent_birth(void)
{
	uint32_t birth;
	long pid;

	agent.thread = agent.refused = false;
	agent.greeted = 0;
	pid = run_middleman();
	if (pid == -EAGAIN && agent.kind == ZD_AGENT_FRESH)
		pid = run_middleman_late();
	if (pid <= 0)
		return;
	birth = __atomic_load_n(&agent.birth, __ATOMIC_ACQUIRE);
	if (birth != BIRTH_DONE && birth != BIRTH_THREAD)
		return;
	while (!agent.parent && raw_syscall(SYS_wait4, pid, 0, __WALL, 0, 0, 0) == -EINTR)
		;
	if (agent.parent && agent.refused)
		wait_until_reaped(pid);
	if (birth == BIRTH_THREAD)
		start_thread();
}
