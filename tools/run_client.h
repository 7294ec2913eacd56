/* SPDX-License-Identifier: MIT */
/* tools/run_client.h - each `zonedev run` of this user's is found, and asked (run/control.h). */
#ifndef ZD_TOOLS_RUN_CLIENT_H
#define ZD_TOOLS_RUN_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

/* One that takes callers.  @text: how it stands, a JSON object; NULL: it didn't answer in time. */
struct run_answer {
	struct sockaddr_un addr;
	socklen_t len;
	char *text;
};

/*
 * run_ask_all - ask each that this user may ask, and that has the process @pid (0: any), how it
 * stands.  For root: those of all users.  The answers come in the order of /proc/net/unix, in
 * @answers; free them with run_answers_free().
 * Returns how many; or -errno.  Waits for 2 s at most.
 */
int run_ask_all(long pid, struct run_answer **answers);
void run_answers_free(struct run_answer *answers, int nr);

/*
 * run_ask_one - the same of the one run that has @pid: the exit status, when the user has been
 * told (0 and @answer; ZD_EXIT_USAGE: there is none; EXIT_HELD: a run doesn't answer, which may be
 * the one).  @may_have_ended: that there is none is no mistake: -1, and nothing is told.
 */
int run_ask_one(long pid, struct run_answer *answer, bool may_have_ended);

/* run_connect - to that run again.  Its descriptor, or -errno. */
int run_connect(const struct run_answer *answer);

/* run_parse_pid - a process id, > 0; or -EINVAL. */
long run_parse_pid(const char *text);

#endif
