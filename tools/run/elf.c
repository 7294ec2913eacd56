/* SPDX-License-Identifier: MIT */
#include <unistd.h>

#include "tools/run/elf.h"

/* The loader is a library, with a name; a static program has none. */
static bool has_soname(int fd, const Elf64_Phdr *ph)
{
	Elf64_Dyn dyn;

	for (Elf64_Off at = 0; at < ph->p_filesz; at += sizeof(dyn)) {
		if (pread(fd, &dyn, sizeof(dyn), ph->p_offset + at) != sizeof(dyn) ||
		    dyn.d_tag == DT_NULL)
			return false;
		if (dyn.d_tag == DT_SONAME)
			return true;
	}
	return false;
}

bool elf_is_dynamic(int fd, const Elf64_Ehdr *eh)
{
	for (unsigned int i = 0; i < eh->e_phnum; i++) {
		Elf64_Phdr ph;

		if (pread(fd, &ph, sizeof(ph), eh->e_phoff + i * sizeof(ph)) != sizeof(ph))
			return false;
		if (ph.p_type == PT_INTERP || (ph.p_type == PT_DYNAMIC && has_soname(fd, &ph)))
			return true;
	}
	return false;
}
