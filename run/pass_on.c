/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run/child.h"
#include "run/pass_on.h"

static void send_to_group(struct pass_on *p, const struct question *q)
{
	if (child_is_alive(p->child) && p->leads_group)
		kill(-p->child->pid, q->sig);
}

void pass_on_now(struct pass_on *p, const struct question *q)
{
	siginfo_t si;

	if (!child_is_alive(p->child))
		return;
	/* with its value; the kernel lets no process send what looks like another's kill() */
	if (q->code < 0 && q->code != SI_TKILL) {
		memset(&si, 0, sizeof(si));
		si.si_signo = q->sig;
		si.si_code = q->code;
		si.si_pid = q->pid;
		si.si_uid = q->uid;
		si.si_value.sival_ptr = (void *)(uintptr_t)q->value;
		if (!syscall(SYS_rt_sigqueueinfo, p->child->pid, q->sig, &si))
			return;
	}
	kill(p->child->pid, q->sig);
}

static void answered(struct pass_on *p, const struct question *q, bool to_group)
{
	if (q->passed)
		return;
	if (to_group)
		send_to_group(p, q);
	else
		pass_on_now(p, q);
}

/* Without a witness: a signal that a process sent was meant for the pid. */
static void guess(struct pass_on *p, const struct question *q)
{
	answered(p, q, q->code > 0);
}

static struct question dequeue(struct pass_on *p)
{
	struct question q = p->question[p->first_question];

	p->first_question = (p->first_question + 1) % NR_QUESTIONS;
	p->nr_questions--;
	return q;
}

void pass_on_without_witness(struct pass_on *p)
{
	if (p->answers.fd >= 0)
		zd_loop_remove(&p->server->loop, &p->answers);
	p->answers.fd = -1;
	while (p->nr_questions) {
		struct question q = dequeue(p);

		guess(p, &q);
	}
}

bool pass_on_is_full(const struct pass_on *p)
{
	return p->nr_questions == NR_QUESTIONS;
}

void pass_on(struct pass_on *p, const struct question *q)
{
	if (p->answers.fd < 0 || witness_ask(p->witness, q->sig)) {
		pass_on_without_witness(p);
		guess(p, q);
		return;
	}
	p->question[(p->first_question + p->nr_questions++) % NR_QUESTIONS] = *q;
}

static void answers_ready(struct zd_source *source, uint32_t events)
{
	struct pass_on *p = caa_container_of(source, struct pass_on, answers);
	struct question q;
	int in_group;

	(void)events;
	while (p->answers.fd >= 0) {
		in_group = witness_answer(p->witness);
		if (in_group == -EAGAIN)
			return;
		if (in_group < 0 || !p->nr_questions) {
			pass_on_without_witness(p);
			return;
		}
		q = dequeue(p);
		answered(p, &q, in_group);
	}
}

int pass_on_open(struct pass_on *p, struct zd_server *server, struct witness *witness,
		 const struct child *child, bool leads_group)
{
	p->server = server;
	p->witness = witness;
	p->child = child;
	p->leads_group = leads_group;
	p->answers.ready = answers_ready;
	p->answers.fd = witness->pid ? witness->sock : -1;
	return p->answers.fd < 0 ? 0 : zd_loop_add(&server->loop, &p->answers);
}
