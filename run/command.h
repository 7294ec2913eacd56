/* SPDX-License-Identifier: MIT */
/* Which file CMD is, and whether an agent can get into it. */
#ifndef ZD_RUN_COMMAND_H
#define ZD_RUN_COMMAND_H

#include <stddef.h>

/*
 * command_check - is @cmd there, and will it load the agent?
 *
 * Returns 0 with @path set; or an exit status (exit.h), after one line that says why.
 */
int command_check(const char *cmd, char *path, size_t len);

#endif
