/* SPDX-License-Identifier: MIT */
/*
 * Evictions to a device that stalls, or is away: how much is on its way at a time, which faults
 * wait, what goes elsewhere.
 *
 * The server has no thread: its turns are the test's.  Time that has to pass is set back in what
 * the server has noted.
 */
#include "tests/integration/lib_gate.h"

#include "base/time.h"
#include "base/uapi.h"
#include "engine/evict.h"
#include "engine/exit.h"
#include "engine/fault.h"
#include "engine/mig.h"
#include "engine/poll.h"
#include "engine/server.h"
#include "engine/silence.h"
#include "engine/tier.h"
#include "hmm/hmm.h"
#include "hmm/mover_self.h"
#include "space/uffd.h"

#define MEM	4096u	/* pages, all resident at first */
#define LIMIT	2048u
#define RUN	64u
#define BATCH	256u	/* of evictions */

static struct zd_server server;
static struct zd_hmm hmm;
static struct zd_mm *mm;
static struct gate *g;
static char *mem;

static unsigned int nr_logged[3];
static const char *const line[3] = {
	"gate: hasn't answered for",
	"gate: can't be reached",
	"gate: can be reached again",
};

static void count_lines(enum zd_log_level level, const char *text, void *ctx)
{
	(void)level;
	(void)ctx;
	for (int i = 0; i < 3; i++)
		nr_logged[i] += strstr(text, line[i]) != NULL;
}

static void resync(struct zd_server *s)
{
	(void)s;
}

static void begin(void)
{
	static const struct zd_server_host host = { .resync = resync };
	int uffd = zd_uffd_open();

	CHECK_EQ(zd_uffd_api(uffd, ZD_UFFD_FEATURES), 0);
	CHECK_EQ(zd_server_init(&server, &host, NULL), 0);
	CHECK_EQ(zd_mm_create(&server, uffd, NULL, &mm), 0);
	mem = map(MEM);
	fill(mem, MEM, 1);
	CHECK_EQ(zd_mm_manage(mm, (uintptr_t)mem, (uintptr_t)mem + MEM * PAGE), 0);
	hmm.pagemap_fd = mm->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	mm->host_data = &hmm;
	CHECK_EQ(zd_mover_self_init(mm), 0);
	CHECK_EQ(zd_server_attach(&server, &g->dev), 0);
	server.track = true;
	for (unsigned int i = 0; i < MEM; i += RUN)
		CHECK_EQ(zd_mm_lru_add(mm, (uintptr_t)mem + i * PAGE, RUN, false), 0);
	server.resident = MEM;
	server.limit = LIMIT;
}

/* No thread is there to serve a fault: what is away isn't touched. */
static void end(void)
{
	gate_error(g, ZD_TO_DEVICE, 0);
	gate_open(g);
	while (!cds_list_empty(&server.migs))
		CHECK(zd_server_poll(&server, 0) >= 0);
	zd_mm_destroy(mm);
	CHECK_EQ(gate_used(g), 0);
	zd_server_destroy(&server);
	munmap(mem, MEM * PAGE);
	close(hmm.pagemap_fd);
}

static struct zd_reach *reach(void)
{
	return &server.tiers[0]->reach;
}

static void turns(unsigned int nr)
{
	while (nr--)
		CHECK(zd_server_poll(&server, 0) >= 0);
}

static void turns_until_evicted(void)
{
	WAIT_FOR((turns(1), server.resident <= LIMIT));
}

/* What is on its way lies in RAM: no more of it than the margin, but for the last batch. */
static void stalled(void)
{
	uint64_t most = zd_server_margin(&server) + BATCH, sent;
	struct zd_mig *mig;

	begin();
	gate_close(g);
	turns(100);
	sent = reach()->pages[ZD_TO_DEVICE];
	CHECK(sent && sent <= most);
	CHECK_EQ(server.resident, MEM - sent);
	/* at the limit faults wait for a device that works, not for one that has stalled */
	CHECK(zd_server_throttle(&server));
	reach()->heard_ns[ZD_TO_DEVICE] -= 1000000000;
	CHECK(!zd_server_throttle(&server));
	CHECK_EQ(reach()->pages[ZD_TO_DEVICE], sent);
	CHECK_EQ(nr_logged[0], 0);
	cds_list_for_each_entry(mig, &server.migs, node)
		mig->submit_ns -= ZD_SILENCE_NS + 1;
	server.silence_ns = 0;
	turns(3);
	CHECK_EQ(nr_logged[0], 1);
	gate_open(g);
	turns_until_evicted();
	end();
}

