/* SPDX-License-Identifier: MIT */
#include "drivers/place.h"

#include <sys/mman.h>

#include "zonedev/page.h"

#define HUGE_BYTES	(UINT64_C(2) << 20)

/* Reserve more than needed, and give back what lies around the part that fits. */
void *zd_reserve_place(uint64_t offset, uint64_t len, uint64_t align)
{
	uint64_t step = len >= HUGE_BYTES && align < HUGE_BYTES ? HUGE_BYTES : align;
	uint64_t more = len + step - ZD_PAGE_SIZE;
	char *room = mmap(NULL, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			  0);
	char *at;

	if (room == MAP_FAILED)
		return room;
	at = room + ((offset - (uintptr_t)room) & (step - 1));
	if (at > room)
		munmap(room, at - room);
	if (at + len < room + more)
		munmap(at + len, room + more - (at + len));
	return at;
}
