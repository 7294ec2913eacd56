/* SPDX-License-Identifier: MIT */
/*
 * What a program could notice of the agent that zonedev run puts beside it; for
 * run_agent.sh.  Each mode says "ok", as it does without zonedev, or what is wrong.  Exit
 * status 77: the mode can't be tried here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <unistd.h>

#define ROUNDS	20
#define MB	(1UL << 20)

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

static int status_of(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid: %s", strerror(errno));
	return status;
}

/* --- threads and children --- */

static void check_alone(const char *where)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int tasks = 0;
	struct dirent *d;

	while ((d = readdir(dir)))
		tasks += d->d_name[0] != '.';
	closedir(dir);
	if (tasks != 1)
		die("%s: %u threads", where, tasks);
	if (waitpid(-1, NULL, __WALL) != -1 || errno != ECHILD)
		die("%s: there is a child", where);
}

static void alone(void)
{
	pid_t pid;

	check_alone("at first");
	pid = fork();
	if (!pid) {
		check_alone("in a child");
		_exit(0);
	}
	if (status_of(pid))
		exit(1);
}

/* The first process of a pid namespace, which becomes the parent of all orphans in there. */
static void first(void)
{
	pid_t pid, child[3], got;

	if (unshare(CLONE_NEWPID))
		exit(77);
	pid = fork();
	if (pid) {
		if (status_of(pid))
			exit(1);
		return;
	}
	if (getpid() != 1 || waitpid(-1, NULL, __WALL) != -1 || errno != ECHILD)
		die("pid %d has a child", (int)getpid());
	for (int i = 0; i < 3; i++) {
		child[i] = fork();
		if (!child[i])
			exit(i);	/* by way of libc */
	}
	for (int i = 0; i < 3; i++) {
		got = wait(NULL);
		if (got != child[0] && got != child[1] && got != child[2])
			die("%d is nobody's child", (int)got);
	}
	if (waitpid(-1, NULL, __WALL) != -1 || errno != ECHILD)
		die("a child too many");
	_exit(0);
}

/* --- ends --- */

static void set_filter(unsigned int nr, unsigned int action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };
	const struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &prog))
		_exit(77);
}

static void ends(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		syscall(SYS_exit, 3);
	status = status_of(pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 3)
		die("exit(2): %x", status);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		syscall(SYS_exit, 4);
	}
	status = status_of(pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 4)
		die("strict: %x", status);
	pid = fork();
	if (!pid) {
		set_filter(SYS_mkdir, SECCOMP_RET_KILL_THREAD);
		syscall(SYS_mkdir, "/nonexistent/x", 0);
		_exit(9);
	}
	status = status_of(pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		die("KILL_THREAD: %x", status);
}

/* A seccomp filter that kills for a system call that the program never makes. */
static void filters(void)
{
	static const unsigned int nrs[] = {
		SYS_read,	  SYS_close,	      SYS_mmap,	      SYS_ioctl,     SYS_madvise,
		SYS_getpid,	  SYS_sendto,	      SYS_socket,     SYS_connect,   SYS_sendmsg,
		SYS_recvmsg,	  SYS_rt_sigprocmask, SYS_getppid,    SYS_ftruncate, SYS_setsid,
		SYS_setpriority,  SYS_prctl,	      SYS_futex,      SYS_capset,    SYS_ppoll,
		SYS_memfd_create, SYS_close_range,    SYS_pidfd_open, SYS_clone3,    SYS_seccomp,
		SYS_prlimit64,	  SYS_getrlimit,      SYS_setrlimit,  SYS_stat,
	};

	for (unsigned int i = 0; i < sizeof(nrs) / sizeof(nrs[0]); i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			set_filter(nrs[i], SECCOMP_RET_KILL_PROCESS);
			pid = fork();
			if (!pid)
				_exit(7);
			waitpid(pid, &status, 0);
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
		}
		status = status_of(pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
			die("with a filter for system call %u: %x", nrs[i], status);
	}
}

/* --- descriptors and files --- */

static void copy(const char *from, const char *to)
{
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700);
	char buf[65536];
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			die("can't copy");
	close(in);
	close(out);
}

