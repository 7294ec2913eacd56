/* SPDX-License-Identifier: MIT */
/* The mover that works through an agent. */
#ifndef ZD_RUN_MOVER_AGENT_H
#define ZD_RUN_MOVER_AGENT_H

struct process;

/* mover_agent_init - give @p's zd_mm its mover, over an open sock and ring. */
void mover_agent_init(struct process *p);

/* mover_agent_done - the request under way, if any, has ended: what it has moved is fetched. */
void mover_agent_done(struct process *p);

#endif
