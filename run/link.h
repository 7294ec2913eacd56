/* SPDX-License-Identifier: MIT */
/* The socket at which agents announce themselves. */
#ifndef ZD_RUN_LINK_H
#define ZD_RUN_LINK_H

struct run;

/* Sets run->socket_name and run->token.  0 or -errno. */
int link_open(struct run *run);
void link_close(struct run *run);

#endif
