/* SPDX-License-Identifier: MIT */
#include "unit_test.h"

#include <pthread.h>
#include <sched.h>
#include <zonedev/percpu_ref.h>

#include "base/alloc.h"

static int released, confirmed;

static void release(struct zd_percpu_ref *ref)
{
	(void)ref;
	__atomic_add_fetch(&released, 1, __ATOMIC_SEQ_CST);
}

static void confirm(struct zd_percpu_ref *ref)
{
	/* Killed, and the initial reference not put yet. */
	assert_false(zd_percpu_ref_tryget_live(ref));
	assert_false(zd_percpu_ref_is_zero(ref));
	confirmed++;
}

static int setup(void **state)
{
	(void)state;
	released = confirmed = 0;
	return 0;
}

static void test_life(void **state)
{
	struct zd_percpu_ref ref;

	(void)state;
	assert_int_equal(zd_percpu_ref_init(&ref, release, 0), 0);
	assert_int_equal(zd_percpu_ref_read(&ref), 1);
	zd_percpu_ref_get(&ref);
	zd_percpu_ref_get_many(&ref, 5);
	assert_int_equal(zd_percpu_ref_read(&ref), 7);
	assert_true(zd_percpu_ref_tryget(&ref));
	assert_true(zd_percpu_ref_tryget_live(&ref));
	assert_true(zd_percpu_ref_tryget_many(&ref, 3));
	zd_percpu_ref_put_many(&ref, 10);
	assert_int_equal(zd_percpu_ref_read(&ref), 2);
	assert_false(zd_percpu_ref_is_dying(&ref));
	assert_false(zd_percpu_ref_is_zero(&ref));

	zd_percpu_ref_kill(&ref);
	assert_true(zd_percpu_ref_is_dying(&ref));
	assert_false(zd_percpu_ref_tryget_live(&ref));
	assert_true(zd_percpu_ref_tryget(&ref));
	zd_percpu_ref_get_many(&ref, 2);
	assert_int_equal(zd_percpu_ref_read(&ref), 4);
	zd_percpu_ref_put_many(&ref, 3);
	assert_int_equal(released, 0);
	zd_percpu_ref_put(&ref);
	assert_int_equal(released, 1);
	assert_true(zd_percpu_ref_is_zero(&ref));
	assert_false(zd_percpu_ref_tryget(&ref));

	zd_percpu_ref_reinit(&ref);
	assert_false(zd_percpu_ref_is_dying(&ref));
	assert_true(zd_percpu_ref_tryget_live(&ref));
	zd_percpu_ref_put(&ref);
	zd_percpu_ref_kill_and_confirm(&ref, confirm);
	assert_int_equal(confirmed, 1);
	assert_int_equal(released, 2);
	zd_percpu_ref_exit(&ref);
	zd_percpu_ref_exit(&ref);
}

static void test_resurrect(void **state)
{
	struct zd_percpu_ref ref;

	(void)state;
	assert_int_equal(zd_percpu_ref_init(&ref, release, ZD_PERCPU_REF_ALLOW_REINIT), 0);
	zd_percpu_ref_get(&ref);
	zd_percpu_ref_kill(&ref);
	assert_int_equal(zd_percpu_ref_read(&ref), 1);
	zd_percpu_ref_resurrect(&ref);
	assert_int_equal(zd_percpu_ref_read(&ref), 2);
	assert_true(zd_percpu_ref_tryget_live(&ref));
	zd_percpu_ref_put_many(&ref, 2);
	assert_int_equal(released, 0);
	zd_percpu_ref_kill(&ref);
	assert_int_equal(released, 1);
	zd_percpu_ref_exit(&ref);
}

