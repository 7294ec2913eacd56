/* SPDX-License-Identifier: MIT */
/*
 * The per-CPU reference alone: every holder may run on any CPU at each of its
 * operations, while one thread switches the modes and another kills, takes it
 * back (resurrect) and kills again.
 *
 * Properties: release is called once, and not before the last reference is put;
 * the count is never negative; no tryget_live succeeds once kill has returned;
 * the killer hears of the release (else it waits for ever: an invalid end
 * state).
 */
#include "percpu_ref.pml"

inline any_cpu(cpu) {
	if
	:: cpu = 0
	:: cpu = 1
	fi
}

proctype holder() {
	byte cpu;
	bool got;

	any_cpu(cpu);
	zd_percpu_ref_tryget_live(cpu, got);
	if
	:: got ->
		any_cpu(cpu);
		if
		:: zd_percpu_ref_get(cpu);
			any_cpu(cpu);
			zd_percpu_ref_put(cpu)
		:: skip
		fi;
		any_cpu(cpu);
		zd_percpu_ref_put(cpu)
	:: else
	fi
}

proctype switcher() {
	zd_percpu_ref_switch_to_atomic();
	zd_percpu_ref_switch_to_percpu()
}

proctype killer() {
	byte cpu;

	/* zd_pagemap_unmap(): one more, which stands in for the initial one */
	any_cpu(cpu);
	zd_percpu_ref_get(cpu);
	zd_percpu_ref_kill();
	if
	:: skip					/* the owner agrees */
	:: zd_percpu_ref_resurrect();		/* or not; then a second try */
		any_cpu(cpu);
		zd_percpu_ref_put(cpu);
		any_cpu(cpu);
		zd_percpu_ref_get(cpu);
		zd_percpu_ref_kill()
	fi;
	any_cpu(cpu);
	zd_percpu_ref_put(cpu);
	(releases == 1);
	assert(ref_count == 0 && holds == 0)
}

init {
	atomic {
		zd_percpu_ref_init();
		run holder();
		run holder();
		run switcher();
		run killer()
	}
}
