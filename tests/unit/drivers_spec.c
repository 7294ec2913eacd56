/* SPDX-License-Identifier: MIT */
/* Devices from the command line: what is refused, and in which words. */
#include "drivers_common.h"

#include <sys/stat.h>

#include "drivers/registry/registry.h"
#include "drivers/registry/spec.h"

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int ret;
		uint64_t bytes;
	} t[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "64M", 0, 64UL << 20 },
		{ "64m", 0, 64UL << 20 },
		{ "1k", 0, 1024 },
		{ "3G", 0, 3UL << 30 },
		{ "16T", 0, 16UL << 40 },
		{ "2P", 0, 2UL << 50 },
		{ "15E", 0, 15UL << 60 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "16E", -ERANGE, 0 },
		{ "20000000000000000000", -ERANGE, 0 },
		{ "99999999999999999999999M", -ERANGE, 0 },
		{ "17179869184G", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "M", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1.5G", 0, 3UL << 29 },
		{ "10MiB", 0, 10UL << 20 },
		{ "1gib", 0, 1UL << 30 },
		{ "0.5k", 0, 512 },
		{ "1.25KiB", 0, 1280 },
		{ "0.1G", 0, 107374182 },
		{ "1.00000000000000000000000000G", 0, 1UL << 30 },
		{ "15.9999999999999999999999E", 0, (15UL << 60) + ((1UL << 60) - 2) },
		{ "16.0E", -ERANGE, 0 },
		{ "1.5", -EINVAL, 0 },
		{ "1.", -EINVAL, 0 },
		{ "1.G", -EINVAL, 0 },
		{ ".5G", -EINVAL, 0 },
		{ "1..5G", -EINVAL, 0 },
		{ "1.5.5G", -EINVAL, 0 },
		{ "1,5G", -EINVAL, 0 },
		{ "1GB", -EINVAL, 0 },
		{ "1iB", -EINVAL, 0 },
		{ "1Gi", -EINVAL, 0 },
		{ "1GiBs", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1B", -EINVAL, 0 },
		{ "1\x0d", -EINVAL, 0 },
		{ "1+", -EINVAL, 0 },
		{ "1 K", -EINVAL, 0 },
		{ NULL, -EINVAL, 0 },
	};
	uint64_t bytes;
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		bytes = 12345;
		if (zd_parse_size(t[i].text, &bytes) != t[i].ret ||
		    bytes != (t[i].ret ? 12345 : t[i].bytes))
			fail_msg("'%s' gave %llu", t[i].text ? t[i].text : "NULL",
				 (unsigned long long)bytes);
	}
}

static char dir[] = "/var/tmp/zd-spec.XXXXXX";

/* @spec and @want: %s stands for the test's directory. */
static void refused(const char *spec, int ret, const char *want)
{
	unsigned int fds = count_fds();
	char text[8192], expect[8192], err[8192] = "";
	struct zd_device *dev = NULL;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), spec, dir);
	snprintf(expect, sizeof(expect), want, dir);
#pragma GCC diagnostic pop
	assert_int_equal(zd_device_open_spec(text, &dev, err, sizeof(err)), ret);
	assert_string_equal(err, expect);
	assert_null(dev);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(zd_device_open_spec(text, &dev, NULL, 0), ret);
}

/* The answer lists the drivers that there are. */
static void no_such_driver(const char *spec)
{
	char list[512], want[1024];

	zd_drivers_usage(ZD_DRIVER_RUN, ZD_USAGE_SHORT, " or ", list, sizeof(list));
	assert_non_null(strstr(list,
			       "ram:size=SIZE or file:PATH,size=SIZE or lz4:max=SIZE|PERCENT"));
	snprintf(want, sizeof(want), "'%s' is no device: use %s", spec, list);
	refused(spec, -EINVAL, want);
}

static void wrong_specs(void **state)
{
	char longpath[5000];

	(void)state;
	no_such_driver("");
	no_such_driver("floppy:size=1G");
	no_such_driver("ram1G");
	refused("ram", -EINVAL, "ram device: no size: write ram:size=1G");
	refused("ram:", -EINVAL, "ram device: no size: write ram:size=1G");
	refused("ram:1G", -EINVAL, "ram device: unknown option '1G': use size=SIZE");
	refused("ram:size=1G,", -EINVAL, "ram device: unknown option '': use size=SIZE");
	refused("ram:size=1G,force=on", -EINVAL,
		"ram device: unknown option 'force=on': use size=SIZE");
	refused("ram:size", -EINVAL, "ram device: unknown option 'size': use size=SIZE");
	refused("ram:size=", -EINVAL,
		"size= is not a size: write a number and K, M, G or T (of 1024), as in size=8G");
	refused("ram:size=-1G", -EINVAL,
		"size=-1G is not a size: write a number and K, M, G or T (of 1024), as in size=8G");
	refused("ram:size=1Gx", -EINVAL,
		"size=1Gx is not a size: write a number and K, M, G or T (of 1024), as in size=8G");
	refused("ram:size=99E", -ERANGE, "size=99E is too large: give less than 16E");
	refused("ram:size=2097151", -EINVAL, "size=2097151 is too small: give 2M or more");
	refused("ram:size=2M,size=4M", -EINVAL, "size is given twice: leave one out");
	refused("file", -EINVAL, "file device: no path: write file:/var/tmp/device,size=8G");
	refused("file:", -EINVAL, "file device: no path: write file:/var/tmp/device,size=8G");
	refused("file:,size=8G", -EINVAL,
		"file device: no path: write file:/var/tmp/device,size=8G");
	refused("file:size=8G", -EINVAL,
		"file device: no path: write file:/var/tmp/device,size=8G");
	refused("file:%s/x,siz=8G", -EINVAL,
		"file device: unknown option 'siz=8G': use size=SIZE or force=on (a comma in a path is written ,,)");
	refused("file:%s/x,force=yes", -EINVAL, "force=yes: write force=on or force=off");
	refused("file:%s/x,force=on,force=on", -EINVAL, "force is given twice: leave one out");
	memset(longpath, 'x', sizeof(longpath));
	memcpy(longpath, "file:", 5);
	longpath[sizeof(longpath) - 1] = '\0';
	refused(longpath, -ENAMETOOLONG, "file device: the path is too long: use a shorter one");
	memcpy(longpath, "ram:", 4);
	refused(longpath, -EINVAL, "an option of the device is too long: use size=SIZE");
}

