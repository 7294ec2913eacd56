/* SPDX-License-Identifier: MIT */
/* Values of a driver's keys: what each type takes, what it refuses and in which words. */
#include "drivers_common.h"

#include "drivers/registry/registry.h"
#include "drivers/registry/value.h"

static const char *const modes[] = { "fast", "small", NULL };

static const struct zd_driver_key size = { .name = "size", .type = ZD_KEY_SIZE, .max = 8 << 20 };
static const struct zd_driver_key max = { .name = "max",
					  .type = ZD_KEY_SIZE_OR_PERCENT,
					  .min = 2 << 20 };
static const struct zd_driver_key number = {
	.name = "level", .type = ZD_KEY_NUMBER, .min = 1, .max = 12
};
static const struct zd_driver_key any = { .name = "seed", .type = ZD_KEY_NUMBER };
static const struct zd_driver_key timeout = {
	.name = "timeout", .type = ZD_KEY_TIME, .min = 500, .max = 7200000
};
static const struct zd_driver_key mode = { .name = "mode",
					   .type = ZD_KEY_CHOICE,
					   .choices = modes };
static const struct zd_driver_key text = { .name = "host", .type = ZD_KEY_TEXT };

static void takes(const struct zd_driver_key *key, const char *given, uint64_t want, bool percent)
{
	struct zd_driver_value value = { .text = "of before" };
	char err[256] = "";

	if (zd_value_parse(key, given, &value, err, sizeof(err)))
		fail_msg("%s=%s: %s", key->name, given, err);
	assert_true(value.given);
	assert_int_equal(value.number, want);
	assert_int_equal(value.percent, percent);
	if (key->type != ZD_KEY_CHOICE)
		assert_null(value.text);
}

static void refuses(const struct zd_driver_key *key, const char *given, int ret, const char *want)
{
	struct zd_driver_value value;
	char err[256] = "";

	assert_int_equal(zd_value_parse(key, given, &value, err, sizeof(err)), ret);
	assert_string_equal(err, want);
	assert_int_equal(zd_value_parse(key, given, &value, NULL, 0), ret);
}

static void sizes(void **state)
{
	(void)state;
	takes(&size, "8M", 8 << 20, false);
	refuses(&size, "8193k", -EINVAL, "size=8193k is too large: give 8M or less");
	takes(&max, "2M", 2 << 20, false);
	takes(&max, "1%", 1, true);
	takes(&max, "100%", 100, true);
	refuses(&max, "0%", -EINVAL, "max=0% is no percentage: give 1% to 100%");
	refuses(&max, "101%", -EINVAL, "max=101% is no percentage: give 1% to 100%");
	refuses(&max, "1.5%", -EINVAL, "max=1.5% is no percentage: give 1% to 100%");
	refuses(&max, "%", -EINVAL, "max=% is no percentage: give 1% to 100%");
	refuses(&max, "5%%", -EINVAL, "max=5%% is no percentage: give 1% to 100%");
	refuses(&max, "1M", -EINVAL, "max=1M is too small: give 2M or more");
	refuses(&max, "half", -EINVAL,
		"max=half is not a size: write a number and K, M, G or T (of 1024), as in max=8G, or a percentage, as in max=25%");
}

static void numbers(void **state)
{
	(void)state;
	takes(&number, "1", 1, false);
	takes(&number, "012", 12, false);
	refuses(&number, "0", -EINVAL, "level=0 is too small: give 1 or more");
	refuses(&number, "13", -EINVAL, "level=13 is too large: give 12 or less");
	refuses(&number, "99999999999999999999", -ERANGE,
		"level=99999999999999999999 is too large: give 12 or less");
	refuses(&number, "", -EINVAL, "level= is not a whole number: give one, 1 to 12");
	refuses(&number, "-1", -EINVAL, "level=-1 is not a whole number: give one, 1 to 12");
	refuses(&number, "1k", -EINVAL, "level=1k is not a whole number: give one, 1 to 12");
	takes(&any, "18446744073709551615", UINT64_MAX, false);
	refuses(&any, "18446744073709551616", -ERANGE,
		"seed=18446744073709551616 is too large: give 18446744073709551615 or less");
	refuses(&any, "x", -EINVAL, "seed=x is not a whole number: give one");
}

