/* SPDX-License-Identifier: MIT */
/*
 * How `zonedev stat` and `zonedev remove` talk to a `zonedev run`.
 *
 * The supervisor listens on an abstract socket of type SOCK_SEQPACKET: a message is a packet, and
 * nothing is left behind in a file system, however the supervisor ends.  The socket's name is
 * RUN_CONTROL_NAME and what makes it unique; /proc/net/unix lists the names, and SO_PEERCRED
 * says whose a socket is.  Processes of the supervisor's user, and of root, are answered; the
 * connections of others are closed.
 *
 *	to the supervisor	stat PID	how it stands
 *				remove PID MS DEVICE	take DEVICE away (tier_named()); MS < 0: wait
 *					for ever
 *	to the asker		{...		(stat) a JSON object: the report so far, and "pid",
 *					"asked", "resident", "pids"
 *				no		neither this supervisor nor a process of its program
 *					has that PID (0: any)
 *				wait TEXT	pages are still on DEVICE, for TEXT; more follows
 *				ok		DEVICE is free
 *				held TEXT	the time is over; the removal goes on by itself
 *				stays TEXT	the removal was called off
 *				error TEXT
 *
 * All but "wait" end the talk.
 */
#ifndef ZD_RUN_CONTROL_H
#define ZD_RUN_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/loop.h"

struct run;
struct tier;

#define RUN_CONTROL_NAME	"zonedev-run."
#define RUN_CONTROL_MESSAGE	65536	/* bytes of the longest message, with its final zero */
#define RUN_CONTROL_CALLERS	8	/* at once; others are turned away */
#define RUN_CONTROL_TEXT	512	/* bytes of the longest TEXT, with its final zero */

/* A process that is connected; fd -1: none is.  @tier: whose removal the process waits for, until
 * @deadline_ns (0: for ever); @told: the last "wait" message, @tell_ns: no other before. */
struct run_caller {
	struct zd_source source;
	struct run *run;
	struct tier *tier;
	uint64_t deadline_ns, tell_ns;
	char told[RUN_CONTROL_TEXT];
};

struct run_control {
	struct zd_source listen;	/* fd -1: there is none */
	struct run_caller caller[RUN_CONTROL_CALLERS];
};

/* All by the thread that serves, which never waits for a caller. */

/* control_open - listen.  Without a socket the run goes on, with a warning. */
void control_open(struct run *run);
/* control_close - callers that wait for a removal are told that the device is free. */
void control_close(struct run *run);
/* control_step - between two polls: tell those that wait. */
void control_step(struct run *run);

#endif
