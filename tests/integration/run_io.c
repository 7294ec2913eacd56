/* SPDX-License-Identifier: MIT */
/*
 * I/O to and from memory that is short of RAM, for run_io.sh:
 *
 *	run_io MODE MIB FILE
 *
 *	fixed		io_uring with registered buffers: the kernel writes to the
 *			very pages that were there when it pinned them
 *	direct		O_DIRECT reads and writes
 *	plain		buffered reads and writes, and pipes
 *	vmsplice	pages that a pipe holds, a reader whose buffer is away
 *	peek		another process reads and writes by process_vm_*
 *
 * A ballast of MIB drives everything else out again and again.  Each mode writes a buffer
 * that has just been out to FILE, reads FILE into another buffer that has just been out, and
 * compares the two.  Exit status 77: there is no io_uring.
 */
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run_room.h"

#define PAGE	4096UL
#define BUF	(1UL << 20)
#define ROUNDS	6

static char *ballast;
static size_t ballast_bytes;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void *anon(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void fill(char *buf, unsigned int seed)
{
	for (size_t i = 0; i < BUF / 8; i++)
		((uint64_t *)buf)[i] = (i + 1) * 0x9e3779b97f4a7c15u + seed;
}

static void check(const char *what, const char *buf, unsigned int seed)
{
	for (size_t i = 0; i < BUF / 8; i++) {
		uint64_t want = (i + 1) * 0x9e3779b97f4a7c15u + seed;

		if (((const uint64_t *)buf)[i] == want)
			continue;
		fprintf(stderr, "run_io: %s: word %zu is %#llx, not %#llx\n", what, i,
			(unsigned long long)((const uint64_t *)buf)[i], (unsigned long long)want);
		exit(1);
	}
}

/* Use the ballast, and wait for room (run_room.h): everything else goes out meanwhile. */
static void squeeze(void)
{
	static unsigned char round;

	round++;
	for (size_t i = 0; i < ballast_bytes; i += PAGE)
		ballast[i] = round;
	room_wait(room_limit(), 0);
}

static void uring_io(struct io_uring *ring, int fd, char *buf, int index, bool write)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;

	if (write)
		io_uring_prep_write_fixed(sqe, fd, buf, BUF, 0, index);
	else
		io_uring_prep_read_fixed(sqe, fd, buf, BUF, 0, index);
	if (io_uring_submit(ring) != 1 || io_uring_wait_cqe(ring, &cqe))
		die("io_uring");
	if (cqe->res != (int)BUF) {
		fprintf(stderr, "run_io: io_uring: %d\n", cqe->res);
		exit(1);
	}
	io_uring_cqe_seen(ring, cqe);
}

static void registered(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	char *a = anon(BUF), *b = anon(BUF);
	struct iovec iov[2] = { { a, BUF }, { b, BUF } };
	struct io_uring ring;

	if (fd < 0)	/* a file system without O_DIRECT */
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		die(path);
	if (io_uring_queue_init(8, &ring, 0))
		exit(77);
	fill(a, 1);
	squeeze();
	if (io_uring_register_buffers(&ring, iov, 2))
		die("register_buffers");
	for (int i = 0; i < ROUNDS; i++) {
		fill(a, i);
		memset(b, 0xee, BUF);
		squeeze();
		check("registered, before", a, i);
		uring_io(&ring, fd, a, 0, true);
		squeeze();
		uring_io(&ring, fd, b, 1, false);
		check("registered, read at once", b, i);
		squeeze();
		check("registered, read later", b, i);
	}
	io_uring_queue_exit(&ring);
	close(fd);
	munmap(a, BUF);
	munmap(b, BUF);
}

static void plain(const char *path, int flags, const char *what)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0600);
	char *a = anon(BUF), *b = anon(BUF);

	if (fd < 0 && flags)	/* a file system without O_DIRECT */
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		die(path);
	for (int i = 0; i < ROUNDS; i++) {
		fill(a, i + 10);
		memset(b, 0xee, BUF);
		squeeze();
		if (pwrite(fd, a, BUF, 0) != (ssize_t)BUF)
			die(what);
		squeeze();
		if (pread(fd, b, BUF, 0) != (ssize_t)BUF)
			die(what);
		check(what, b, i + 10);
	}
	close(fd);
}

static char *spliced;
static int pipe_fd[2];

static void *reader(void *arg)
{
	size_t have = 0;
	char *to = arg;
	ssize_t n;

	while (have < BUF && (n = read(pipe_fd[0], to + have, BUF - have)) > 0) {
		have += n;
		squeeze();
	}
	return NULL;
}

static void splice_io(void)
{
	char *to = anon(BUF);
	pthread_t t;

	spliced = anon(BUF);
	for (int i = 0; i < 2; i++) {
		size_t done = 0;

		if (pipe(pipe_fd))
			die("pipe");
		fill(spliced, i + 50);
		memset(to, 0xee, BUF);
		squeeze();
		if (pthread_create(&t, NULL, reader, to))
			die("pthread_create");
		while (done < BUF) {
			struct iovec iov = { spliced + done, BUF - done };
			ssize_t n = vmsplice(pipe_fd[1], &iov, 1, 0);

			if (n <= 0)
				die("vmsplice");
			done += n;
		}
		pthread_join(t, NULL);
		check("vmsplice", to, i + 50);
		check("what was spliced", spliced, i + 50);
		close(pipe_fd[0]);
		close(pipe_fd[1]);
	}
}

static void peek_io(void)
{
	char *a = anon(BUF), *b = anon(BUF);
	pid_t pid = getpid();

	for (int i = 0; i < ROUNDS; i++) {
		struct iovec ours, theirs = { a, BUF };
		pid_t child;
		int status;

		fill(a, i + 80);
		memset(b, 0xee, BUF);
		squeeze();
		child = fork();
		if (!child) {
			char *c = anon(BUF);

			ours = (struct iovec){ c, BUF };
			if (process_vm_readv(pid, &ours, 1, &theirs, 1, 0) != (ssize_t)BUF)
				die("process_vm_readv");
			check("process_vm_readv", c, i + 80);
			fill(c, i + 90);
			theirs.iov_base = b;
			if (process_vm_writev(pid, &ours, 1, &theirs, 1, 0) != (ssize_t)BUF)
				die("process_vm_writev");
			_exit(0);
		}
		if (waitpid(child, &status, 0) != child || status)
			exit(1);
		check("process_vm_writev", b, i + 90);
		squeeze();
		check("process_vm_writev, later", b, i + 90);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc == 4 ? argv[1] : "";

	if (argc != 4)
		return 2;
	ballast_bytes = strtoul(argv[2], NULL, 10) << 20;
	ballast = anon(ballast_bytes);
	squeeze();
	if (!strcmp(mode, "fixed"))
		registered(argv[3]);
	else if (!strcmp(mode, "direct"))
		plain(argv[3], O_DIRECT, "O_DIRECT");
	else if (!strcmp(mode, "plain"))
		plain(argv[3], 0, "buffered");
	else if (!strcmp(mode, "vmsplice"))
		splice_io();
	else if (!strcmp(mode, "peek"))
		peek_io();
	else
		return 2;
	return 0;
}
