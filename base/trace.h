/* SPDX-License-Identifier: MIT */
/*
 * USDT probes: one NOP each, and a note that tells bpftrace, perf and gdb where
 * it is and where its arguments are.  docs/man/zonedev-probes.7 lists them.
 * Built without <sys/sdt.h> they vanish.
 *
 * A probe's arguments are computed also where no tracer looks: give it values that
 * are at hand.
 */
#ifndef ZD_BASE_TRACE_H
#define ZD_BASE_TRACE_H

#if defined(__has_include) && !defined(ZD_NO_PROBES)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define ZD_HAVE_PROBES 1
#endif
#endif

#ifdef ZD_HAVE_PROBES
/* ZD_PROBEn(name, n arguments): integers or pointers. */
#define ZD_PROBE2(name, a, b)		DTRACE_PROBE2(zonedev, name, a, b)
#define ZD_PROBE3(name, a, b, c)	DTRACE_PROBE3(zonedev, name, a, b, c)
#else
#define ZD_PROBE2(name, a, b)		((void)(a), (void)(b))
#define ZD_PROBE3(name, a, b, c)	((void)(a), (void)(b), (void)(c))
#endif

#endif
