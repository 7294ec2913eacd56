/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/stat_text.h"

#define MIB	(1024.0 * 1024.0)

/* Names are the run's user's, and the terminal may be root's: no control character goes there. */
static const char *printable(const char *text, char *out, size_t len)
{
	size_t n = 0;

	for (; text && *text && n + 1 < len; text++) {
		unsigned char c = *text, next = text[1];
		bool c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;

		out[n++] = c < ' ' || c == 0x7f || c1 ? '?' : c;
		text += c1;
	}
	out[n] = '\0';
	return out;
}

static double value(json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static double mib(json_t *object, const char *key)
{
	return value(object, key) / MIB;
}

/* Of a count: per second. */
static double rate(json_t *now, json_t *before, const char *key, double seconds)
{
	double n = value(now, key) - (before ? value(before, key) : 0);

	return seconds > 0 && n > 0 ? n / seconds : 0;
}

static double ram_of_devices(json_t *run)
{
	double bytes = 0;
	json_t *device;
	size_t i;

	json_array_foreach(json_object_get(run, "devices"), i, device)
		bytes += value(device, "ram");
	return bytes;
}

void stat_list(json_t *runs)
{
	char command[256];
	json_t *run;
	size_t i;

	printf("%8s %10s %10s %12s %9s  %s\n", "PID", "RAM MiB", "of", "devices MiB", "seconds",
	       "COMMAND");
	json_array_foreach(runs, i, run)
		printf("%8.0f %10.1f %10.1f %12.1f %9.0f  %s\n", value(run, "pid"),
		       (value(run, "resident") + ram_of_devices(run)) / MIB, mib(run, "ram"),
		       value(json_object_get(run, "pages"), "live") * 4096 / MIB,
		       value(run, "seconds"),
		       printable(json_string_value(json_object_get(run, "command")), command,
				 sizeof(command)));
}

/* The driver's own numbers, on lines of their own. */
static void drivers_own(json_t *device)
{
	const char *key;
	json_t *own;
	char name[64];
	int at = 0;

	json_object_foreach(json_object_get(device, "stats"), key, own)
	{
		if (at > 60) {
			printf("\n");
			at = 0;
		}
		at += printf("%s%s %.10g", at ? "  " : "    ", printable(key, name, sizeof(name)),
			     json_number_value(own));
	}
	if (at)
		printf("\n");
}

static void one_device(json_t *device, json_t *before, double seconds)
{
	json_t *full = json_object_get(device, "full");
	const char *state = json_string_value(json_object_get(device, "state"));
	char name[64];

	printf("%-10s %-8s %9.1f %10.1f %9.0f %9.0f %8.0f\n",
	       printable(json_string_value(json_object_get(device, "name")), name, sizeof(name)),
	       json_is_true(full) && state && !strcmp(state, "used") ? "full" :
	       state						     ? state :
								       "?",
	       value(device, "live") * 4096 / MIB, mib(device, "size"),
	       rate(device, before, "out", seconds), rate(device, before, "home", seconds),
	       value(device, "errors"));
	drivers_own(device);
}

void stat_one(json_t *run, json_t *before, double seconds)
{
	json_t *devices = json_object_get(run, "devices"), *device;
	json_t *latency = json_object_get(run, "fault_latency_us");
	char command[256];
	size_t i;

	if (!before)
		seconds = value(run, "seconds");
	printf("pid %.0f: %s, %.1f s, %zu process%s\n", value(run, "pid"),
	       printable(json_string_value(json_object_get(run, "command")), command,
			 sizeof(command)),
	       value(run, "seconds"), json_array_size(json_object_get(run, "pids")),
	       json_array_size(json_object_get(run, "pids")) == 1 ? "" : "es");
	printf("RAM     %.1f of %.1f MiB, peak %.1f; of that devices keep %.1f\n",
	       (value(run, "resident") + ram_of_devices(run)) / MIB, mib(run, "ram"),
	       mib(run, "peak_ram"), ram_of_devices(run) / MIB);
	printf("faults  %.0f/s: home %.0f/s, new memory %.0f/s; p50 %.0f us, p99 %.0f us\n",
	       rate(run, before, "faults", seconds), rate(run, before, "faults_home", seconds),
	       rate(run, before, "faults_zero", seconds), value(latency, "p50"),
	       value(latency, "p99"));
	printf("%-10s %-8s %9s %10s %9s %9s %8s\n", "DEVICE", "state", "MiB on it", "of", "out/s",
	       "home/s", "errors");
	json_array_foreach(devices, i, device)
		one_device(device, json_array_get(json_object_get(before, "devices"), i), seconds);
}
