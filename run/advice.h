/* SPDX-License-Identifier: MIT */
/* Telling the user that more RAM would help. */
#ifndef ZD_RUN_ADVICE_H
#define ZD_RUN_ADVICE_H

#include <stdint.h>

struct run;

/* Look now and then; say it once.  Server's thread. */
void advise(struct run *run, uint64_t now);

#endif