static void test_modes(void **state)
{
	struct zd_percpu_ref ref;

	(void)state;
	assert_int_equal(zd_percpu_ref_init(&ref, release, ZD_PERCPU_REF_INIT_ATOMIC), 0);
	zd_percpu_ref_get(&ref);
	zd_percpu_ref_switch_to_percpu(&ref);
	zd_percpu_ref_get_many(&ref, 4);
	zd_percpu_ref_put(&ref);
	zd_percpu_ref_switch_to_atomic_sync(&ref);
	assert_int_equal(zd_percpu_ref_read(&ref), 5);
	assert_true(zd_percpu_ref_tryget_live(&ref));
	zd_percpu_ref_switch_to_atomic(&ref, NULL);
	zd_percpu_ref_put_many(&ref, 5);
	zd_percpu_ref_kill(&ref);
	assert_int_equal(released, 1);
	/* Atomic it stays, until told otherwise. */
	zd_percpu_ref_reinit(&ref);
	assert_true(ref.slots[0].value < 0);
	zd_percpu_ref_kill(&ref);
	assert_int_equal(released, 2);
	/* On a dead one: from the reinit on. */
	zd_percpu_ref_switch_to_percpu(&ref);
	assert_true(zd_percpu_ref_is_zero(&ref));
	zd_percpu_ref_reinit(&ref);
	assert_false(zd_percpu_ref_is_zero(&ref));
	assert_true(ref.slots[0].value > 0);
	zd_percpu_ref_kill(&ref);
	zd_percpu_ref_exit(&ref);

	assert_int_equal(zd_percpu_ref_init(&ref, release, ZD_PERCPU_REF_INIT_DEAD), 0);
	assert_false(zd_percpu_ref_tryget(&ref));
	assert_true(zd_percpu_ref_is_zero(&ref));
	zd_percpu_ref_reinit(&ref);
	assert_int_equal(zd_percpu_ref_read(&ref), 1);
	zd_percpu_ref_kill(&ref);
	assert_int_equal(released, 4);
	zd_percpu_ref_exit(&ref);
}

static void test_errors(void **state)
{
	struct zd_percpu_ref ref = { 0 };

	(void)state;
	assert_int_equal(zd_percpu_ref_init(&ref, NULL, 0), -EINVAL);
	assert_int_equal(zd_percpu_ref_init(&ref, release, 1u << 20), -EINVAL);
	zd_alloc_fail_nth(1);
	assert_int_equal(zd_percpu_ref_init(&ref, release, 0), -ENOMEM);
	zd_percpu_ref_exit(&ref);
}

/* A put on another CPU than the get's: the slots go apart, the sum doesn't. */
static void on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
}

static void test_across_cpus(void **state)
{
	struct zd_percpu_ref ref;
	cpu_set_t old;
	int cpus[2], n = 0;

	(void)state;
	sched_getaffinity(0, sizeof(old), &old);
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &old))
			cpus[n++] = i;
	if (n < 2) {
		printf("SKIP: one CPU\n");
		skip();
	}
	assert_int_equal(zd_percpu_ref_init(&ref, release, 0), 0);
	on_cpu(cpus[0]);
	zd_percpu_ref_get_many(&ref, 1000);
	on_cpu(cpus[1]);
	zd_percpu_ref_put_many(&ref, 999);
	sched_setaffinity(0, sizeof(old), &old);
	assert_int_not_equal(ref.slots[cpus[0] & ref.mask].value,
			     ref.slots[cpus[1] & ref.mask].value);
	assert_int_equal(zd_percpu_ref_read(&ref), 2);
	zd_percpu_ref_kill(&ref);
	assert_int_equal(zd_percpu_ref_read(&ref), 1);
	assert_int_equal(released, 0);
	zd_percpu_ref_put(&ref);
	assert_int_equal(released, 1);
	zd_percpu_ref_exit(&ref);
}

/* What the child of warns_with() asserts. */
static void must_be(const struct zd_percpu_ref *ref, int64_t refs, int releases)
{
	if (zd_percpu_ref_read(ref) != refs || released != releases)
		_exit(1);
}

