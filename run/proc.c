/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "run/proc.h"

int proc_open(pid_t pid, pid_t tid, const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, file);
	return open(path, O_RDONLY | O_CLOEXEC);
}

pid_t proc_find_task(pid_t pid, bool (*matches)(pid_t pid, pid_t tid, void *ctx), void *ctx)
{
	char path[64];
	struct dirent *d;
	pid_t found = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && !found && (d = readdir(dir))) {
		pid_t tid = strtol(d->d_name, NULL, 10);

		if (tid > 0 && matches(pid, tid, ctx))
			found = tid;
	}
	if (dir)
		closedir(dir);
	return found;
}
