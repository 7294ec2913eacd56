/* SPDX-License-Identifier: MIT */
/*
 * The guard of a program that uses the library, as a program of its own: a few
 * pages without libc, embedded in the library (guard.c) and run from a memfd.
 *
 *	argv: name, mark, the parent's pid
 */
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/rawsys.h"
#include "mm/family.h"

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall guard_start\n\thlt");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl guard_start\n\tbrk #0");
#endif

static int number(const char *s)
{
	int n = 0;

	while (*s >= '0' && *s <= '9')
		n = n * 10 + *s++ - '0';
	return n;
}

__attribute__((used)) void guard_start(const uintptr_t *stack)
{
	const char *const *argv = (const char *const *)(stack + 1);
	int parent = stack[0] == 3 ? number(argv[2]) : 0;
	long pidfd;

	/* none of the program's pipes may live longer because of the guard */
	raw_syscall(SYS_close_range, 0, ~0U, 0, 0, 0, 0);
	raw_syscall(SYS_chdir, (long)"/", 0, 0, 0, 0, 0);
	zd_family_oom_protect();
	pidfd = raw_syscall(SYS_pidfd_open, parent, 0, 0, 0, 0, 0);
	/* still the parent's child: that was its id, then.  If it has ended, whatever
	 * it left must go */
	if (raw_syscall(SYS_getppid, 0, 0, 0, 0, 0, 0) == parent && pidfd >= 0)
		zd_family_watch(argv[1], parent, pidfd);
	else if (parent)
		zd_family_kill(argv[1]);
	for (;;)
		raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
