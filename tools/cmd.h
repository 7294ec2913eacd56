/* SPDX-License-Identifier: MIT */
/*
 * What the commands share.  Each command is a function in a file of its own,
 * cmd_NAME.c, that gets its own arguments (argv[0] is the command's name) and
 * returns the exit status.
 */
#ifndef ZD_TOOLS_CMD_H
#define ZD_TOOLS_CMD_H

#include <stddef.h>

/* The exit status of every mistake that the user can mend. */
#define ZD_EXIT_USAGE	2

int cmd_run(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_remove(int argc, char **argv);
int cmd_add(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_stat(int argc, char **argv);

/*
 * cmd_error - one line on stderr, "zonedev: ...", that says what to do.
 * Returns ZD_EXIT_USAGE, so that callers can return it in turn.
 */
int cmd_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * cmd_find_preload - where is the library that `zonedev run` preloads?
 *
 * Beside the command (a build directory), else where it was installed relative
 * to the command (so that a copy under another prefix works), else at the
 * configured place.  Returns 0, or -ENOENT with the first place that was tried
 * in @path.
 */
int cmd_find_preload(char *path, size_t len);

#endif