static void wrong_files(void **state)
{
	char path[256];
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/full", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("my thesis", f);
	fclose(f);
	refused("file:%s/full,size=2M", -EEXIST,
		"%s/full holds data: name a new or empty file, or overwrite it with force=on");
	refused("file:%s/full,size=2M,force=off", -EEXIST,
		"%s/full holds data: name a new or empty file, or overwrite it with force=on");
	f = fopen(path, "r");
	assert_non_null(fgets(path, sizeof(path), f));
	fclose(f);
	assert_string_equal(path, "my thesis");		/* not touched */
	refused("pmem:%s/full,size=5000", -EINVAL,
		"size=5000 is not a multiple of 4096: give one, as in size=8G");
	refused("pmem:%s/full", -EINVAL,
		"%s/full has 9 bytes, which is not a multiple of 4096: use truncate -s %%4096");
	refused("pmem:%s/x,btt=on", -EINVAL,
		"pmem device: unknown option 'btt=on': use size=SIZE or force=on (a comma in a path is written ,,)");
	refused("dax:", -EINVAL, "dax device: no path: write dax:/dev/dax0.0");
	refused("file:%s,size=2M", -EISDIR, "%s is a directory: name a file in it");
	refused("file:%s/no/x,size=2M", -ENOENT,
		"%s/no/x: there is no such directory: make it or name another");
	refused("file:/dev/null,size=2M", -ENOTBLK,
		"/dev/null is neither a file nor a block device: name one");
	refused("file:%s/x,size=15E", -EFBIG,
		"%s/x: there is no room for size=17293822569102704640: give a smaller size");
}