static void times(void **state)
{
	(void)state;
	takes(&timeout, "500ms", 500, false);
	takes(&timeout, "30s", 30000, false);
	takes(&timeout, "2m", 120000, false);
	takes(&timeout, "2h", 7200000, false);
	refuses(&timeout, "499ms", -EINVAL, "timeout=499ms is too small: give 500ms or more");
	refuses(&timeout, "0s", -EINVAL, "timeout=0s is too small: give 500ms or more");
	refuses(&timeout, "121m", -EINVAL, "timeout=121m is too large: give 2h or less");
	refuses(&timeout, "30", -EINVAL,
		"timeout=30 is not a time: write a number and ms, s, m or h, as in timeout=30s");
	refuses(&timeout, "s", -EINVAL,
		"timeout=s is not a time: write a number and ms, s, m or h, as in timeout=30s");
	refuses(&timeout, "1.5s", -EINVAL,
		"timeout=1.5s is not a time: write a number and ms, s, m or h, as in timeout=30s");
	refuses(&timeout, "18446744073709551615s", -ERANGE,
		"timeout=18446744073709551615s is too long: give a shorter time");
	refuses(&timeout, "99999999999999999999ms", -ERANGE,
		"timeout=99999999999999999999ms is too long: give a shorter time");
}

static void words(void **state)
{
	struct zd_driver_value value;

	(void)state;
	takes(&mode, "fast", 0, false);
	takes(&mode, "small", 1, false);
	refuses(&mode, "smal", -EINVAL, "mode=smal: write mode=fast or mode=small");
	refuses(&mode, "", -EINVAL, "mode=: write mode=fast or mode=small");
	assert_int_equal(zd_value_parse(&text, "a=b//c", &value, NULL, 0), 0);
	assert_string_equal(value.text, "a=b//c");
	refuses(&text, "", -EINVAL, "host= is empty: give it a value");
}

/* How a driver with such keys is written. */
static void usage(void **state)
{
	static const struct zd_driver_key uri[] = {
		{ .name = "uri", .type = ZD_KEY_TEXT },
		{ .name = "timeout", .type = ZD_KEY_TIME, .without = "30s" },
		{ .name = "host", .type = ZD_KEY_TEXT },
		{ .name = "mode", .type = ZD_KEY_CHOICE, .without = "fast", .choices = modes },
		{ 0 }
	};
	static const struct zd_driver_key loose[] = {
		{ .name = "level", .type = ZD_KEY_NUMBER, .without = "1" },
		{ .name = "max", .type = ZD_KEY_SIZE_OR_PERCENT, .without = "25%" },
		{ 0 }
	};
	static const struct zd_driver a = { .name = "a", .keys = uri };
	static const struct zd_driver b = { .name = "b", .keys = loose };
	char buf[256];

	(void)state;
	zd_driver_usage(&a, ZD_USAGE_FULL, buf, sizeof(buf));
	assert_string_equal(buf, "a:URI[,timeout=TIME],host=TEXT[,mode=fast|small]");
	zd_driver_usage(&a, ZD_USAGE_SHORT, buf, sizeof(buf));
	assert_string_equal(buf, "a:URI,host=TEXT");
	zd_driver_usage(&b, ZD_USAGE_FULL, buf, sizeof(buf));
	assert_string_equal(buf, "b[:level=N][,max=SIZE|PERCENT]");
	zd_driver_usage(&b, ZD_USAGE_SHORT, buf, sizeof(buf));
	assert_string_equal(buf, "b:max=SIZE|PERCENT");
	zd_driver_usage(&a, ZD_USAGE_FULL, buf, 12);
	assert_string_equal(buf, "a:URI[,time");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes), cmocka_unit_test(numbers), cmocka_unit_test(times),
		cmocka_unit_test(words), cmocka_unit_test(usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
