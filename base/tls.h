/* SPDX-License-Identifier: MIT */
/*
 * Thread-local words.  In the block that every thread has from its start: the
 * other kind, which a library brought by dlopen() would get, is allocated with
 * malloc at its first use, and that may be in a fault.  The block has little room
 * to spare for such libraries: a few words in all.
 */
#ifndef ZD_BASE_TLS_H
#define ZD_BASE_TLS_H

#define ZD_TLS __thread __attribute__((tls_model("initial-exec")))

#endif
