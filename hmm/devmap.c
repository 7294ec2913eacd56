/* SPDX-License-Identifier: MIT */
/* Device mappings; see devmap.h. */
#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/changes.h"
#include "hmm/devmap.h"
#include "hmm/hmm.h"
#include "zonedev/log.h"

#define CHUNK		512u	/* entries of one bit of ->touched */
#define CHUNK_BYTES	(CHUNK * ZD_PAGE_SIZE)

struct reserve_cmd {
	struct zd_cmd cmd;
	uint64_t start, end;
};

static enum zd_cmd_result reserve_step(struct zd_hmm *hmm, struct zd_cmd *cmd)
{
	struct reserve_cmd *c = caa_container_of(cmd, struct reserve_cmd, cmd);

	/* the addresses may be those of a range whose unmapping is still to be read: what
	 * its entries hold must go before we write them, and its event find none */
	if (!zd_mm_catch_up(hmm->mm))
		return ZD_CMD_AGAIN;
	cmd->rc = zd_table_reserve(&hmm->mm->table, c->start, c->end);
	return ZD_CMD_DONE;
}

/* The table's arrays are the server's to add. */
static int reserve(struct zd_devmap *map)
{
	struct reserve_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = reserve_step;
	c->start = map->start;
	c->end = map->end;
	rc = zd_hmm_call(zd_hmm_of(map->mm), &c->cmd);
	zd_free(c);
	return rc;
}

static uint64_t nr_chunks(const struct zd_devmap *map)
{
	return (map->end - map->start + CHUNK_BYTES - 1) / CHUNK_BYTES;
}

int zd_devmap_add(struct zd_devmap *map)
{
	struct zd_mm *mm = map->mm;
	int rc = reserve(map);

	if (rc)
		return rc;
	map->touched = zd_alloc((nr_chunks(map) + 63) / 64 * sizeof(*map->touched));
	if (!map->touched)
		return -ENOMEM;
	zd_mutex_lock(&mm->devmap_lock);
	map->next = mm->devmaps;
	__atomic_store_n(&mm->devmaps, map, __ATOMIC_RELAXED);
	zd_mutex_unlock(&mm->devmap_lock);
	return 0;
}

/* GUP doesn't find it any more.  zd_mm_close() still does, until nothing of it is left. */
static void hide_map(struct zd_devmap *map)
{
	zd_mutex_lock(&map->mm->devmap_lock);
	map->dying = true;
	zd_mutex_unlock(&map->mm->devmap_lock);
}

static void unlink_map(struct zd_devmap *map)
{
	struct zd_devmap **link;

	zd_mutex_lock(&map->mm->devmap_lock);
	for (link = &map->mm->devmaps; *link != map; link = &(*link)->next)
		;
	__atomic_store_n(link, map->next, __ATOMIC_RELAXED);
	zd_mutex_unlock(&map->mm->devmap_lock);
}

static void drop_chunk(struct zd_devmap *map, uint64_t chunk)
{
	uint64_t addr = map->start + chunk * CHUNK_BYTES, end = addr + CHUNK_BYTES;

	for (; addr < end && addr < map->end; addr += ZD_PAGE_SIZE) {
		zd_entry_t *entry = zd_mm_entry(map->mm, addr), e = *entry;

		if (!e)
			continue;
		/* entry first, count second: pairs with GUP's second look */
		zd_entry_store(entry, 0);
		zd_put_page(zd_pfn_to_page(zd_entry_val(e)));
	}
}

void zd_devmap_remove(struct zd_devmap *map)
{
	uint64_t words = (nr_chunks(map) + 63) / 64;
	bool any = false;

	hide_map(map);
	zd_mutex_lock(&map->lock);
	for (uint64_t w = 0; w < words; w++) {
		any |= map->touched[w] != 0;
		for (uint64_t bits = map->touched[w]; bits; bits &= bits - 1)
			drop_chunk(map, w * 64 + __builtin_ctzll(bits));
	}
	if (any)
		zd_table_trim(&map->mm->table, map->start, map->end);
	zd_mutex_unlock(&map->lock);
	zd_free(map->touched);
	map->touched = NULL;
	unlink_map(map);
}

/* The mapping around @addr, locked, or NULL. */
static struct zd_devmap *find_locked(struct zd_mm *mm, uint64_t addr)
{
	struct zd_devmap *map;

	zd_mutex_lock(&mm->devmap_lock);
	for (map = mm->devmaps; map; map = map->next)
		if (!map->dying && addr >= map->start && addr < map->end)
			break;
	if (map)
		zd_mutex_lock(&map->lock);
	zd_mutex_unlock(&mm->devmap_lock);
	return map;
}

static int install_one(struct zd_devmap *map, uint64_t addr)
{
	zd_entry_t *entry = zd_mm_entry(map->mm, addr);
	uint64_t index = (addr - map->start) / ZD_PAGE_SIZE;
	int rc;

	if (*entry)
		return zd_page_is_full(zd_pfn_to_page(zd_entry_val(*entry))) ? -ENOMEM : 0;
	rc = map->hold(map, zd_pfn_to_page(map->pfn + index));
	if (rc)
		return rc;
	map->touched[index / CHUNK / 64] |= UINT64_C(1) << (index / CHUNK % 64);
	/* release: who reads the pfn sees the count; pairs with the acquire in
	 * GUP's walk */
	zd_entry_store(entry, zd_entry_dax(map->pfn + index, map->refuse));
	return 0;
}

int zd_devmap_install(struct zd_mm *mm, uint64_t start, uint64_t end, zd_entry_t refuse)
{
	struct zd_devmap *map;
	int rc = 0;

	if (!__atomic_load_n(&mm->devmaps, __ATOMIC_RELAXED))
		return -ENOENT;
	/* the locks may be held by a thread that a child doesn't have */
	if (!zd_is_this_process(&zd_hmm_of(mm)->process)) {
		zd_warn_once("a zd_mm belongs to the process that opened it, not to its children");
		return -EINVAL;
	}
	map = find_locked(mm, start);
	if (!map)
		return -ENOENT;
	if (map->refuse & refuse)
		rc = map->refuse & refuse & ZD_ENTRY_NOLONG ? -EOPNOTSUPP : -EFAULT;
	for (uint64_t a = start; !rc && a < end && a < map->end; a += ZD_PAGE_SIZE) {
		rc = install_one(map, a);
		if (rc && a > start) {	/* the caller comes back for it */
			rc = 0;
			break;
		}
	}
	zd_mutex_unlock(&map->lock);
	return rc;
}

bool zd_devmap_overlaps(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	struct zd_devmap *map;

	zd_mutex_lock(&mm->devmap_lock);
	for (map = mm->devmaps; map; map = map->next)
		if (map->start < end && map->end > start)
			break;
	zd_mutex_unlock(&mm->devmap_lock);
	return map;
}
