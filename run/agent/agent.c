/* SPDX-License-Identifier: MIT */
/* The agent's memory in the program. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "run/agent/agent.h"

#define HEAD_BYTES	(16 * PAGE + STACK_BYTES + MIDDLE_BYTES + RING_BYTES)
#define RESERVE_BYTES	(2 * ZD_AGENT_STAGING_BYTES + HEAD_BYTES)

struct agent agent;

static long open_up(char *at, size_t len)
{
	return raw_syscall(SYS_mprotect, (long)at, len, PROT_READ | PROT_WRITE, 0, 0, 0);
}

/*
 * One reservation: identity, farewell | stack | middleman's stack | ring | staging, with a
 * PROT_NONE page between any two.
 *
 * Context: the program's thread, in the library's constructor.
 */
int agent_lay_out(uint64_t clear_tids)
{
	char *base = (char *)raw_syscall(SYS_mmap, 0, RESERVE_BYTES, PROT_NONE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *identity, *staging;

	if ((long)base < 0 && (long)base > -4096)
		return (long)base;
	agent.nowhere = base + PAGE;
	identity = base + PAGE;
	agent.stack = identity + ZD_IDENTITY_BYTES + PAGE;
	agent.middle_stack = agent.stack + STACK_BYTES + PAGE;
	agent.ring = (void *)(agent.middle_stack + MIDDLE_BYTES + PAGE);
	staging =
		(char *)(((uintptr_t)agent.ring + RING_BYTES + PAGE + ZD_AGENT_STAGING_BYTES - 1) &
			 ~(ZD_AGENT_STAGING_BYTES - 1));
	raw_syscall(SYS_madvise, (long)base, RESERVE_BYTES, MADV_DONTDUMP, 0, 0, 0);
	raw_syscall(SYS_madvise, (long)base, RESERVE_BYTES, MADV_NOHUGEPAGE, 0, 0, 0);
	if (open_up(identity, ZD_IDENTITY_BYTES) || open_up(agent.stack, STACK_BYTES) ||
	    open_up(agent.middle_stack, MIDDLE_BYTES) || open_up(staging, ZD_AGENT_STAGING_BYTES))
		return -ENOMEM;
	agent.hello.lo = (uintptr_t)base;
	agent.hello.hi = (uintptr_t)base + RESERVE_BYTES;
	agent.hello.identity = (uintptr_t)identity;
	agent.hello.staging = (uintptr_t)staging;
	agent.hello.clear_tids = clear_tids;
	return 0;
}
