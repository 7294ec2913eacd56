/* SPDX-License-Identifier: MIT */
/*
 * What `zonedev run` exits with: the program's own status, or one of these where there is
 * none.  Each failure is said in one line, through the log: the command's sink (cmd_run.c)
 * writes it to standard error.
 */
#ifndef ZD_RUN_EXIT_H
#define ZD_RUN_EXIT_H

#include <stdbool.h>

#define RUN_EXIT_FAILED			2	/* zonedev's own failure; or the report's */
#define RUN_EXIT_NOT_EXECUTABLE		126
#define RUN_EXIT_NOT_FOUND		127

/* exit_cant_start - say that the supervisor can't start because of @rc, a -errno. */
int exit_cant_start(int rc);

/* exit_not_launched - say that @cmd could not be exec'ed because of @rc, a -errno. */
int exit_not_launched(const char *cmd, int rc);

/*
 * exit_as - the exit status of a program that ended with @status (as waitpid() tells it).
 *
 * Does not return where a signal has ended the program: this process dies of the same one.
 * @report_failed: zonedev's own status takes the place of success.
 */
int exit_as(int status, bool report_failed);

#endif
