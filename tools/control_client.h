/* SPDX-License-Identifier: MIT */
/* tools/control_client.h - the servers of a region are asked (serve/control.h). */
#ifndef ZD_TOOLS_CONTROL_CLIENT_H
#define ZD_TOOLS_CONTROL_CLIENT_H

#define EXIT_HELD	1
#define EXIT_LOST	3

/*
 * control_ask - send @request to every server of this user's that has the region at @path, and
 * wait for their answers, and for the end of what was asked: @ms at most, < 0: for ever.
 * Returns the exit status, when the user has been told: 0; EXIT_HELD: the time is over, or a
 * server doesn't answer; EXIT_LOST; ZD_EXIT_USAGE.
 */
int control_ask(const char *path, const char *request, long long ms);

#endif