static void put_too_many(void)
{
	struct zd_percpu_ref ref;

	zd_percpu_ref_init(&ref, release, 0);
	zd_percpu_ref_kill(&ref);
	zd_percpu_ref_put(&ref);
	must_be(&ref, 0, 1);
}

static void put_initial_before_kill(void)
{
	struct zd_percpu_ref ref;

	zd_percpu_ref_init(&ref, release, 0);
	zd_percpu_ref_put(&ref);
	zd_percpu_ref_kill(&ref);
	must_be(&ref, 1, 0);		/* there may be a holder */
}

static void get_after_zero(void)
{
	struct zd_percpu_ref ref;

	zd_percpu_ref_init(&ref, release, 0);
	zd_percpu_ref_kill(&ref);
	zd_percpu_ref_get(&ref);
	must_be(&ref, 0, 1);
	zd_percpu_ref_put(&ref);
	must_be(&ref, 0, 1);
}

static void kill_twice(void)
{
	struct zd_percpu_ref ref;

	zd_percpu_ref_init(&ref, release, 0);
	zd_percpu_ref_get(&ref);
	zd_percpu_ref_kill(&ref);
	zd_percpu_ref_kill(&ref);
	must_be(&ref, 1, 0);
	zd_percpu_ref_put(&ref);
	must_be(&ref, 0, 1);
}

static void reinit_held(void)
{
	struct zd_percpu_ref ref;

	zd_percpu_ref_init(&ref, release, 0);
	zd_percpu_ref_get(&ref);
	zd_percpu_ref_kill(&ref);
	zd_percpu_ref_reinit(&ref);
	must_be(&ref, 2, 0);
}

static void resurrect_live(void)
{
	struct zd_percpu_ref ref;

	zd_percpu_ref_init(&ref, release, 0);
	zd_percpu_ref_resurrect(&ref);
	must_be(&ref, 1, 0);
}

static void test_wrong_counts(void **state)
{
	(void)state;
	assert_true(warns_with(put_too_many, "put below zero"));
	assert_true(warns_with(put_initial_before_kill, "before the initial one was put"));
	assert_true(warns_with(get_after_zero, "get with 0 references"));
	assert_true(warns_with(kill_twice, "killed twice"));
	assert_true(warns_with(reinit_held, "reinit with 1 references"));
	assert_true(warns_with(resurrect_live, "not killed"));
}

/*
 * Race: threads get and put (and hand references to one another, so that gets
 * and puts of one reference fall on different slots) while the modes change.
 * Broken looks like: release called early, never, or twice, a count that ends
 * off, or a tryget_live that succeeds after the kill.
 */
#define THREADS 3
#define ROUNDS (SANITIZED ? 60 : 150)

struct race {
	struct zd_percpu_ref ref;
	uint32_t seed;
	int stop;	/* set after the kill */
	int pool;	/* references that no thread owns */
};

