/* SPDX-License-Identifier: MIT */
/*
 * The descriptors that the user started the supervisor with: they are the program's, but for
 * standard error, where the supervisor has something to say.
 */
#ifndef ZD_RUN_USER_FDS_H
#define ZD_RUN_USER_FDS_H

/* Open /dev/null for each of the first three that is closed: no descriptor of the supervisor
 * may take its number, or a message would be written into that.  The program gets them closed,
 * as they were.  Before anything else is opened. */
void user_fds_occupy(void);

/* Once the program has them: let go of all but standard error.  A process at the other end of
 * a pipe must not wait for the supervisor's end. */
void user_fds_release(void);
/* In the background half: of standard error, too. */
void user_fds_release_stderr(void);

#endif
