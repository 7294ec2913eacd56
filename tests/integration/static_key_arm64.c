/* SPDX-License-Identifier: MIT */
/*
 * What static_key_arm64.sh runs on an arm64 that qemu makes: a key is switched on
 * and off, and what its branches are then.  argv[1]: are they patched here?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zonedev/static_key.h>

#define NOP	0xd503201fu
#define IS_B(w)	(((w) & 0xfc000000u) == 0x14000000u)

#define CHECK(cond)								\
	do {									\
		if (!(cond)) {							\
			fprintf(stderr, "%s:%d: FAILED: %s\n", __FILE__, __LINE__, #cond); \
			exit(1);						\
		}								\
	} while (0)

extern const struct zd_jump_entry __start_zd_jump_table[], __stop_zd_jump_table[];

/* base/fork.c's, which would bring all of core; nothing forks here */
uint32_t zd_fork_generation = 4;

ZD_DEFINE_STATIC_KEY(key);
ZD_DEFINE_STATIC_KEY(other_key);

static int hits;
__attribute__((noinline, cold)) static void hit(void)
{
	hits++;
}

__attribute__((noinline)) int plus_one(int x);
int plus_one(int x)
{
	if (zd_static_branch_unlikely(key))
		hit();
	return x + 1;
}

__attribute__((noinline)) int plus_two(int x);
int plus_two(int x)
{
	if (zd_static_branch_unlikely(other_key))
		hit();
	return x + 2;
}

static uint32_t site(const struct zd_static_key *k)
{
	for (const struct zd_jump_entry *e = __start_zd_jump_table; e < __stop_zd_jump_table; e++) {
		const char *code = (const char *)(uintptr_t)&e->code + e->code;

		if (e->key == k) {
			CHECK(((uintptr_t)code & 3) == 0);
			return *(const volatile uint32_t *)code;
		}
	}
	CHECK(!"no branch on the key");
}

int main(int argc, char **argv)
{
	bool patched = argc > 1 && !strcmp(argv[1], "patched");

	CHECK(zd_static_keys_patched() == patched);
	for (int i = 0; i < 100; i++) {
		CHECK(patched ? site(&key) == NOP : IS_B(site(&key)));
		CHECK(plus_one(1) == 2 && hits == i);
		CHECK(!zd_static_branch_inc(&key));
		CHECK(IS_B(site(&key)));
		CHECK(patched ? site(&other_key) == NOP : IS_B(site(&other_key)));
		CHECK(plus_one(1) == 2 && plus_two(1) == 3 && hits == i + 1);
		CHECK(!zd_static_branch_dec(&key));
		CHECK(plus_one(1) == 2 && hits == i + 1);
	}
	CHECK(patched ? site(&key) == NOP : IS_B(site(&key)));
	puts("DONE");
	return 0;
}
