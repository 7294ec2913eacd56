/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run/witness.h"

/* The next question, and in *@pidfd a descriptor that came with it, if any.  Returns 0 when
 * the supervisor is gone. */
static int next_question(int sock, int *pidfd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl;
	int sig = 0;
	struct iovec iov = { &sig, sizeof(sig) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(sig))
		return 0;
	if (msg.msg_controllen >= CMSG_LEN(sizeof(int)) && ctl.align.cmsg_type == SCM_RIGHTS)
		*pidfd = *(int *)CMSG_DATA(&ctl.align);
	return sig;
}

/* The witness: a process with all signals blocked. */
static void witness_main(int sock)
{
	const struct timespec none = { 0, 0 };
	int sig, pidfd = -1;

	prctl(PR_SET_NAME, "zonedev-witness", 0, 0, 0);
	/* hold no directory and no file of the user's */
	if (chdir("/"))
		_exit(1);
	if (dup2(sock, 0) || close_range(1, ~0U, 0))
		_exit(1);
	while ((sig = next_question(0, &pidfd))) {
		sigset_t set;
		char got;

		if (sig < 0)	/* a descriptor came, and no question */
			continue;
		sigemptyset(&set);
		sigaddset(&set, sig);
		got = sigtimedwait(&set, NULL, &none) == sig;
		if (send(0, &got, 1, MSG_NOSIGNAL) != 1)
			break;
	}
	if (pidfd >= 0)
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	_exit(0);
}

int witness_start(struct witness *w)
{
	int pair[2], rc;

	w->pid = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	w->pid = fork();
	if (!w->pid) {
		sigset_t all;

		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		witness_main(pair[1]);
	}
	rc = w->pid < 0 ? -errno : 0;
	close(pair[1]);
	if (rc) {
		close(pair[0]);
		w->pid = 0;
		return rc;
	}
	w->sock = pair[0];
	fcntl(w->sock, F_SETFL, O_NONBLOCK);
	return 0;
}

void witness_stop(struct witness *w)
{
	if (!w->pid)
		return;
	kill(w->pid, SIGKILL);
	while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
		;
	witness_forget(w);
}

void witness_forget(struct witness *w)
{
	if (!w->pid)
		return;
	close(w->sock);
	w->pid = 0;
}

int witness_guard(struct witness *w, int pidfd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = { 0 };
	int no_question = -1;
	struct iovec iov = { &no_question, sizeof(no_question) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};

	ctl.align.cmsg_level = SOL_SOCKET;
	ctl.align.cmsg_type = SCM_RIGHTS;
	ctl.align.cmsg_len = CMSG_LEN(sizeof(int));
	*(int *)CMSG_DATA(&ctl.align) = pidfd;
	return sendmsg(w->sock, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int witness_ask(struct witness *w, int sig)
{
	if (!w->pid)
		return -ESRCH;
	return send(w->sock, &sig, sizeof(sig), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int witness_answer(struct witness *w)
{
	char got;
	ssize_t n = recv(w->sock, &got, 1, 0);

	if (n == 1)
		return got;
	return n < 0 ? -errno : -ESRCH;
}

bool witness_continue(struct witness *w)
{
	char path[32], buf[256], *state;
	ssize_t n = -1;
	int fd;

	if (!w->pid)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)w->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, sizeof(buf) - 1);
		close(fd);
	}
	if (n <= 0)
		return false;
	buf[n] = '\0';
	state = strrchr(buf, ')');
	if (!state || state[1] != ' ' || state[2] != 'T')
		return false;
	kill(w->pid, SIGCONT);
	return true;
}
