/* SPDX-License-Identifier: MIT */
/* The one line that a command says when it fails. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"

int cmd_error(const char *fmt, ...)
{
	char line[1024] = "zonedev: ";
	size_t n = strlen(line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n = strlen(line);
	line[n++] = '\n';
	/* One write: what the program writes can't come between. */
	if (write(STDERR_FILENO, line, n) < 0)
		return ZD_EXIT_USAGE;
	return ZD_EXIT_USAGE;
}
