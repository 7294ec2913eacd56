// SPDX-License-Identifier: MIT
// An exception that leaves a guarded function: the guard ends with it, so that a fault
// that comes later is the program's own.
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#include <zonedev.h>

static sigjmp_buf out;
static zd_dax_mapping *map;

static int throws(void *)
{
	throw 42;
}

static void mine(int)
{
	siglongjmp(out, 1);
}

static bool caught()
{
	try {
		zd_dax_access_guard(map, throws, nullptr);
	} catch (int n) {
		return n == 42;
	}
	return false;
}

__attribute__((noinline)) static void smash()
{
	char over[16384];

	memset(over, 0x41, sizeof(over));
	__asm__ volatile("" : : "r"(over) : "memory");
	*static_cast<volatile char *>(zd_dax_mapping_addr(map)) = 1;
}

int main()
{
	int fd = memfd_create("guarded", 0);
	zd_dax *dax;

	signal(SIGBUS, mine);
	if (fd < 0 || ftruncate(fd, 1 << 20) || zd_dax_open_fd(fd, 0, &dax) ||
	    zd_dax_mmap(dax, nullptr, 0, 0, 1 << 20, PROT_READ | PROT_WRITE, 0, &map))
		return 1;
	if (!caught() || ftruncate(fd, 0))
		return 2;
	if (!sigsetjmp(out, 1)) {
		smash();
		return 3;
	}
	puts("guard left by an exception: ok");
	return 0;
}
