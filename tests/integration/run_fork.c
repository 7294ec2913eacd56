/* SPDX-License-Identifier: MIT */
/*
 * Processes made in every way there is, for run_children.sh, run_daemon.sh and
 * run_kill.sh.  All share the pages of one area of MIB; those that live check them.
 *
 *	run_fork before MIB	the child reads and writes while the parent does
 *	run_fork after MIB	the parent ends at once, the child reads
 *	run_fork grand MIB	a child's child's child reads, the others are gone
 *	run_fork thread MIB	one of four threads forks while the others write
 *	run_fork raw MIB	the child is made by a bare clone()
 *	run_fork rawafter MIB	the same, and its parent ends at once
 *	run_fork vfork MIB	vfork and exec: of this program, `self`
 *	run_fork spawn MIB	posix_spawn of it
 *	run_fork many MIB	20 children, one after the other and at once
 *	run_fork daemon MIB	the child says its pid, then reads when it finds
 *				the file named by $GO
 *	run_fork linger MIB	parent, child and raw child all say "ready PID" and
 *				wait (the last also "raw PID"); a line "wrong PID" if
 *				one reads what it should not, once a second
 *	run_fork cold MIB	fork a child that ends at once; then use other memory:
 *				the pages from before the fork go out, unread
 *	run_fork self MIB	fill and check
 *
 * The last process says "ok".
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096UL
#define WORDS	(PAGE / sizeof(uint64_t))

extern char **environ;
static uint64_t *mem, pages;

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

static uint64_t value(uint64_t page, uint64_t seed)
{
	return (page + 1) * 0x9e3779b97f4a7c15u + seed;
}

static void fill(uint64_t from, uint64_t to, uint64_t seed)
{
	for (uint64_t i = from; i < to; i++)
		for (unsigned int w = 0; w < WORDS; w += 8)
			mem[i * WORDS + w] = value(i, seed) + w;
}

static bool is_right(uint64_t page, uint64_t seed)
{
	for (unsigned int w = 0; w < WORDS; w += 8)
		if (((volatile uint64_t *)mem)[page * WORDS + w] != value(page, seed) + w)
			return false;
	return true;
}

static void check(const char *who, uint64_t from, uint64_t to, uint64_t seed)
{
	for (uint64_t i = from; i < to; i++) {
		if (is_right(i, seed))
			continue;
		fprintf(stderr, "run_fork: %s: page %llu at %p reads %#llx, not %#llx\n", who,
			(unsigned long long)i, (void *)(mem + i * WORDS),
			(unsigned long long)mem[i * WORDS], (unsigned long long)value(i, seed));
		_exit(1);
	}
}

static pid_t raw_fork(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void join(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "run_fork: a child ended with status %#x\n", status);
		_exit(1);
	}
}

/* Parent and child write every other page of what they share; each sees only its own writes. */
static void both(pid_t (*make)(void))
{
	pid_t pid = make();
	uint64_t seed = pid ? 100 : 200;

	for (uint64_t i = 0; i < pages; i++) {
		check(pid ? "parent" : "child", i, i + 1, 1);
		if (i % 2)
			fill(i, i + 1, seed);
	}
	for (uint64_t i = 0; i < pages; i++)
		check(pid ? "parent, later" : "child, later", i, i + 1, i % 2 ? seed : 1);
	if (!pid)
		_exit(0);
	join(pid);
	say("ok\n");
}

/* Until the parent is gone. */
static void orphaned(pid_t parent)
{
	while (getppid() == parent)
		usleep(1000);
	usleep(20000);
}

static void after(pid_t (*make)(void))
{
	pid_t parent = getpid();

	if (make())
		_exit(0);
	orphaned(parent);
	check("child of nobody", 0, pages, 1);
	fill(0, pages, 2);
	check("child of nobody", 0, pages, 2);
	say("ok\n");
}

static void grand(void)
{
	for (int i = 0; i < 3; i++) {
		pid_t parent = getpid();

		fill(pages * i / 4, pages * (i + 1) / 4, 10);
		if (fork())
			_exit(0);
		orphaned(parent);
	}
	check("grandchild", 0, pages * 3 / 4, 10);
	check("grandchild", pages * 3 / 4, pages, 1);
	say("ok\n");
}

static void *writer(void *arg)
{
	uint64_t nr = (uintptr_t)arg, from = pages * nr / 4, to = pages * (nr + 1) / 4;

	for (uint64_t round = 2; round < 5; round++) {
		fill(from, to, round);
		check("thread", from, to, round);
	}
	return NULL;
}