/* A pipe whose ends parent and child have closed has no other ends. */
static void files(const char *scratch)
{
	char c;

	copy("/bin/true", scratch);
	for (int i = 0; i < ROUNDS; i++) {
		int fd = open(scratch, O_RDWR), go[2], status;
		pid_t pid;

		if (fd < 0 || flock(fd, LOCK_EX) || pipe(go))
			die("files: %s", strerror(errno));
		pid = fork();
		if (!pid) {
			close(fd);
			if (read(go[0], &c, 1) != 1)
				_exit(9);
			fd = open(scratch, O_RDONLY | O_CLOEXEC);
			if (flock(fd, LOCK_EX | LOCK_NB))
				_exit(8);
			execve(scratch, (char *[]){ (char *)scratch, NULL }, (char *[]){ NULL });
			_exit(errno == ETXTBSY ? 7 : 6);
		}
		close(fd);
		if (write(go[1], "x", 1) != 1)
			die("files: %s", strerror(errno));
		status = status_of(pid);
		if (status)
			die("round %d: %s", i,
			    WEXITSTATUS(status) == 8 ? "locked" :
			    WEXITSTATUS(status) == 7 ? "ETXTBSY" :
						       "ended otherwise");
		close(go[0]);
		close(go[1]);
	}
}

/* An executable that has ended is not busy. */
static void busy(const char *scratch)
{
	copy("/proc/self/exe", scratch);
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();
		int fd;

		if (!pid) {
			execl(scratch, scratch, "use", NULL);
			_exit(9);
		}
		if (status_of(pid))
			die("the copy failed");
		fd = open(scratch, O_WRONLY);
		if (fd < 0)
			die("round %d: %s", i, strerror(errno));
		close(fd);
	}
}

static void use(void)
{
	memset(malloc(8 * MB), 1, 8 * MB);
}

/* --- namespaces and limits --- */

static void spaces(void)
{
	int ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int user = open("/proc/sys/user/max_user_namespaces", O_RDONLY | O_CLOEXEC);

	if (ns < 0 || user < 0 || geteuid())
		exit(77);
	if (setns(ns, CLONE_NEWNS))
		die("setns: %s", strerror(errno));
	if (unshare(CLONE_NEWUSER))
		die("unshare: %s", strerror(errno));
}

static void *nothing(void *arg)
{
	return arg;
}

static void thread(void)
{
	pthread_t t;
	int rc = pthread_create(&t, NULL, nothing, NULL);

	if (rc)
		die("pthread_create: %s", strerror(rc));
	pthread_join(t, NULL);
}

static void places(char *self)
{
	const struct rlimit two = { 2, 2 };

	if (geteuid())
		exit(77);
	if (setgid(64321) || setuid(64321) || setrlimit(RLIMIT_NPROC, &two))
		die("limit: %s", strerror(errno));
	execl(self, self, "thread", NULL);
	die("exec: %s", strerror(errno));
}

/* --- for the script, which looks at the process from outside --- */

static void wait_for_line(const char *say)
{
	char c;

	puts(say);
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		;
}

static void *exec_clean(void *self)
{
	/* the program is unmanaged from here on */
	execle(self, self, "rest", NULL, (char *[]){ NULL });
	die("exec: %s", strerror(errno));
}

static void execs(char *self, int from_thread)
{
	pthread_t t;

	use();
	wait_for_line("ready");
	if (!from_thread)
		exec_clean(self);
	if (pthread_create(&t, NULL, exec_clean, self))
		die("pthread_create");
	pthread_join(t, NULL);
}

/* Memory keeps its content, and there can be more of it. */
static void memory(size_t mb)
{
	size_t n = mb * MB / sizeof(long);
	long *a = malloc(mb * MB), *b;

	for (size_t i = 0; i < n; i++)
		a[i] = i;
	wait_for_line("ready");
	b = malloc(mb * MB / 2);
	for (size_t i = 0; i < n; i++)
		if (a[i] != (long)i)
			die("content at %zu", i);
	for (size_t i = 0; i < n / 2; i++)
		b[i] = -i;
	for (size_t i = 0; i < n / 2; i++)
		if (b[i] != -(long)i)
			die("new content at %zu", i);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	const char *arg = argc > 2 ? argv[2] : "";

	if (!strcmp(mode, "alone"))
		alone();
	else if (!strcmp(mode, "first"))
		first();
	else if (!strcmp(mode, "ends"))
		ends();
	else if (!strcmp(mode, "filters"))
		filters();
	else if (!strcmp(mode, "files"))
		files(arg);
	else if (!strcmp(mode, "busy"))
		busy(arg);
	else if (!strcmp(mode, "use"))
		return use(), 0;
	else if (!strcmp(mode, "spaces"))
		spaces();
	else if (!strcmp(mode, "thread"))
		thread();
	else if (!strcmp(mode, "places"))
		places(argv[0]);
	else if (!strcmp(mode, "exec") || !strcmp(mode, "thread-exec"))
		execs(argv[0], !strcmp(mode, "thread-exec"));
	else if (!strcmp(mode, "rest"))
		wait_for_line("exec'ed");
	else if (!strcmp(mode, "memory"))
		memory(atoi(arg));
	else
		return 2;
	puts("ok");
	return 0;
}
