/* SPDX-License-Identifier: MIT */
/* What is registered for forks is called in each child, once, also if it was registered
 * twice; and a child registers what its parent hadn't. */
#include "tests/unit/unit_test.h"

#include <sys/wait.h>

#include "base/fork.h"

static int called, called_late;

static void in_child(void)
{
	called++;
}

static void late_in_child(void)
{
	called_late++;
}

static struct zd_fork_handler handler = { .child = in_child };
static struct zd_fork_handler late = { .child = late_in_child };

static bool ends_well(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void test_children(void **state)
{
	uint32_t generation = zd_fork_generation;
	pid_t pid;

	(void)state;
	zd_fork_register(&handler);
	zd_fork_register(&handler);
	pid = fork();
	if (!pid) {
		bool good = called == 1 && called_late == 0 && zd_fork_generation != generation;

		zd_fork_register(&handler);
		zd_fork_register(&late);
		zd_fork_register(&handler);
		pid = fork();
		if (!pid)
			_exit(called != 2 || called_late != 1);
		_exit(!ends_well(pid) || !good);
	}
	assert_true(ends_well(pid));
	assert_int_equal(called, 0);
	assert_int_equal(zd_fork_generation, generation);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_children),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