/* Pages stay in RAM; the device is asked with pauses, which are its own. */
static void away(void)
{
	unsigned int asked;
	double since;

	begin();
	asked = gate_asked(g, ZD_TO_DEVICE);
	since = now();
	gate_error(g, ZD_TO_DEVICE, -EAGAIN);
	turns(3);
	CHECK(gate_asked(g, ZD_TO_DEVICE) > asked);
	CHECK(gate_asked(g, ZD_TO_DEVICE) - asked <= 1 + (now() - since) * 1000);
	CHECK_EQ(server.resident, MEM);
	CHECK_EQ(resident(mem, MEM), MEM);
	CHECK_EQ(server.evict_pause_ns, 0);
	CHECK(!zd_server_throttle(&server));
	/* it has been away for long: longer pauses, and a line */
	CHECK_EQ(nr_logged[1], 0);
	reach()->away_since_ns -= 10000000000;
	reach()->ask_after_ns = 0;
	asked = gate_asked(g, ZD_TO_DEVICE);
	turns(1);
	CHECK(gate_asked(g, ZD_TO_DEVICE) > asked);
	CHECK_EQ(nr_logged[1], 1);
	CHECK_EQ(zd_reach_pause_ns(reach(), zd_now_ns()), 100000000);
	CHECK_EQ(zd_reach_pause_ns(reach(), reach()->away_since_ns + 1), 1000000);
	CHECK_FILLED(mem, MEM, 1);
	gate_error(g, ZD_TO_DEVICE, 0);
	turns_until_evicted();
	CHECK_EQ(nr_logged[1], 1);
	CHECK_EQ(nr_logged[2], 1);
	end();
}

/* A tier below takes what one that is away, or has stalled, can't have. */
static void another_tier(bool stall)
{
	struct zd_device *ram = ram_device(MEM);
	unsigned int asked;

	begin();
	CHECK_EQ(zd_server_attach(&server, ram), 0);
	asked = gate_asked(g, ZD_TO_DEVICE);
	if (stall)
		gate_close(g);
	else
		gate_error(g, ZD_TO_DEVICE, -EAGAIN);
	if (stall) {
		turns(20);	/* a device that is only slow is waited for */
		CHECK_EQ(zd_device_live_pages(ram), 0);
		reach()->heard_ns[ZD_TO_DEVICE] -= 1000000000;
	}
	turns_until_evicted();
	CHECK(zd_device_live_pages(ram) > 0);
	CHECK(gate_asked(g, ZD_TO_DEVICE) <= asked + 20);
	end();
	CHECK_EQ(zd_device_unregister(ram), 0);
}

static struct zd_mig *late_mig;

static int start_later(struct zd_mm *m, struct zd_mig *mig)
{
	CHECK(m == mm && !late_mig);
	late_mig = mig;
	return 0;
}

/* Threads that wait for pages since before these were moved don't wait for the device: the pages
 * come back before the others go there. */
static void waited_for(void)
{
	const struct zd_mover_ops *mover;
	struct zd_mover_ops later;
	uint64_t first;

	begin();
	mover = mm->mover;
	later = *mover;
	later.start = start_later;
	mm->mover = &later;
	gate_close(g);
	zd_server_evict(&server);
	CHECK(late_mig);
	first = late_mig->page[0].addr;
	for (int i = 0; i < 3; i++) {
		zd_fault(mm, first + i * 2 * PAGE, 0, 0);
		CHECK(*zd_mm_entry(mm, first + i * 2 * PAGE) & ZD_ENTRY_WAIT);
	}
	mover->start(mm, late_mig);
	mm->mover = mover;
	for (int i = 0; i < 3; i++)
		CHECK_EQ(zd_entry_state(*zd_mm_entry(mm, first + i * 2 * PAGE)), ZD_ENTRY_PRESENT);
	CHECK(*zd_mm_entry(mm, first + PAGE) & ZD_ENTRY_LOCK);
	CHECK_EQ(reach()->pages[ZD_TO_DEVICE], late_mig->nr - 3);
	CHECK_EQ(resident(mem, MEM), MEM - late_mig->nr + 3);
	CHECK_EQ(gate_used(g), late_mig->nr - 3);
	end();
}

int main(void)
{
	int fd = zd_uffd_open(), rc = fd < 0 ? fd : zd_uffd_api(fd, ZD_UFFD_FEATURES);

	if (rc) {
		printf("SKIP: needs userfaultfd with UFFDIO_MOVE and CAP_SYS_PTRACE\n");
		return 77;
	}
	close(fd);
	zd_set_log(count_lines, NULL);
	g = gate_device(2 * MEM);
	stalled();
	away();
	another_tier(false);
	another_tier(true);
	waited_for();
	CHECK_EQ(zd_device_unregister(&g->dev), 0);
	return 0;
}
