/* SPDX-License-Identifier: MIT */
/* Told in silence.h. */
#include "engine/silence.h"

#include "base/time.h"
#include "engine/tier.h"
#include "zonedev/log.h"

#define CHECK_NS	1000000000ull

void zd_silence_begin(struct zd_mig *mig)
{
	mig->submit_ns = zd_now_ns();
}

void zd_silence_end(struct zd_mig *mig)
{
	struct zd_tier *tier = zd_server_find_tier(mig->server, mig->asked);

	mig->submit_ns = 0;
	if (tier && tier->silent) {
		tier->silent = false;
		zd_log(ZD_LOG_WARN, "%s: answers again", mig->asked->name);
	}
}

static bool is_late(const struct zd_mig *mig, uint64_t now)
{
	return mig->submit_ns && now - mig->submit_ns > ZD_SILENCE_NS;
}

void zd_silence_check(struct zd_server *server)
{
	uint64_t now = zd_now_ns();
	const struct zd_mig *mig;
	struct zd_tier *tier;

	if (cds_list_empty(&server->migs) || now < server->silence_ns)
		return;
	server->silence_ns = now + CHECK_NS;
	cds_list_for_each_entry(mig, &server->migs, node) {
		tier = is_late(mig, now) ? zd_server_find_tier(server, mig->asked) : NULL;
		if (!tier || tier->silent)
			continue;
		tier->silent = true;
		zd_log(ZD_LOG_WARN,
		       "%s: hasn't answered for %llu s: threads that need pages of it wait",
		       mig->asked->name, ZD_SILENCE_NS / 1000000000);
	}
}

bool zd_server_is_silent(struct zd_server *server)
{
	uint64_t now = zd_now_ns();
	const struct zd_tier *tier;
	const struct zd_mig *mig;

	cds_list_for_each_entry(mig, &server->migs, node) {
		tier = is_late(mig, now) ? zd_server_find_tier(server, mig->asked) : NULL;
		if (!tier || !tier->silent)
			return false;
	}
	return !cds_list_empty(&server->migs);
}
