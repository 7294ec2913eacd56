/* SPDX-License-Identifier: MIT */
/* Device vmas; see device_vma.h. */
#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/changes.h"
#include "hmm/device_vma.h"
#include "hmm/gup.h"
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

	/* The addresses may be those of a managed range whose unmapping is still to be read.
	 * Its event must have dropped what the entries hold before a thread sets them anew. */
	if (!zd_mm_catch_up(hmm->mm))
		return ZD_CMD_AGAIN;
	cmd->rc = zd_table_reserve(&hmm->mm->table, c->start, c->end);
	return ZD_CMD_DONE;
}

/* Only the server's thread may add arrays to the table.  Blocks for it. */
static int reserve(struct zd_device_vma *vma)
{
	struct reserve_cmd *c = zd_alloc(sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->cmd.step = reserve_step;
	c->start = vma->start;
	c->end = vma->end;
	rc = zd_hmm_call(vma->hmm, &c->cmd);
	zd_free(c);
	return rc;
}

static uint64_t nr_chunks(const struct zd_device_vma *vma)
{
	return (vma->end - vma->start + CHUNK_BYTES - 1) / CHUNK_BYTES;
}

int zd_device_vma_add(struct zd_device_vma *vma)
{
	struct zd_hmm *hmm = zd_hmm_of(vma->mm);
	int rc;

	vma->hmm = hmm;
	rc = reserve(vma);
	if (rc)
		return rc;
	vma->touched = zd_alloc((nr_chunks(vma) + 63) / 64 * sizeof(*vma->touched));
	if (!vma->touched)
		return -ENOMEM;
	zd_mutex_lock(&hmm->device_vma_lock);
	vma->next = hmm->device_vmas;
	__atomic_store_n(&hmm->device_vmas, vma, __ATOMIC_RELAXED);
	zd_mutex_unlock(&hmm->device_vma_lock);
	return 0;
}

/* GUP doesn't find the vma any more.  zd_mm_close() still does, until nothing is left of it. */
static void hide_vma(struct zd_device_vma *vma)
{
	zd_mutex_lock(&vma->hmm->device_vma_lock);
	vma->dying = true;
	zd_mutex_unlock(&vma->hmm->device_vma_lock);
}

static void unlink_vma(struct zd_device_vma *vma)
{
	struct zd_device_vma **link;

	zd_mutex_lock(&vma->hmm->device_vma_lock);
	for (link = &vma->hmm->device_vmas; *link != vma; link = &(*link)->next)
		;
	__atomic_store_n(link, vma->next, __ATOMIC_RELAXED);
	zd_mutex_unlock(&vma->hmm->device_vma_lock);
}

/* Under vma->lock. */
static void drop_chunk(struct zd_device_vma *vma, uint64_t chunk)
{
	uint64_t addr = vma->start + chunk * CHUNK_BYTES, end = addr + CHUNK_BYTES;

	for (; addr < end && addr < vma->end; addr += ZD_PAGE_SIZE) {
		zd_entry_t *entry = zd_mm_entry(vma->mm, addr), e = *entry;

		if (!e)
			continue;
		/* entry first, count second: pairs with the second look in walk_one() */
		zd_entry_store(entry, 0);
		zd_put_page(zd_pfn_to_page(zd_entry_val(e)));
	}
}

void zd_device_vma_remove(struct zd_device_vma *vma)
{
	uint64_t words = (nr_chunks(vma) + 63) / 64;
	bool any = false;

	hide_vma(vma);
	zd_mutex_lock(&vma->lock);
	for (uint64_t w = 0; w < words; w++) {
		any |= vma->touched[w] != 0;
		for (uint64_t bits = vma->touched[w]; bits; bits &= bits - 1)
			drop_chunk(vma, w * 64 + __builtin_ctzll(bits));
	}
	if (any)
		zd_table_trim(&vma->mm->table, vma->start, vma->end);
	zd_mutex_unlock(&vma->lock);
	zd_free(vma->touched);
	vma->touched = NULL;
	unlink_vma(vma);
}

/* The vma around @addr, locked; or NULL. */
static struct zd_device_vma *find_locked(struct zd_hmm *hmm, uint64_t addr)
{
	struct zd_device_vma *vma;

	zd_mutex_lock(&hmm->device_vma_lock);
	for (vma = hmm->device_vmas; vma; vma = vma->next)
		if (!vma->dying && addr >= vma->start && addr < vma->end)
			break;
	if (vma)
		zd_mutex_lock(&vma->lock);
	zd_mutex_unlock(&hmm->device_vma_lock);
	return vma;
}

/* Under vma->lock. */
static int install_one(struct zd_device_vma *vma, uint64_t addr)
{
	zd_entry_t *entry = zd_mm_entry(vma->mm, addr);
	uint64_t index = (addr - vma->start) / ZD_PAGE_SIZE;
	int rc;

	if (*entry)
		return zd_page_is_full(zd_pfn_to_page(zd_entry_val(*entry))) ? -ENOMEM : 0;
	rc = vma->hold(vma, zd_pfn_to_page(vma->pfn + index));
	if (rc)
		return rc;
	vma->touched[index / CHUNK / 64] |= UINT64_C(1) << (index / CHUNK % 64);
	/* release: a thread that reads the pfn sees the count; pairs with the acquire in
	 * GUP's walk() */
	zd_entry_store(entry, zd_entry_dax(vma->pfn + index, vma->refuse));
	return 0;
}

int zd_device_vma_install(struct zd_mm *mm, uint64_t start, uint64_t end, zd_entry_t refuse)
{
	struct zd_hmm *hmm = zd_hmm_of(mm);
	struct zd_device_vma *vma;
	int rc = 0;

	if (!__atomic_load_n(&hmm->device_vmas, __ATOMIC_RELAXED))
		return -ENOENT;
	/* In a forked child a thread that the child doesn't have may hold the locks. */
	if (!zd_is_this_process(&hmm->process)) {
		zd_warn_once("a zd_mm belongs to the process that opened it, not to its children");
		return -EINVAL;
	}
	vma = find_locked(hmm, start);
	if (!vma)
		return -ENOENT;
	if (vma->refuse & refuse)
		rc = vma->refuse & refuse & ZD_ENTRY_NOLONG ? -EOPNOTSUPP : -EFAULT;
	for (uint64_t a = start; !rc && a < end && a < vma->end; a += ZD_PAGE_SIZE) {
		rc = install_one(vma, a);
		if (rc && a > start) {	/* the caller comes back for this page */
			rc = 0;
			break;
		}
	}
	zd_mutex_unlock(&vma->lock);
	return rc;
}

bool zd_device_vma_overlaps(struct zd_mm *mm, uint64_t start, uint64_t end)
{
	struct zd_hmm *hmm = zd_hmm_of(mm);
	struct zd_device_vma *vma;

	zd_mutex_lock(&hmm->device_vma_lock);
	for (vma = hmm->device_vmas; vma; vma = vma->next)
		if (vma->start < end && vma->end > start)
			break;
	zd_mutex_unlock(&hmm->device_vma_lock);
	return vma;
}
