/* SPDX-License-Identifier: MIT */
/*
 * serve/control.h - how `zonedev remove` and `zonedev add` talk to the server of a region.
 *
 * A server listens on a control socket (sockets.h) of type SOCK_SEQPACKET: a message is a
 * packet.  No other user can enter the socket's directory, so every process that can
 * connect may ask.
 *
 *	to the server	remove MS	take the region away; MS < 0: wait for ever
 *			add		open the region again
 *	to the asker	wait TEXT	the server still waits, for TEXT; more follows
 *			ok
 *			lost TEXT	the region is away, and not all that was written is safe
 *			held TEXT	the time is over; the server goes on waiting by itself
 *			no TEXT		the region is in that state already, or not yet
 *			error TEXT
 *
 * All but "wait" end the talk.
 */
#ifndef ZD_SERVE_CONTROL_H
#define ZD_SERVE_CONTROL_H

#define CONTROL_MESSAGE	1024	/* bytes of the longest message, with its final zero */

/*
 * control_start - start the thread that takes the region of region.h, at @path, away and
 * brings it back.  @path stays the caller's, and must stay.  0 or -errno.  Before it:
 * region_open(), server_say_by().
 * control_stop - end the thread, and wait for it.  The region may be in the middle of its
 * removal.
 */
int control_start(const char *path);
void control_stop(void);

#endif
