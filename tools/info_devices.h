/* SPDX-License-Identifier: MIT */
/* What `zonedev info --devices` prints on standard output. */
#ifndef ZD_TOOLS_INFO_DEVICES_H
#define ZD_TOOLS_INFO_DEVICES_H

void info_devices_text(void);
/* 0 or -ENOMEM. */
int info_devices_json(void);

#endif
