/* SPDX-License-Identifier: MIT */
/*
 * Thread-local words, in the block that every thread has from its start.  (The
 * words of a library that is loaded by dlopen() would else be allocated with malloc at
 * their first use, which may be in a fault.)  The block has little room
 * to spare for such libraries: a few words in all.
 */
#ifndef ZD_BASE_TLS_H
#define ZD_BASE_TLS_H

#define ZD_TLS __thread __attribute__((tls_model("initial-exec")))

#endif
