/* SPDX-License-Identifier: MIT */
#include "core/rcu.h"

#ifdef __SANITIZE_THREAD__
char zd_rcu_tsan;
#endif
