/* SPDX-License-Identifier: MIT */
/* When a program is told that it waits for pages most of the time, and with what --ram. */
#include "tests/unit/unit_test.h"

#include "run/advice.h"
#include "run/run.h"
#include "zonedev/log.h"

#define SECOND		1000000000ull
#define WINDOW_S	10
#define FAULT_NS	30000	/* and 20 microseconds beside */

static char told[256];
static unsigned int nr_told;

static void take(enum zd_log_level level, const char *text, void *ctx)
{
	(void)ctx;
	assert_int_equal(level, ZD_LOG_WARN);
	snprintf(told, sizeof(told), "%s", text);
	nr_told++;
}

static char *argv[] = { "sort", NULL };
static struct zd_device *dev;

/* 64 MiB in RAM, a page a fault: seconds of @faults each. */
static void live(struct run *run, unsigned int from, unsigned int seconds, unsigned int faults)
{
	for (unsigned int s = from; s < from + seconds; s++) {
		run->server.stats.c.faults_home += faults;
		zd_hist_add(&run->server.stats.latency, FAULT_NS, faults);
		advise(run, (s + 1) * SECOND);
	}
}

static void begin(struct run *run)
{
	memset(run, 0, sizeof(*run));
	run->opt.argv = argv;
	run->tiers[0].dev = dev;
	run->nr_tiers = 1;
	run->server.resident = (64 << 20) / ZD_PAGE_SIZE;
	advise(run, 1);
	nr_told = 0;
	zd_set_log(take, NULL);
}

static void thrashes(void **state)
{
	static struct run run;

	(void)state;
	begin(&run);
	live(&run, 1, 3 * WINDOW_S, 11000);	/* 0.55 s of each second */
	assert_int_equal(nr_told, 1);
	assert_string_equal(told, "sort waits for pages most of the time (11000 a second): "
				  "all that it has now would fit with --ram 69M");
	live(&run, 31, 3 * WINDOW_S, 20000);
	assert_int_equal(nr_told, 1);		/* once */
}

static void is_busy(void **state)
{
	static struct run run;

	(void)state;
	begin(&run);
	live(&run, 1, 3 * WINDOW_S, 9000);	/* 0.45 s */
	assert_int_equal(nr_told, 0);
	/* a moment of it isn't most of the time */
	live(&run, 31, 4, 11000);
	live(&run, 35, 2 * WINDOW_S, 0);
	assert_int_equal(nr_told, 0);
	live(&run, 55, 2 * WINDOW_S, 11000);
	assert_int_equal(nr_told, 1);
}

static int open_device(void **state)
{
	char err[128];

	(void)state;
	return zd_device_open_spec("ram:size=2M", &dev, err, sizeof(err));
}

static int close_device(void **state)
{
	(void)state;
	zd_set_log(NULL, NULL);
	zd_device_unregister(dev);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thrashes),
		cmocka_unit_test(is_busy),
	};

	return cmocka_run_group_tests(tests, open_device, close_device);
}
