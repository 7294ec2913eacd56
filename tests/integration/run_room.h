/* SPDX-License-Identifier: MIT */
/*
 * A program that takes memory no faster than zonedev makes room.
 *
 * How far a program gets ahead that uses memory as fast as it can depends on who gets the CPUs;
 * zonedev promises that its use of RAM is always brought back, and soon.  With
 * RUN_MEM_RAM=MIB in the environment the test's program waits, after every bit that it fills or
 * reads, until no more than MIB of it are in RAM.
 */
#ifndef RUN_ROOM_H
#define RUN_ROOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ROOM_WAIT_S	60

/* In pages; 0: the program needn't wait. */
static inline uint64_t room_limit(void)
{
	const char *ram = getenv("RUN_MEM_RAM");

	return ram ? strtoull(ram, NULL, 10) << 8 : 0;
}

/* Anonymous pages of the process in RAM; 0 when it is gone.  (Of a process whose main thread
 * has ended /proc/self tells nothing any more, thread-self does.) */
static inline uint64_t room_resident(const char *pid)
{
	unsigned long long total, all, shared;
	char path[64];
	uint64_t anon = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/statm", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu %llu", &total, &all, &shared) == 3)
		anon = all - shared;
	fclose(f);
	return anon;
}

/* Wait until the process, and @other if that isn't 0, have no more than @limit pages in RAM. */
static inline void room_wait(uint64_t limit, pid_t other)
{
	struct timespec start, now;
	char pid[16];

	if (!limit)
		return;
	clock_gettime(CLOCK_MONOTONIC, &start);
	snprintf(pid, sizeof(pid), "%d", (int)other);
	while (room_resident("thread-self") + (other ? room_resident(pid) : 0) > limit) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - start.tv_sec > ROOM_WAIT_S) {
			fprintf(stderr, "more than %llu pages in RAM, for %d s\n",
				(unsigned long long)limit, ROOM_WAIT_S);
			_exit(1);
		}
		usleep(1000);
	}
}

#endif
