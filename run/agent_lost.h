/* SPDX-License-Identifier: MIT */
/* A process that has lost its agent. */
#ifndef ZD_RUN_AGENT_LOST_H
#define ZD_RUN_AGENT_LOST_H

struct process;

/* Both in the server's thread; they don't block on the program. */

/* agent_lost - the agent is gone: the program has exec'ed, has ended, is about to end, or its
 * agent was killed. */
void agent_lost(struct process *p);

/* agent_lost_reopen - look for another task of the address space, and open /proc's files through
 * it.  Once; nothing happens as long as there is an agent. */
void agent_lost_reopen(struct process *p);

#endif
