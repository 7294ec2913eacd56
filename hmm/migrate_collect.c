/* SPDX-License-Identifier: MIT */
/* Which pages a migration may take, and in which batches.  The server's thread. */
#include "engine/ram_page.h"
#include "hmm/migrate.h"
#include "space/maps.h"

/* May the page of @entry, in RAM, be tried?  Takes its descriptor away, if it has one that
 * nothing holds. */
static bool may_leave(zd_entry_t *entry, uint64_t now)
{
	zd_entry_t e = *entry;

	if (zd_entry_state(e) == ZD_ENTRY_SYSTEM)
		return zd_ram_page_release(entry);
	return zd_entry_is_free(e, now) ||
	       (zd_entry_state(e) == ZD_ENTRY_PRESENT && !(e & ZD_ENTRY_LOCK));
}

/* May the huge page at @a leave as one: is all of it below @end, and none of it in @stay or
 * held? */
static bool whole_huge(struct zd_mm *mm, uint64_t a, uint64_t end, const struct zd_ranges *stay,
		       uint64_t now)
{
	uint64_t gap = a, gap_end;

	if (a & (ZD_STAGING_BYTES - 1) || a + ZD_STAGING_BYTES > end)
		return false;
	if (!zd_ranges_gap(stay, &gap, a + ZD_STAGING_BYTES, &gap_end) || gap != a ||
	    gap_end != a + ZD_STAGING_BYTES)
		return false;
	for (unsigned int i = 0; i < ZD_MIG_MAX; i++)
		if (!may_leave(zd_mm_entry(mm, a + i * ZD_PAGE_SIZE), now))
			return false;
	return true;
}

/* Count the page at @addr, which is resident and isn't taken; @stays: because of where it
 * is. */
static void count_not_taken(struct zd_mm *mm, uint64_t addr, bool stays,
			    struct zd_migrate_result *result)
{
	if (stays)
		result->protection++;
	else if (zd_entry_state(*zd_mm_entry(mm, addr)) == ZD_ENTRY_SYSTEM)
		result->pinned++;
	else
		result->busy++;
}

unsigned int zd_migrate_collect(struct zd_hmm *hmm, uint64_t *from, uint64_t end,
				const struct zd_ranges *stay, struct zd_migrate_result *result,
				uint64_t *addrs, bool *whole)
{
	struct zd_present present[64];
	unsigned int nr = 0;
	uint64_t pos = *from, now = zd_now_ns();
	int n = zd_present_scan(hmm->pagemap_fd, &pos, end, present, 64, ZD_MIG_MAX);

	*whole = false;
	for (int i = 0; i < n; i++) {
		for (uint64_t a = present[i].start; a < present[i].end; a += ZD_PAGE_SIZE) {
			bool huge = present[i].huge && whole_huge(hmm->mm, a, end, stay, now);
			bool stays = zd_ranges_find(stay, a);

			if (nr == ZD_MIG_MAX || (huge && nr))
				return nr;
			if (stays || !may_leave(zd_mm_entry(hmm->mm, a), now)) {
				if (nr)
					return nr;
				count_not_taken(hmm->mm, a, stays, result);
				*from = a + ZD_PAGE_SIZE;
				continue;
			}
			if (huge) {
				*whole = true;
				for (; nr < ZD_MIG_MAX; nr++)
					addrs[nr] = a + nr * ZD_PAGE_SIZE;
				return nr;
			}
			addrs[nr++] = a;
		}
	}
	if (!nr)
		*from = n < 0 ? end : pos;
	return nr;
}
