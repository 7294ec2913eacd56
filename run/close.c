/* SPDX-License-Identifier: MIT */
/* The end of a device.  The main thread can't say that it waits for the driver, so a timer's thread
 * does. */
#include "run/close.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "zonedev/device.h"
#include "zonedev/log.h"

#define PATIENCE_S	10

static void say(union sigval name)
{
	zd_log(ZD_LOG_WARN,
	       "%s: its driver hasn't closed the device for %d s: zonedev waits for it",
	       (const char *)name.sival_ptr, PATIENCE_S);
}

void close_device(struct zd_device *dev)
{
	static char name[64];	/* of the device, which has it in memory that ->destroy may free */
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD, .sigev_notify_function = say,
		.sigev_value.sival_ptr = name,
	};
	struct itimerspec after = { .it_value.tv_sec = PATIENCE_S };
	timer_t timer;
	bool timed;

	snprintf(name, sizeof(name), "%s", dev->name);
	timed = !timer_create(CLOCK_MONOTONIC, &event, &timer);
	if (timed)
		timer_settime(timer, 0, &after, NULL);
	zd_device_unregister(dev);
	if (timed)
		timer_delete(timer);
}
