/* SPDX-License-Identifier: MIT */
#ifndef RUN_CLOSE_H
#define RUN_CLOSE_H

struct zd_device;

/* close_device - unregister a device of which no page is live.  May block as long as the driver's
 * ->destroy does: after 10 s that is said. */
void close_device(struct zd_device *dev);

#endif
