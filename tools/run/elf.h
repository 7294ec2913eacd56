/* SPDX-License-Identifier: MIT */
/* What an executable is; for the supervisor, and in the program (preload_exec.c). */
#ifndef ZD_RUN_ELF_H
#define ZD_RUN_ELF_H

#include <elf.h>
#include <stdbool.h>

/* Does the loader come into it, and load the agent?  The loader itself counts, started by
 * hand with a program to load.  Reads @fd; system calls only, no malloc. */
bool elf_is_dynamic(int fd, const Elf64_Ehdr *eh);

#endif
