/* SPDX-License-Identifier: MIT */
/* How agents end in good order. */
#ifndef ZD_RUN_AGENT_END_H
#define ZD_RUN_AGENT_END_H

#include <stdbool.h>
#include <sys/types.h>

struct process;
struct run;

/* All in the server's thread; none blocks. */

/* agent_dismiss - tell the agent to end.  False: there is none that could be told. */
bool agent_dismiss(struct process *p);

/* What process @pid was before it exec'ed to become @now, if an agent still holds that. */
struct process *agent_predecessor(struct run *run, pid_t pid, const struct process *now);

/* Has the program exec'ed, so that nothing but the agent holds the address space? */
bool agent_outlived_exec(const struct process *p);

/* agent_farewell_waits - a thread bids farewell: must it wait?  Then its fault comes again when
 * it is answered. */
bool agent_farewell_waits(struct process *p);
void agent_answer_farewell(struct process *p);
/* The agent was told to end so long ago that the program shall not wait for it. */
bool agent_farewell_is_late(const struct process *p);

#endif
