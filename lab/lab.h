/* SPDX-License-Identifier: MIT */
/*
 * One interface for the thread's ways to count references to device pages.  A
 * protocol's header defines lab_page and the inline functions; lab_device_* is in
 * kmodel.c (a to e) or in f.c.
 *
 *	lab_get(page)		one more reference, by a holder of the page
 *	lab_put(page)		drop one
 *	lab_lookup(page)	get_user_pages_fast(): a reference by a thread that has
 *				none, with all that protects the lookup
 *	lab_lookup_page(page)	what lab_lookup() takes of the page itself
 */
#ifndef LAB_H
#define LAB_H

#include <stdbool.h>
#include <stdint.h>

#include LAB_PROTOCOL

extern const char *const lab_title;

/* A page of RAM, live, never freed. */
lab_page *lab_ram_page(unsigned int i);

/* A device with @nr pages appears; one at a time. */
int lab_device_add(unsigned int nr);
lab_page *lab_device_page(unsigned int i);
/* The driver gives its page @i to a user, whose reference it is. */
int lab_device_use(unsigned int i);
/* How often the driver heard that page @i is free. */
unsigned int lab_device_freed(unsigned int i);

/*
 * Take the device away, in the protocol's own order, waiting at most @ms for
 * those that hold its pages.  true: it is gone, with its descriptors.  false:
 * still held; call again to go on.
 */
bool lab_device_remove(unsigned int ms);
/* The same with the wait before anything is released, which is what the patch's
 * "requires some care" is about: does it end, when nobody uses a page? */
bool lab_device_remove_wait_first(unsigned int ms);

#endif
