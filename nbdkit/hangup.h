/* SPDX-License-Identifier: MIT */
/* Ending connections when the server is told to end. */
#ifndef ZD_NBDKIT_HANGUP_H
#define ZD_NBDKIT_HANGUP_H

/* hangup_start - from now on a signal that ends the server is told to @fd, an
 * eventfd, too.  nbdkit's handlers and its listening sockets must be there. */
void hangup_start(int fd);

enum hangup_patience {
	HANGUP_WHEN_ANSWERED,	/* who is still sending gets his answers first */
	HANGUP_NOW,		/* nobody is waited for */
	HANGUP_AT_ONCE,		/* and who doesn't read what he is sent is cut off */
};

/* hangup_clients - send those away that there are now.  One thread. */
void hangup_clients(enum hangup_patience patience);

#endif