static void *race_thread(void *arg)
{
	struct race *r = arg;
	uint32_t rnd = __atomic_add_fetch(&r->seed, 0x9e3779b9, __ATOMIC_RELAXED) | 1;
	int pool;

	for (;;) {
		/* Read first: a success that began after the kill is a bug. */
		bool dead = __atomic_load_n(&r->stop, __ATOMIC_ACQUIRE);

		if (!zd_percpu_ref_tryget_live(&r->ref))
			break;
		assert_false(dead);
		if (__atomic_load_n(&released, __ATOMIC_RELAXED))
			fail_msg("released under a holder");
		switch (test_rand(&rnd) % 4) {
		case 0:
			zd_percpu_ref_put(&r->ref);
			break;
		case 1:
			zd_percpu_ref_get_many(&r->ref, 6);
			zd_percpu_ref_put_many(&r->ref, 7);
			break;
		case 2:	/* leave it to somebody */
			__atomic_add_fetch(&r->pool, 1, __ATOMIC_RELEASE);
			break;
		case 3:	/* and put one of somebody's */
			pool = __atomic_load_n(&r->pool, __ATOMIC_RELAXED);
			if (pool > 0 &&
			    __atomic_compare_exchange_n(&r->pool, &pool, pool - 1, false,
							__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				zd_percpu_ref_put(&r->ref);
			zd_percpu_ref_put(&r->ref);
			break;
		}
	}
	return NULL;
}

static void race_round(struct race *r, uint32_t *rnd)
{
	pthread_t t[THREADS];

	released = 0;
	r->stop = r->pool = 0;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, race_thread, r), 0);
	for (int i = test_rand(rnd) % 8; i > 0; i--) {
		switch (test_rand(rnd) % 3) {
		case 0:
			zd_percpu_ref_switch_to_atomic_sync(&r->ref);
			break;
		case 1:
			zd_percpu_ref_switch_to_percpu(&r->ref);
			break;
		case 2:
			sched_yield();
			break;
		}
	}
	zd_percpu_ref_get(&r->ref);	/* ours: so zero waits for the end */
	zd_percpu_ref_kill(&r->ref);
	__atomic_store_n(&r->stop, 1, __ATOMIC_RELEASE);
	assert_false(zd_percpu_ref_tryget_live(&r->ref));
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(released, 0);
	assert_int_equal(zd_percpu_ref_read(&r->ref), r->pool + 1);
	if (r->pool)
		zd_percpu_ref_put_many(&r->ref, r->pool);
	assert_int_equal(released, 0);
	zd_percpu_ref_put(&r->ref);
	assert_int_equal(released, 1);
	zd_percpu_ref_reinit(&r->ref);
	zd_percpu_ref_switch_to_percpu(&r->ref);
}

static void test_race(void **state)
{
	struct race r = { .seed = test_seed() };
	uint32_t rnd = r.seed | 1;

	(void)state;
	assert_int_equal(zd_percpu_ref_init(&r.ref, release, 0), 0);
	for (int i = 0; i < ROUNDS; i++)
		race_round(&r, &rnd);
	released = 0;
	zd_percpu_ref_kill(&r.ref);
	assert_int_equal(released, 1);
	zd_percpu_ref_exit(&r.ref);
}

/* Kill against puts, with nobody holding on: release exactly once. */
struct last {
	struct zd_percpu_ref ref;
	int go;
};

static void *last_thread(void *arg)
{
	struct last *l = arg;

	while (!__atomic_load_n(&l->go, __ATOMIC_ACQUIRE))
		;
	for (int i = 0; i < 50; i++)
		zd_percpu_ref_put(&l->ref);
	return NULL;
}

static void test_last_put_race(void **state)
{
	struct last l;
	pthread_t t;

	(void)state;
	assert_int_equal(zd_percpu_ref_init(&l.ref, release, 0), 0);
	for (int i = 0; i < ROUNDS; i++) {
		released = l.go = 0;
		zd_percpu_ref_get_many(&l.ref, 50);
		assert_int_equal(pthread_create(&t, NULL, last_thread, &l), 0);
		__atomic_store_n(&l.go, 1, __ATOMIC_RELEASE);
		zd_percpu_ref_kill(&l.ref);
		pthread_join(t, NULL);
		assert_int_equal(released, 1);
		zd_percpu_ref_reinit(&l.ref);
	}
	zd_percpu_ref_kill(&l.ref);
	zd_percpu_ref_exit(&l.ref);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_life, setup),
		cmocka_unit_test_setup(test_resurrect, setup),
		cmocka_unit_test_setup(test_modes, setup),
		cmocka_unit_test_setup(test_errors, setup),
		cmocka_unit_test_setup(test_across_cpus, setup),
		cmocka_unit_test_setup(test_wrong_counts, setup),
		cmocka_unit_test_setup(test_race, setup),
		cmocka_unit_test_setup(test_last_put_race, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
