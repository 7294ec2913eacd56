/* SPDX-License-Identifier: MIT */
/* Files of /proc that tell of one task. */
#ifndef ZD_RUN_PROC_H
#define ZD_RUN_PROC_H

#include <stdbool.h>
#include <sys/types.h>

/* proc_open - /proc/@pid/task/@tid/@file for reading; -1 and errno. */
int proc_open(pid_t pid, pid_t tid, const char *file);

/*
 * proc_find_task - the first task of @pid that @matches, or 0.
 *
 * Context: any thread; may block on the kernel's locks of the process.
 */
pid_t proc_find_task(pid_t pid, bool (*matches)(pid_t pid, pid_t tid, void *ctx), void *ctx);

#endif
