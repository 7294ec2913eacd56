/* SPDX-License-Identifier: MIT */
/*
 * A program that defines functions with names of libc's; for run_names.sh.  Only the program
 * itself may call them.
 *
 *	run_names exec PROG	each way to exec PROG, and to spawn it
 *	run_names stack PROG	from a thread with little stack, with a large environment
 *	run_names root DIR	a command in DIR, by system() and popen() after chroot()
 */
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void called(const char *name)
{
	if (write(STDOUT_FILENO, name, __builtin_strlen(name)) < 0)
		_exit(99);
	_exit(98);
}

/* "user logged in", "mail sent" */
int access(const char *who, int how)
{
	(void)who;
	(void)how;
	called("access\n");
	return 0;
}

int socket(int a, int b, int c)
{
	called("socket\n");
	return a + b + c;
}

ssize_t send(int to, const void *what, size_t len, int flags)
{
	(void)to;
	(void)what;
	(void)flags;
	called("send\n");
	return len;
}

char *strstr(const char *in, const char *what)
{
	called("strstr\n");
	return (char *)(*in ? in : what);
}

char *strchrnul(const char *s, int c)
{
	called("strchrnul\n");
	return (char *)s + c;
}

static int nr_execve;

/* Defined with the help of another function of libc's. */
int execve(const char *path, char *const argv[], char *const envp[])
{
	nr_execve++;
	environ = (char **)envp;
	return execv(path, argv);
}

static const char *prog;
static char *args[] = { (char *)"prog", NULL };

static void by_execve(void)
{
	execve(prog, args, environ);
}
static void by_execv(void)
{
	execv(prog, args);
}
static void by_execvp(void)
{
	execvp(prog, args);
}
static void by_execvpe(void)
{
	execvpe(prog, args, environ);
}
static void by_execl(void)
{
	execl(prog, "prog", NULL);
}
static void by_execlp(void)
{
	execlp(prog, "prog", NULL);
}
static void by_execle(void)
{
	execle(prog, "prog", NULL, environ);
}

static int ends_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && !status;
}

static int spawns(void)
{
	pid_t pid, second;

	return !posix_spawn(&pid, prog, NULL, NULL, args, environ) && ends_well(pid) &&
	       !posix_spawnp(&second, prog, NULL, NULL, args, environ) && ends_well(second);
}

static int exec_all(void)
{
	void (*const by[])(void) = {
		by_execve, by_execv, by_execvp, by_execvpe, by_execl, by_execlp, by_execle,
	};

	for (unsigned int i = 0; i < sizeof(by) / sizeof(by[0]); i++) {
		pid_t pid = fork();

		if (!pid) {
			by[i]();
			_exit(97);
		}
		if (!ends_well(pid)) {
			fprintf(stderr, "exec %u\n", i);
			return 1;
		}
	}
	/* none of libc's other functions calls this one */
	prog = "/nonexistent";
	for (unsigned int i = 1; i < sizeof(by) / sizeof(by[0]); i++)
		by[i]();
	if (nr_execve) {
		fprintf(stderr, "the program's own execve() was called\n");
		return 1;
	}
	return 0;
}

static void *with_little_stack(void *arg)
{
	(void)arg;
	if (!spawns())
		_exit(96);
	execve(prog, args, environ);
	_exit(95);
}

static int stack(void)
{
	char name[32];
	pthread_attr_t attr;
	pthread_t t;

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "VARIABLE_%d", i);
		setenv(name, "1", 1);
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
	if (pthread_create(&t, &attr, with_little_stack, NULL))
		return 1;
	pthread_join(t, NULL);
	return 1;
}

static int root(const char *dir)
{
	FILE *f;

	if (chroot(dir) || chdir("/") || system("exit 0"))
		return 1;
	f = popen("exit 0", "r");
	return !f || pclose(f);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	prog = argv[2];
	if (!__builtin_strcmp(argv[1], "exec"))
		return !spawns() || exec_all();
	if (!__builtin_strcmp(argv[1], "stack"))
		return stack();
	return root(prog);
}
