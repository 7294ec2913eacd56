/* SPDX-License-Identifier: MIT */
/*
 * The second guard, a program of its own: a few pages without libc, embedded in the
 * library (guard.c) and run from a memfd.
 *
 *	argv: name, mark, the number of the server's pidfd
 */
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/rawsys.h"
#include "guard/family.h"

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
	int pidfd = stack[0] == 3 ? number(argv[2]) : 0;

	/* none of the program's pipes may live longer because of the guard */
	if (pidfd)
		raw_syscall(SYS_close_range, 0, pidfd - 1, 0, 0, 0, 0);
	raw_syscall(SYS_close_range, pidfd + 1, ~0U, 0, 0, 0, 0);
	raw_syscall(SYS_chdir, (long)"/", 0, 0, 0, 0, 0);
	zd_family_oom_protect();
	if (stack[0] == 3)
		zd_family_outlive(argv[1], pidfd);
	for (;;)
		raw_syscall(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
