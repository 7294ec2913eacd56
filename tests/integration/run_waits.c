/* SPDX-License-Identifier: MIT */
/*
 * For run_waits.sh:
 *
 *	run_waits over MIB	fill MIB of mappings too small to be managed; then copy from
 *				page to page of managed memory, each byte by one instruction
 *	run_waits filter MIB	fill and check, where a seccomp filter forbids sendto()
 *	run_waits orphan MIB	leave a stopped child with MIB of memory behind
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#define PAGE	4096UL
#define MIB	(1UL << 20)
#define SMALL	(64UL << 10)

static char *map(size_t len, int prot)
{
	char *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(3);
	return p;
}

static void fill(char *p, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		p[i] = 1 + i / PAGE % 250;
}

static void check(const volatile char *p, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		if (p[i] != (char)(1 + i / PAGE % 250))
			_exit(4);
}

static void copy(char *to, const char *from)
{
#ifdef __x86_64__
	size_t len = PAGE;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
#else
	memcpy(to, from, PAGE);
#endif
}

static void over(size_t len)
{
	char *from, *to;

	for (size_t i = 0; i < len; i += SMALL) {
		char *p = map(2 * SMALL, PROT_NONE);

		mprotect(p, SMALL, PROT_READ | PROT_WRITE);
		memset(p, 1, SMALL);
	}
	from = map(4 * MIB, PROT_READ | PROT_WRITE);
	map(PAGE, PROT_NONE);
	to = map(4 * MIB, PROT_READ | PROT_WRITE);
	fill(from, 4 * MIB);
	memset(to, 9, 4 * MIB);
	for (size_t i = 0; i < 1024; i++)
		copy(to + i * 37 % 1024 * PAGE, from + i * 37 % 1024 * PAGE);
	check(to, 4 * MIB);
}

static void filter(size_t len)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sendto, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, f };
	char *p = map(len, PROT_READ | PROT_WRITE);

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog))
		_exit(77);
	fill(p, len);
	for (int i = 0; i < 3; i++)
		check(p, len);
}

/* Wait until some of what this process has filled is on the device: its agent is at work. */
static void wait_for_agent(size_t len)
{
	unsigned long long total, all, shared;

	for (int ms = 0; ms < 20000; ms++) {
		FILE *f = fopen("/proc/self/statm", "r");

		if (!f || fscanf(f, "%llu %llu %llu", &total, &all, &shared) != 3)
			_exit(3);
		fclose(f);
		if ((all - shared) * PAGE < len - MIB)
			return;
		usleep(1000);
	}
	_exit(5);
}

/* The child is idle; the parent needs its RAM, when the child, stopped, can't give any. */
static void orphan(size_t len)
{
	int ready[2], status;
	pid_t pid, other;
	char c;

	if (pipe(ready))
		_exit(3);
	pid = fork();
	if (!pid) {
		/* the kernel sends SIGHUP and SIGCONT to stopped processes of an orphaned group */
		signal(SIGHUP, SIG_IGN);
		fill(map(len, PROT_READ | PROT_WRITE), len);
		wait_for_agent(len);
		if (write(ready[1], "", 1) != 1)
			_exit(3);
		pause();
		_exit(0);
	}
	if (read(ready[0], &c, 1) != 1)
		_exit(3);
	kill(pid, SIGSTOP);
	other = fork();
	if (!other) {
		char *p = map(2 * len, PROT_READ | PROT_WRITE);

		fill(p, 2 * len);
		check(p, 2 * len);
		_exit(0);
	}
	if (waitpid(other, &status, 0) != other || status)
		_exit(5);
	printf("%d\n", (int)pid);
	fflush(stdout);
	_exit(6);
}

int main(int argc, char **argv)
{
	size_t len = argc > 2 ? strtoul(argv[2], NULL, 10) * MIB : 0;

	if (len && !strcmp(argv[1], "over"))
		over(len);
	else if (len && !strcmp(argv[1], "filter"))
		filter(len);
	else if (len && !strcmp(argv[1], "orphan"))
		orphan(len);
	else
		return 2;
	return 0;
}
