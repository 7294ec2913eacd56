/* SPDX-License-Identifier: MIT */
/*
 * What can this host do?  Everything here is tried, not looked up: a kernel may
 * have a call and a container's filter may still forbid it.
 */
#ifndef ZD_TOOLS_PROBE_H
#define ZD_TOOLS_PROBE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An int member is 0 where the thing works, else -errno. */
struct probe {
	char kernel[65];

	/* userfaultfd */
	int uffd_syscall;	/* the system call, kernel faults included */
	int uffd_user_only;	/* the system call, for faults of user code only */
	int uffd_device;	/* /dev/userfaultfd */
	int uffd_sysctl;	/* vm.unprivileged_userfaultfd: 0, 1, or -1: none */
	int uffd_api;		/* the handshake that lists the features */
	uint64_t uffd_features;
	int uffd_events;	/* the handshake with all that zonedev run asks for */
	int uffd_move;		/* two pages moved and looked at */

	bool cap_sys_ptrace;
	int io_uring;
	int pagemap_scan;
	int membarrier;
	uint64_t membarrier_cmds;
	unsigned int rseq_size;	/* 0: glibc doesn't register one */
	char thp[16];		/* always, madvise, never, or "" for none */
	uint64_t mem_total, mem_available;	/* bytes */

	int preload;
	char preload_path[PATH_MAX];
};

void probe_host(struct probe *p);

/* What keeps `zonedev run` from working, and what to do about it. */
struct probe_problem {
	const char *what;
	const char *fix;
};

#define PROBE_MAX_PROBLEMS 4

/* Stores at most PROBE_MAX_PROBLEMS and returns how many; 0: it works. */
int probe_problems(const struct probe *p, struct probe_problem *problems);

/* The names of userfaultfd's features by bit, NULL-terminated. */
extern const char *const probe_feature_names[];

#endif
