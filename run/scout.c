/* SPDX-License-Identifier: MIT */
/* The scout's thread and its queue; scout.h has the rules. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "run/scout.h"

struct scout {
	pthread_t thread;
	pthread_mutex_t lock;		/* of what follows, and of each survey's next, state and
					 * abandoned; the innermost */
	pthread_cond_t work;
	struct survey *head, **tail;
	struct survey *current;
	bool stop;
	struct zd_server *server;
	struct zd_source made;		/* an eventfd */
	void (*ready)(void *ctx);
	void *ctx;
};

/* Context: the scout, with the lock. */
static struct survey *next(struct scout *scout)
{
	struct survey *s = scout->head;

	if (!s)
		return NULL;
	scout->head = s->next;
	if (!scout->head)
		scout->tail = &scout->head;
	scout->current = s;
	return s;
}

/* The scout: all signals blocked. */
static void *work(void *arg)
{
	static const uint64_t one = 1;
	struct scout *scout = arg;
	struct survey *s;

	pthread_mutex_lock(&scout->lock);
	while (!scout->stop) {
		s = next(scout);
		if (!s) {
			pthread_cond_wait(&scout->work, &scout->lock);
			continue;
		}
		pthread_mutex_unlock(&scout->lock);
		survey_make(s);
		pthread_mutex_lock(&scout->lock);
		scout->current = NULL;
		s->state = SURVEY_MADE;
		if (s->abandoned)
			survey_free(s);
		else if (write(scout->made.fd, &one, sizeof(one)) < 0)
			continue;	/* the counter is full: the eventfd is readable anyway */
	}
	pthread_mutex_unlock(&scout->lock);
	return NULL;
}

static void made_ready(struct zd_source *source, uint32_t events)
{
	struct scout *scout = caa_container_of(source, struct scout, made);
	uint64_t n;

	(void)events;
	if (read(source->fd, &n, sizeof(n)) == sizeof(n))
		scout->ready(scout->ctx);
}

int scout_start(struct zd_server *server, void (*ready)(void *ctx), void *ctx, struct scout **out)
{
	struct scout *scout = zd_alloc(sizeof(*scout));
	sigset_t all, old;
	int rc;

	if (!scout)
		return -ENOMEM;
	scout->tail = &scout->head;
	scout->server = server;
	scout->ready = ready;
	scout->ctx = ctx;
	pthread_mutex_init(&scout->lock, NULL);
	pthread_cond_init(&scout->work, NULL);
	scout->made.ready = made_ready;
	scout->made.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (scout->made.fd < 0) {
		rc = -errno;
		goto err_free;
	}
	rc = zd_loop_add(&server->loop, &scout->made);
	if (rc)
		goto err_close;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&scout->thread, NULL, work, scout);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		goto err_remove;
	*out = scout;
	return 0;

err_remove:
	zd_loop_remove(&server->loop, &scout->made);
err_close:
	close(scout->made.fd);
err_free:
	zd_free(scout);
	return rc;
}

void scout_stop(struct scout *scout)
{
	if (!scout)
		return;
	pthread_mutex_lock(&scout->lock);
	scout->stop = true;
	pthread_cond_signal(&scout->work);
	pthread_mutex_unlock(&scout->lock);
	pthread_join(scout->thread, NULL);
	for (struct survey *s = scout->head; s; s = s->next)
		s->state = SURVEY_IDLE;
	zd_loop_remove(&scout->server->loop, &scout->made);
	close(scout->made.fd);
	pthread_cond_destroy(&scout->work);
	pthread_mutex_destroy(&scout->lock);
	zd_free(scout);
}

int scout_ask(struct scout *scout, struct survey *s, const struct zd_ranges *managed, bool want_pss)
{
	int rc = -EBUSY;

	if (!scout)
		return -ESRCH;
	pthread_mutex_lock(&scout->lock);
	if (s->state == SURVEY_IDLE) {
		zd_ranges_destroy(&s->managed);
		rc = zd_ranges_copy(&s->managed, managed);
	}
	if (!rc) {
		s->state = SURVEY_ASKED;
		s->want_pss = want_pss;
		s->next = NULL;
		*scout->tail = s;
		scout->tail = &s->next;
		pthread_cond_signal(&scout->work);
	}
	pthread_mutex_unlock(&scout->lock);
	return rc;
}

bool scout_has(struct scout *scout, const struct survey *s)
{
	bool busy;

	if (!scout || !s)
		return false;
	pthread_mutex_lock(&scout->lock);
	busy = s->state == SURVEY_ASKED;
	pthread_mutex_unlock(&scout->lock);
	return busy;
}

bool scout_take(struct scout *scout, struct survey *s)
{
	bool made;

	if (!scout)
		return false;
	pthread_mutex_lock(&scout->lock);
	made = s->state == SURVEY_MADE;
	if (made)
		s->state = SURVEY_IDLE;
	pthread_mutex_unlock(&scout->lock);
	return made;
}

void scout_release(struct scout *scout, struct survey *s)
{
	struct survey **link;
	bool in_work = false;

	if (!s)
		return;
	if (!scout) {
		survey_free(s);
		return;
	}
	pthread_mutex_lock(&scout->lock);
	for (link = &scout->head; *link; link = &(*link)->next)
		if (*link == s) {
			*link = s->next;
			if (!*link)
				scout->tail = link;
			break;
		}
	if (scout->current == s) {
		s->abandoned = true;
		in_work = true;
	}
	pthread_mutex_unlock(&scout->lock);
	if (!in_work)
		survey_free(s);
}
