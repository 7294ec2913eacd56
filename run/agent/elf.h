/* SPDX-License-Identifier: MIT */
/* What an executable is; for the supervisor, and in the program (program_tell_unmanaged.c). */
#ifndef ZD_RUN_AGENT_ELF_H
#define ZD_RUN_AGENT_ELF_H

#include <elf.h>

enum elf_loader {
	ELF_STATIC,	/* the kernel alone loads it */
	ELF_GLIBC,	/* the loader comes into it, and loads the agent; or it is the loader, started
			 * by hand with a program to load */
	ELF_OTHER,	/* another libc's loader, which would look for the agent's symbols in vain */
};

/* Reads @fd; system calls by instruction only, no libc. */
enum elf_loader elf_loader(int fd, const Elf64_Ehdr *eh);

#endif
