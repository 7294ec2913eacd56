/* SPDX-License-Identifier: MIT */
/* Messages of a userfaultfd. */
#ifndef ZD_ENGINE_EVENT_H
#define ZD_ENGINE_EVENT_H

#include "engine/mm.h"

/* Read and handle what the userfaultfd has now.  Returns how many messages those were.
 * The server's thread; does not block. */
unsigned int zd_mm_read(struct zd_mm *mm);
/* mm->source.ready */
void zd_mm_ready(struct zd_source *source, uint32_t events);

#endif
