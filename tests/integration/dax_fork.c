/* SPDX-License-Identifier: MIT */
/*
 * What a forked child has of a region: the mappings, as memory; not the handles,
 * not the region's own mapping; and what the parent does later doesn't change the child's.
 */
#include "tests/integration/p2p_test.h"

#define N	16

static struct zd_dax *dax;
static struct zd_dax_mapping *inherited, *kept;
static struct zd_mm *mm;
static struct zd_p2pdma *provider;
static void *base, *lent;
static int to_child[2], to_parent[2];

static void wait_byte(int fd)
{
	char c;

	CHECK_EQ(read(fd, &c, 1), 1);
}

static void send_byte(int fd)
{
	CHECK_EQ(write(fd, "x", 1), 1);
}

/* Is the address mapped in this process? */
static bool is_mapped(const void *addr)
{
	unsigned char vec;

	return !mincore((void *)addr, PAGE, &vec);
}

static void child(void *arg)
{
	char *mem = zd_dax_mapping_addr(inherited);
	struct zd_dax_mapping *none;
	struct zd_page *page;
	void *mem2;

	(void)arg;
	close(to_child[1]);
	CHECK_FILLED(mem, N, 1);
	CHECK(!is_mapped(zd_dax_mapping_addr(kept)));
	CHECK(!is_mapped(base));
	CHECK_EQ(zd_dax_mmap(dax, NULL, NULL, 0, PAGE, PROT_READ, 0, &none), -EINVAL);
	CHECK_EQ(zd_dax_revoke(dax), -EINVAL);
	CHECK_EQ(zd_dax_munmap(inherited), -EINVAL);
	CHECK_EQ(zd_dax_direct_access(dax, 0, 1, NULL, NULL), -EINVAL);
	CHECK_EQ(zd_dax_close(dax), -EINVAL);
	CHECK_EQ(zd_alloc_p2pmem(provider, PAGE, &mem2), -EINVAL);
	CHECK_EQ(zd_p2pdma_mmap(provider, NULL, lent, PAGE, PROT_READ, 0, &none), -EINVAL);
	page = zd_p2pmem_page(provider, lent);
	CHECK_EQ(zd_p2pdma_copy(&page, &page, 1, NULL), -EINVAL);
	zd_free_p2pmem(provider, lent, PAGE);
	CHECK_EQ(zd_page_count(page), 1);
	CHECK_EQ(zd_p2pdma_remove(provider), -EINVAL);
	CHECK_EQ(zd_pin_user_pages_fast(mm, mem + 5 * PAGE, 1, 0, &page), -EINVAL);

	fill(mem, N, 2);
	send_byte(to_parent[1]);
	wait_byte(to_child[0]);
	/* the parent has revoked its mapping; the child's shows the file as it is now */
	CHECK_FILLED(mem, N, 3);
	CHECK(!munmap(mem, N * PAGE));
}

int main(void)
{
	int fd = new_memfd(N * PAGE);
	struct zd_dax_mapping *again;
	struct zd_page *page;
	zd_pfn_t pfn;
	pid_t pid;

	CHECK(!pipe(to_child) && !pipe(to_parent));
	dax = open_dax(fd, 0);
	mm = open_mm();
	inherited = map_all(dax, mm, 0);
	kept = map_all(dax, NULL, ZD_DAX_DONTFORK | ZD_DAX_POPULATE);
	fill(zd_dax_mapping_addr(inherited), N, 1);
	CHECK_EQ(zd_dax_direct_access(dax, 0, 1, &base, &pfn), 1);
	zd_put_page(zd_pfn_to_page(pfn));
	CHECK_EQ(zd_pin_user_pages_fast(mm, zd_dax_mapping_addr(inherited), 1, 0, &page), 1);

	provider = provider_of(fd, N);
	lent = alloc_p2p(provider, 1);

	pid = child_start(child, NULL);
	close(to_parent[1]);	/* so that the child's death is seen */
	wait_byte(to_parent[0]);
	CHECK_FILLED(zd_dax_mapping_addr(inherited), N, 2);
	/* the child's attempts have changed nothing here */
	CHECK_EQ(zd_page_count(page), ZD_PIN_BIAS + 1);
	CHECK_EQ(zd_dax_revoke(dax), 0);
	again = map_all(dax, NULL, 0);
	fill(zd_dax_mapping_addr(again), N, 3);
	send_byte(to_child[1]);
	child_ok(pid);

	CHECK_FILLED(zd_dax_mapping_addr(again), N, 3);
	CHECK_EQ(live_pages(dax), 1);
	zd_unpin_user_page(page);
	zd_free_p2pmem(provider, lent, PAGE);
	CHECK_EQ(zd_p2pdma_remove(provider), 0);
	CHECK_EQ(zd_dax_munmap(inherited), 0);
	CHECK_EQ(zd_dax_munmap(kept), 0);
	CHECK_EQ(zd_dax_munmap(again), 0);
	CHECK_EQ(zd_dax_close(dax), 0);
	CHECK_EQ(zd_mm_close(mm), 0);
	close(fd);
	return 0;
}
