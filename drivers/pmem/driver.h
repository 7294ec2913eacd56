/* SPDX-License-Identifier: MIT */
#ifndef ZD_DRIVERS_PMEM_DRIVER_H
#define ZD_DRIVERS_PMEM_DRIVER_H

#include "drivers/driver.h"
#include "zonedev/pmem.h"

/* zd_pmem_attr_by_values - the attributes of a region that was named on the command line
 * (struct zd_spec of zd_pmem_driver). */
void zd_pmem_attr_by_values(struct zd_pmem_attr *attr, const struct zd_driver_value *values);

#endif