static void right_specs(void **state)
{
	char spec[512], path[256], err[256];
	struct zd_device *dev;
	struct stat st;

	(void)state;
	assert_int_equal(zd_device_open_spec("ram:size=2M", &dev, err, sizeof(err)), 0);
	assert_int_equal(dev->nr_pages, 512);
	assert_int_equal(zd_device_unregister(dev), 0);

	assert_int_equal(zd_device_open_spec("lz4:max=2M,level=12", &dev, err, sizeof(err)), 0);
	assert_int_equal(dev->nr_pages, 16 * 512);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(zd_device_open_spec("lz4:max=10%", &dev, err, sizeof(err)), 0);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(zd_device_open_spec("lz4", &dev, err, sizeof(err)), 0);
	assert_int_equal(zd_device_unregister(dev), 0);

	snprintf(spec, sizeof(spec), "file:%s/a,,b,size=4M", dir);
	snprintf(path, sizeof(path), "%s/a,b", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(zd_device_open_spec(spec, &dev, err, sizeof(err)), 0);
	assert_int_equal(dev->nr_pages, 1024);
	assert_int_equal(stat(path, &st), 0);	/* that file, comma and all */
	assert_int_equal(st.st_size, 4 << 20);
	assert_int_equal(zd_device_unregister(dev), 0);
	assert_int_equal(unlink(path), 0);

	snprintf(spec, sizeof(spec), "file:%s/full,force=on,size=2M", dir);
	assert_int_equal(zd_device_open_spec(spec, &dev, err, sizeof(err)), 0);
	assert_int_equal(zd_device_unregister(dev), 0);

	/* No size: what there is room for. */
	snprintf(spec, sizeof(spec), "file:%s/new", dir);
	assert_int_equal(zd_device_open_spec(spec, &dev, err, sizeof(err)), 0);
	assert_true(dev->nr_pages > 512);
	assert_int_equal(zd_device_unregister(dev), 0);
}

static void refused_region(const char *text, int ret, const char *want)
{
	char err[512] = "";
	struct zd_spec spec;

	assert_int_equal(zd_spec_parse(text, ZD_DRIVER_SERVE, &spec, err, sizeof(err)), ret);
	assert_string_equal(err, want);
}

static void regions(void **state)
{
	struct zd_spec spec;

	(void)state;
	refused_region("ram:size=2M", -EINVAL,
		       "'ram:size=2M' is no region: use pmem:PATH,size=SIZE");
	refused_region("pmem:", -EINVAL,
		       "pmem region: no path: write pmem:/var/tmp/region,size=8G");
	refused_region("pmem:btt=on", -EINVAL,
		       "pmem region: no path: write pmem:/var/tmp/region,size=8G");
	refused_region(
		"pmem:x,force=on", -EINVAL,
		"pmem region: unknown option 'force=on': use size=SIZE or btt=on (a comma in a path is written ,,)");
	refused_region("pmem:x,size=5000", -EINVAL,
		       "size=5000 is not a multiple of 4096: give one, as in size=8G");
	refused_region("pmem:x,size=0", -EINVAL,
		       "size=0 is not a multiple of 4096: give one, as in size=8G");
	refused_region("pmem:x,btt=1", -EINVAL, "btt=1: write btt=on or btt=off");

	assert_int_equal(zd_spec_parse("pmem:a=,,b,btt=on,size=4k", ZD_DRIVER_SERVE, &spec, NULL,
				       0),
			 0);
	assert_ptr_equal(spec.driver, zd_driver_named("pmem", 4, ZD_DRIVER_SERVE));
	assert_string_equal(spec.values[0].text, "a=,b");
	assert_int_equal(spec.values[1].number, 4096);
	assert_int_equal(spec.values[2].number, 1);
	assert_int_equal(zd_spec_parse("pmem:x", ZD_DRIVER_SERVE, &spec, NULL, 0), 0);
	assert_false(spec.values[1].given);
	assert_int_equal(spec.values[2].number, 0);
}

/* A URI names its driver by itself, and ends at the first comma that stands alone. */
static void uris(void **state)
{
	const struct zd_driver *nbd = zd_driver_named("nbd", 3, ZD_DRIVER_RUN);
	struct zd_spec spec;

	(void)state;
	assert_int_equal(zd_spec_parse("nbds://h:1/a=b,,c,timeout=2m", ZD_DRIVER_RUN, &spec, NULL,
				       0),
			 0);
	assert_ptr_equal(spec.driver, nbd);
	assert_string_equal(spec.values[0].text, "nbds://h:1/a=b,c");
	assert_int_equal(zd_spec_parse("nbd:nbd+unix:///?socket=/s", ZD_DRIVER_RUN, &spec, NULL, 0),
			 0);
	assert_ptr_equal(spec.driver, nbd);
	assert_string_equal(spec.values[0].text, "nbd+unix:///?socket=/s");
	assert_int_equal(zd_spec_parse("nbd+unix:///?socket=/s", ZD_DRIVER_RUN, &spec, NULL, 0), 0);
	assert_string_equal(spec.values[0].text, "nbd+unix:///?socket=/s");
	assert_int_equal(zd_spec_parse("http://h/", ZD_DRIVER_RUN, &spec, NULL, 0), -EINVAL);
	assert_int_equal(zd_spec_parse("nbd://h", ZD_DRIVER_SERVE, &spec, NULL, 0), -EINVAL);
}

/* What the table's users rely on. */
static void registry(void **state)
{
	const struct zd_driver *driver;
	const struct zd_driver_key *key;
	unsigned int i;

	(void)state;
	for (i = 0; (driver = zd_driver_at(i)); i++) {
		assert_int_equal(driver->size, sizeof(*driver));
		assert_int_equal(driver->version, ZD_DRIVER_VERSION);
		assert_true(driver->commands);
		assert_false(driver->commands & ~(ZD_DRIVER_RUN | ZD_DRIVER_SERVE));
		assert_true(!(driver->commands & ZD_DRIVER_RUN) || driver->create);
		assert_ptr_equal(zd_driver_named(driver->name, strlen(driver->name),
						 driver->commands),
				 driver);
		assert_true(!driver->schemes || driver->keys[0].type == ZD_KEY_TEXT);
		assert_true(!zd_driver_first(driver) || !driver->keys[0].without);
		for (key = driver->keys; key->name; key++) {
			assert_non_null(key->help);
			assert_true(key->type != ZD_KEY_SWITCH || key->without);
			assert_true(key->type != ZD_KEY_CHOICE || key->choices);
		}
		assert_in_range(key - driver->keys, 1, ZD_DRIVER_MAX_KEYS);
	}
	assert_null(zd_driver_named("ra", 2, ZD_DRIVER_RUN));
	assert_null(zd_driver_named("", 0, ZD_DRIVER_RUN));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),       cmocka_unit_test(wrong_specs),
		cmocka_unit_test(wrong_files), cmocka_unit_test(right_specs),
		cmocka_unit_test(regions),     cmocka_unit_test(uris),
		cmocka_unit_test(registry),
	};
	char path[256];
	int ret;

	if (!mkdtemp(dir)) {
		puts("SKIP: /var/tmp is not writable");
		return 77;
	}
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(path, sizeof(path), "%s/full", dir);
	unlink(path);
	rmdir(dir);
	return ret;
}
