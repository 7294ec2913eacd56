/* SPDX-License-Identifier: MIT */
/* CRC-32C: the published value, and the same with and without the CPU's instruction. */
#include "unit_test.h"

#include "drivers/media/crc32c.h"

static void test_known(void **state)
{
	char zeros[32] = "";

	(void)state;
	assert_int_equal(zd_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(zd_crc32c_plain(0, "123456789", 9), 0xe3069283);
	assert_int_equal(zd_crc32c(0, zeros, 32), 0x8a9136aa);
	/* in two pieces */
	assert_int_equal(zd_crc32c(zd_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void test_same(void **state)
{
	static unsigned char buf[4096 + 8];
	uint32_t seed = test_seed() | 1;

	(void)state;
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = test_rand(&seed);
	for (size_t len = 0; len < 300; len++)
		assert_int_equal(zd_crc32c(len, buf + len % 8, len),
				 zd_crc32c_plain(len, buf + len % 8, len));
	for (size_t len = 32; len <= 4096; len *= 2)
		assert_int_equal(zd_crc32c_x4(buf + 3, len), zd_crc32c_x4_plain(buf + 3, len));
	/* each bit counts */
	for (int i = 0; i < 1000; i++) {
		uint32_t bit = test_rand(&seed) % (4096 * 8), before = zd_crc32c_x4(buf, 4096);

		buf[bit / 8] ^= 1 << bit % 8;
		assert_int_not_equal(zd_crc32c_x4(buf, 4096), before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
