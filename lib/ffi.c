/* SPDX-License-Identifier: MIT */
/*
 * The inline functions of the public headers as symbols, for languages that can't compile
 * the headers.  libzonedev-ffi needs libzonedev: a program that loads the one finds every
 * function of zonedev in it.
 *
 * The headers say "static inline".  Both words mean nothing below, so that each of these
 * functions becomes an ordinary one, exported as the headers' visibility says.  What is
 * not ours must have been read before: these are the headers that the public ones include.
 */
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#define static
#define inline
#include <zonedev.h>
#undef inline
#undef static

#ifdef ZD_PAGE_TRACE
ZD_STATIC_KEY_MODULE;	/* of the branches in gets and puts */
#endif
