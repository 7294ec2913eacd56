/* SPDX-License-Identifier: MIT */
/* drivers/registry/value.h - a key's value as a user writes it. */
#ifndef ZD_DRIVERS_REGISTRY_VALUE_H
#define ZD_DRIVERS_REGISTRY_VALUE_H

#include "drivers/driver.h"

/*
 * zd_value_parse - @text, of @key, in @value; which refers to @text if the key's value is one.
 * 0; or -EINVAL or -ERANGE, and one line in @err that says what to write.  Any context.
 */
int zd_value_parse(const struct zd_driver_key *key, const char *text, struct zd_driver_value *value,
		   char *err, size_t errlen);

/* zd_value_format - a number of the key's, as in its @min and @max: "2M", "500ms", "16".
 * Returns @buf.  Any context. */
const char *zd_value_format(const struct zd_driver_key *key, uint64_t number, char *buf,
			    size_t len);

#endif
