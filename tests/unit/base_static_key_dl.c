/* SPDX-License-Identifier: MIT */
/* A key of the program's, branched on by a shared object that comes and goes. */
#include <dlfcn.h>

#include "unit_test.h"
#include "zonedev/static_key.h"

ZD_DEFINE_STATIC_KEY(program_key);
ZD_STATIC_KEY_MODULE;

static bool is_on(void)
{
	return zd_static_branch_unlikely(program_key);
}

struct so {
	void *handle;
	bool (*is_on)(void);
	const void *(*site)(void);
};

static void so_load(struct so *so)
{
	so->handle = dlopen(getenv("ZD_STATIC_KEY_SO"), RTLD_NOW | RTLD_LOCAL);
	if (!so->handle)
		fail_msg("%s", dlerror());
	*(void **)&so->is_on = dlsym(so->handle, "so_is_on");
	*(void **)&so->site = dlsym(so->handle, "so_is_on_site");
	assert_non_null(so->is_on);
	assert_non_null(so->site);
}

static bool so_site_is_nop(const struct so *so)
{
#if defined(__x86_64__)
	return !memcmp(so->site(), "\x0f\x1f\x44\x00\x00", 5);
#else
	return !memcmp(so->site(), "\x1f\x20\x03\xd5", 4);
#endif
}

static void test_module(void **state)
{
	struct so so;

	(void)state;
	for (int i = 0; i < 3; i++) {
		/* Loaded while the key is off... */
		so_load(&so);
		assert_true(so_site_is_nop(&so));
		assert_false(so.is_on());
		assert_int_equal(zd_static_branch_inc(&program_key), 0);
		assert_false(so_site_is_nop(&so));
		assert_true(so.is_on());
		assert_true(is_on());
		assert_int_equal(dlclose(so.handle), 0);

		/* ...and while it is on; and gone while it changes. */
		so_load(&so);
		assert_true(so.is_on());
		assert_int_equal(zd_static_branch_dec(&program_key), 0);
		assert_true(so_site_is_nop(&so));
		assert_false(so.is_on());
		assert_int_equal(dlclose(so.handle), 0);
		assert_int_equal(zd_static_branch_inc(&program_key), 0);
		assert_int_equal(zd_static_branch_dec(&program_key), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_module) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
