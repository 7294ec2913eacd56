/* SPDX-License-Identifier: MIT */
/* The mover of library use: the server is part of the process. */
#ifndef ZD_MM_MOVER_SELF_H
#define ZD_MM_MOVER_SELF_H

#include "mm/mm.h"

/* Give @mm (of this process) its staging and its mover.  0 or -errno. */
int zd_mover_self_init(struct zd_mm *mm);

#endif
