// SPDX-License-Identifier: MIT
/*
 * usage: run_press MIB COMMAND [ARG...]
 *
 * Runs the command, and uses MIB of memory of its own all the while: under zonedev run, with
 * less RAM than that, the pages that the command doesn't use for a moment go out.  The command
 * begins when pages have begun to go out (or, natively, after some seconds).  Exits as the
 * command does (128 + signal when that was killed).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096UL
#define BATCH	128	/* pages between two pauses */

static volatile sig_atomic_t child;

static void pass_on(int sig)
{
	if (child > 0)
		kill(child, sig);
}

/* Use a batch of this process's pages, from @p. */
static size_t use(char *mem, size_t pages, size_t p)
{
	for (int i = 0; i < BATCH; i++, p = (p + 1) % pages)
		mem[p * PAGE]++;
	usleep(2000);
	return p;
}

static size_t resident(void)
{
	unsigned long total, here = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%lu %lu", &total, &here) != 2)
		here = 0;
	if (f)
		fclose(f);
	return here;
}

int main(int argc, char **argv)
{
	size_t pages = argc > 2 ? strtoul(argv[1], NULL, 0) * 256 : 0, p = 0;
	char *mem = mmap(NULL, (pages + 1) * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;

	if (!pages || mem == MAP_FAILED)
		return fprintf(stderr, "usage: run_press MIB COMMAND [ARG...]\n"), 2;
	signal(SIGTERM, pass_on);
	signal(SIGINT, pass_on);
	for (size_t i = 0; i < pages; i += BATCH)
		p = use(mem, pages, p);
	for (int i = 0; i < 500 && resident() > pages / 4 * 3; i++)
		p = use(mem, pages, p);
	child = fork();
	if (!child) {
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	while (child > 0 && waitpid(child, &status, WNOHANG) == 0)
		p = use(mem, pages, p);
	if (child < 0)
		return perror("run_press: fork"), 2;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
