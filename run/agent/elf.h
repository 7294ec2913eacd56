/* SPDX-License-Identifier: MIT */
/* What loads an executable: asked by the supervisor (run/command.c), and in the program
 * (unmanaged.c). */
#ifndef ZD_RUN_AGENT_ELF_H
#define ZD_RUN_AGENT_ELF_H

#include <elf.h>

enum elf_loader {
	ELF_STATIC,	/* the kernel alone loads it */
	ELF_GLIBC,	/* glibc's loader, which loads the agent's library; or the executable is that
			 * loader, started by hand with a program to load */
	ELF_OTHER,	/* another libc's loader, which lacks symbols that the agent's library needs */
};

/* Reads @fd, whose header is @eh.  Context: any, a signal handler or a vfork()'s child
 * included: system calls by instruction only, no libc. */
enum elf_loader elf_loader(int fd, const Elf64_Ehdr *eh);

#endif
