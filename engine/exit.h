/* SPDX-License-Identifier: MIT */
/* The end of an address space. */
#ifndef ZD_ENGINE_EXIT_H
#define ZD_ENGINE_EXIT_H

#include "engine/mm.h"

/* Forget @mm: every device page reference is put, pages in flight are dropped.
 * The server's thread, between two turns of the server. */
void zd_mm_destroy(struct zd_mm *mm);

#endif