static void thread_and_fork(void)
{
	pthread_t t[3];

	for (uintptr_t i = 0; i < 3; i++)
		if (pthread_create(&t[i], NULL, writer, (void *)(i + 1)))
			_exit(1);
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();

		if (!pid) {
			check("child of a thread", 0, pages / 4, 1);
			_exit(0);
		}
		join(pid);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	check("parent", 0, pages / 4, 1);
	check("parent", pages / 4, pages, 4);
	say("ok\n");
}

static void exec_self(char **argv, bool by_vfork)
{
	char *self[] = { argv[0], "self", argv[2], NULL };
	pid_t pid;

	if (!by_vfork) {
		if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, self, environ))
			_exit(1);
	} else {
		pid = vfork();
		if (!pid) {
			execv("/proc/self/exe", self);
			_exit(1);
		}
	}
	join(pid);
	check("parent", 0, pages, 1);
	say("ok\n");
}

static void many(void)
{
	pid_t pid[20];

	for (int i = 0; i < 20; i++) {
		pid[i] = i % 4 == 3 ? raw_fork() : fork();
		if (!pid[i]) {
			uint64_t from = pages * i / 20, to = pages * (i + 1) / 20;

			check("one of many", 0, pages, 1);
			fill(from, to, i + 2);
			check("one of many", from, to, i + 2);
			check("one of many", 0, from, 1);
			_exit(0);
		}
		if (i < 8)
			join(pid[i]);
	}
	for (int i = 8; i < 20; i++)
		join(pid[i]);
	check("parent", 0, pages, 1);
	say("ok\n");
}

static void daemon_child(void)
{
	char line[32];
	int null;

	if (fork())
		_exit(7);
	snprintf(line, sizeof(line), "%d\n", (int)getpid());
	say(line);
	/* the script would wait for this end of the pipe */
	null = dup(2);
	close(0);
	close(1);
	while (access(getenv("GO"), F_OK))
		usleep(10000);
	dup2(null, 1);
	check("daemon", 0, pages, 1);
	fill(0, pages, 3);
	check("daemon", 0, pages, 3);
	say("ok\n");
}

static void cold(void)
{
	size_t len = 24UL << 20;
	char *hog = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *in = malloc(pages);
	pid_t child = fork();
	uint64_t here = pages;

	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	for (int i = 0; here > pages / 10; i++) {
		if (i == 2000) {
			fprintf(stderr, "run_fork: %llu of %llu pages stay\n",
				(unsigned long long)here, (unsigned long long)pages);
			_exit(1);
		}
		for (size_t k = 0; k < len; k += PAGE)
			((volatile char *)hog)[k]++;
		usleep(5000);
		here = 0;
		mincore(mem, pages * PAGE, in);
		for (uint64_t k = 0; k < pages; k++)
			here += in[k] & 1;
	}
	check("after the fork", 0, pages, 1);
}

static void linger(void)
{
	char line[32];
	pid_t child = fork();

	if (child && !raw_fork()) {
		snprintf(line, sizeof(line), "raw %d\n", (int)getpid());
		say(line);
	}
	snprintf(line, sizeof(line), "ready %d\n", (int)getpid());
	say(line);
	snprintf(line, sizeof(line), "wrong %d\n", (int)getpid());
	for (uint64_t i = 0;; i = (i + 1) % pages) {
		/* slowly, so that much of the area is away at any time */
		if (!is_right(i, 1)) {
			say(line);
			sleep(1);
		}
		usleep(200);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc == 3 ? argv[1] : "";

	pages = argc == 3 ? strtoull(argv[2], NULL, 10) << 8 : 1;
	mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		return 1;
	fill(0, pages, 1);
	if (!strcmp(mode, "before"))
		both(fork);
	else if (!strcmp(mode, "after"))
		after(fork);
	else if (!strcmp(mode, "grand"))
		grand();
	else if (!strcmp(mode, "thread"))
		thread_and_fork();
	else if (!strcmp(mode, "raw"))
		both(raw_fork);
	else if (!strcmp(mode, "rawafter"))
		after(raw_fork);
	else if (!strcmp(mode, "vfork"))
		exec_self(argv, true);
	else if (!strcmp(mode, "spawn"))
		exec_self(argv, false);
	else if (!strcmp(mode, "many"))
		many();
	else if (!strcmp(mode, "daemon"))
		daemon_child();
	else if (!strcmp(mode, "cold"))
		cold();
	else if (!strcmp(mode, "linger"))
		linger();
	else if (!strcmp(mode, "self"))
		check("program", 0, pages, 1);
	else
		return 2;
	return 0;
}
