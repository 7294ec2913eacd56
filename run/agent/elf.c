/* SPDX-License-Identifier: MIT */
/* What loads an executable: see elf.h. */
#include <stdbool.h>
#include <sys/syscall.h>

#include "base/rawsys.h"
#include "run/agent/elf.h"

static bool read_all(int fd, void *to, long len, Elf64_Off at)
{
	return raw_syscall(SYS_pread64, fd, (long)to, len, at, 0, 0) == len;
}

/* A loader that is started by hand is a library, with a name; a static program has none. */
static bool has_soname(int fd, const Elf64_Phdr *ph)
{
	Elf64_Dyn dyn;

	for (Elf64_Off at = 0; at < ph->p_filesz; at += sizeof(dyn)) {
		if (!read_all(fd, &dyn, sizeof(dyn), ph->p_offset + at) || dyn.d_tag == DT_NULL)
			return false;
		if (dyn.d_tag == DT_SONAME)
			return true;
	}
	return false;
}

/* glibc's loader is called ld-linux-ARCH.so.N, in whatever directory. */
static enum elf_loader interpreter(int fd, const Elf64_Phdr *ph)
{
	static const char glibc[] = "ld-linux";
	char path[256];		/* the end of the path, as the stack may be small */
	Elf64_Xword len = ph->p_filesz < sizeof(path) ? ph->p_filesz : sizeof(path), name = 0;

	if (!read_all(fd, path, len, ph->p_offset + ph->p_filesz - len))
		return ELF_OTHER;
	for (Elf64_Xword i = 0; i < len; i++)
		if (path[i] == '/')
			name = i + 1;
	for (Elf64_Xword i = 0; i < sizeof(glibc) - 1; i++)
		if (name + i >= len || path[name + i] != glibc[i])
			return ELF_OTHER;
	return ELF_GLIBC;
}

enum elf_loader elf_loader(int fd, const Elf64_Ehdr *eh)
{
	enum elf_loader loader = ELF_STATIC;

	for (unsigned int i = 0; i < eh->e_phnum; i++) {
		Elf64_Phdr ph;

		if (!read_all(fd, &ph, sizeof(ph), eh->e_phoff + i * sizeof(ph)))
			break;
		if (ph.p_type == PT_INTERP)
			return interpreter(fd, &ph);
		if (ph.p_type == PT_DYNAMIC && has_soname(fd, &ph))
			loader = ELF_GLIBC;
	}
	return loader;
}
