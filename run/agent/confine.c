/* SPDX-License-Identifier: MIT */
/*
 * What the agent may do once it has greeted the supervisor: next to nothing.
 *
 * The agent runs outside of what the program confines itself to later on, a
 * seccomp filter or a Landlock domain, and keeps the user id that the program
 * had; and an attacker who has taken over the program can write to the agent's stack.
 * So the agent keeps no privilege but CAP_KILL, to kill the program, which may have
 * another user id by then; and a seccomp filter of the agent's own allows the few system
 * calls of its loop, on its own three descriptors.  These can do nothing that the program
 * can't do to itself.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "run/agent/agent.h"

static void drop_privileges(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
	struct __user_cap_data_struct kill[_LINUX_CAPABILITY_U32S_3] = {
		{ .effective = 1U << CAP_KILL, .permitted = 1U << CAP_KILL },
	};

	if (agent.thread || raw_syscall(SYS_capset, (long)&header, (long)kill, 0, 0, 0, 0))
		raw_syscall(SYS_capset, (long)&header, (long)none, 0, 0, 0, 0);
}

#define LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define ANSWER(what)		BPF_STMT(BPF_RET | BPF_K, what)
#define ALLOW(call)		UNLESS(call, 1), ANSWER(SECCOMP_RET_ALLOW)
/* allow @call with @fd as its first argument; then load the call's number again for the next
 * test */
#define ALLOW_ON(call, fd) \
	UNLESS(call, 4), LOAD(args[0]), UNLESS((uint32_t)(fd), 1), \
	ANSWER(SECCOMP_RET_ALLOW), LOAD(nr)

static long install_filter(int sock, int uffd)
{
	struct sock_filter code[] = {
		LOAD(arch),
		UNLESS(AUDIT_ARCH_X86_64, 1),
		LOAD(nr),
		/* otherwise the architecture's number stays loaded, which is no call's below */
		ALLOW_ON(SYS_ioctl, uffd),
		ALLOW_ON(SYS_read, sock),
		ALLOW_ON(SYS_sendto, sock),
		ALLOW(SYS_ppoll),
		ALLOW(SYS_restart_syscall),
		ALLOW(SYS_futex),
		ALLOW(SYS_madvise),
		ALLOW(SYS_munlock),
		ALLOW(SYS_mincore),
		ALLOW(SYS_exit),
		UNLESS(SYS_pidfd_send_signal, 5),
		LOAD(args[0]),
		UNLESS((uint32_t)agent.pidfd, 3),
		LOAD(args[1]),
		UNLESS(SIGKILL, 1),
		ANSWER(SECCOMP_RET_ALLOW),
		ANSWER(SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };
	long rc = raw_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);

	return rc ? rc : raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&prog, 0, 0, 0);
}

/* 0; -errno: the agent can't be confined, and must not stay.  Context: the agent. */
int agent_confine(int sock, int uffd)
{
	long rc;

	drop_privileges();
	/* a filter of this thread's own would forbid the program to filter all its threads
	 * (SECCOMP_FILTER_FLAG_TSYNC); and a thread is in the program's own confinement */
	if (agent.thread)
		return 0;
	rc = install_filter(sock, uffd);
	/* a kernel without filters: the program can have none either */
	return rc == -EINVAL || rc == -ENOSYS ? 0 : rc;
}
