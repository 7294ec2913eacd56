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

#define CONTROL_NOT_CONCERNED	(-1)	/* what was asked about is in that state already */

/* control_set_bound - an answer at @fd may take @ms, < 0: for ever, and a moment. */
void control_set_bound(int fd, long long ms);

/*
 * control_hear - the answers of one server, at @fd, until the talk ends; what the user is to be
 * told is of @path, and of a time that is over @after says what happens then.  The exit status,
 * when the user has been told; or CONTROL_NOT_CONCERNED, and in @why (CONTROL_MESSAGE bytes) the
 * reason.
 */
int control_hear(const char *path, const char *after, int fd, char *why);

#endif
