/* SPDX-License-Identifier: MIT */
#ifndef ZD_TOOLS_RUN_DEVICES_H
#define ZD_TOOLS_RUN_DEVICES_H

struct run;

/*
 * run_devices_open - open the devices of run->opt, and give them to the run (run/tiers.h).
 *
 * Where none were named: compressed RAM, and behind it an unlinked file; without one of the two
 * the other, with a warning.  Returns 0, or the exit status, when the user has been told; then
 * none is open.  May block.
 */
int run_devices_open(struct run *run);

#endif
