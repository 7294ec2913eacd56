/* SPDX-License-Identifier: MIT */
/* base_static_key_dl.c loads and unloads this. */
#include <zonedev/static_key.h>

ZD_STATIC_KEY_MODULE;
ZD_DECLARE_STATIC_KEY(program_key);

bool so_is_on(void);
bool so_is_on(void)
{
	return zd_static_branch_unlikely(program_key);
}

const void *so_is_on_site(void);
const void *so_is_on_site(void)
{
	const struct zd_jump_entry *e = __start_zd_jump_table;

	return (const char *)&e->code + e->code;
}
