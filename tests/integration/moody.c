/* SPDX-License-Identifier: MIT */
/*
 * A plugin for run_moody.sh: a device of RAM whose mood is the content of a file.
 *
 *	plugin:.../moody.so,size=SIZE,mood=FILE
 *
 *	ok	batches are done at once
 *	away	each page is answered with -EAGAIN
 *	stall	batches wait, until the mood is another
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <zonedev/device.h>
#include <zonedev/driver.h>

struct moody {
	struct zd_device dev;
	pthread_mutex_t lock;	/* of used */
	char *memory, *mood;
	int timer;
	struct zd_device_io *head, **tail;	/* that wait */
	bool used[];
};

static int moody_alloc_pages(struct zd_device *dev, unsigned int nr, zd_pfn_t *pfns)
{
	struct moody *m = dev->private_data;
	unsigned int got = 0;

	pthread_mutex_lock(&m->lock);
	for (uint64_t i = 0; i < dev->nr_pages && got < nr; i++) {
		if (m->used[i])
			continue;
		m->used[i] = true;
		pfns[got++] = dev->pgmap.pfn + i;
	}
	pthread_mutex_unlock(&m->lock);
	return (int)got;
}

static void moody_unalloc_pages(struct zd_device *dev, unsigned int nr, const zd_pfn_t *pfns)
{
	struct moody *m = dev->private_data;

	pthread_mutex_lock(&m->lock);
	while (nr--)
		m->used[zd_device_page_index(dev, *pfns++)] = false;
	pthread_mutex_unlock(&m->lock);
}

static void moody_page_free(struct zd_device *dev, struct zd_page *page)
{
	zd_pfn_t pfn = zd_page_to_pfn(page);

	moody_unalloc_pages(dev, 1, &pfn);
}

static char mood_of(const struct moody *m)
{
	int fd = open(m->mood, O_RDONLY | O_CLOEXEC);
	char mood = 'o';

	if (fd >= 0 && read(fd, &mood, 1) != 1)
		mood = 'o';
	close(fd);
	return mood;
}

static void moody_do(struct moody *m, struct zd_device_io *io, char mood)
{
	for (unsigned int i = 0; i < io->nr; i++) {
		struct zd_io_page *page = &io->pages[i];
		char *mem = m->memory + zd_device_page_index(&m->dev, page->pfn) * ZD_PAGE_SIZE;

		page->error = mood == 'a' ? -EAGAIN : 0;
		if (page->error)
			continue;
		if (io->dir == ZD_TO_DEVICE)
			memcpy(mem, page->buf, ZD_PAGE_SIZE);
		else
			memcpy(page->buf, mem, ZD_PAGE_SIZE);
	}
	zd_io_complete(io);
}

static void set_timer(struct moody *m)
{
	const struct itimerspec soon = { .it_value.tv_nsec = m->head ? 10000000 : 0 };

	timerfd_settime(m->timer, 0, &soon, NULL);
}

static void moody_submit(struct zd_device *dev, struct zd_device_io *io)
{
	struct moody *m = dev->private_data;
	char mood = mood_of(m);

	if (mood != 's' && !m->head) {
		moody_do(m, io, mood);
		return;
	}
	io->next = NULL;
	*m->tail = io;
	m->tail = &io->next;
	set_timer(m);
}

static int moody_reap(struct zd_device *dev, bool wait)
{
	struct moody *m = dev->private_data;
	int done = 0;
	char mood;

	do {
		mood = mood_of(m);
		while (mood != 's' && m->head) {
			struct zd_device_io *io = m->head;

			m->head = io->next;
			if (!m->head)
				m->tail = &m->head;
			moody_do(m, io, mood);
			done++;
		}
		if (wait && m->head && !done)
			usleep(10000);
	} while (wait && m->head && !done);
	set_timer(m);
	return done;
}

static int moody_event_fd(struct zd_device *dev)
{
	return ((struct moody *)dev->private_data)->timer;
}

static void moody_destroy(struct zd_device *dev)
{
	struct moody *m = dev->private_data;

	close(m->timer);
	munmap(m->memory, dev->nr_pages * ZD_PAGE_SIZE);
	free(m->mood);
	free(m);
}

static const struct zd_device_ops moody_ops = {
	.size = sizeof(moody_ops),
	.version = ZD_DEVICE_OPS_VERSION,
	.alloc_pages = moody_alloc_pages,
	.unalloc_pages = moody_unalloc_pages,
	.page_free = moody_page_free,
	.submit = moody_submit,
	.reap = moody_reap,
	.event_fd = moody_event_fd,
	.destroy = moody_destroy,
};

enum { SIZE, MOOD };

static int moody_create(const struct zd_driver_value *values, struct zd_device **dev, char *err,
			size_t errlen)
{
	uint64_t nr_pages = values[SIZE].number / ZD_PAGE_SIZE;
	struct moody *m = calloc(1, sizeof(*m) + nr_pages);

	(void)err;
	(void)errlen;
	if (!m)
		return -ENOMEM;
	m->memory = mmap(NULL, nr_pages * ZD_PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	m->mood = strdup(values[MOOD].text);
	m->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (m->memory == MAP_FAILED || !m->mood || m->timer < 0)
		return -ENOMEM;		/* the end of the test: nothing is given back */
	pthread_mutex_init(&m->lock, NULL);
	m->tail = &m->head;
	m->dev = (struct zd_device){
		.ops = &moody_ops, .name = "moody", .nr_pages = nr_pages, .private_data = m
	};
	*dev = &m->dev;
	return zd_device_register(&m->dev);
}

static const struct zd_driver_key moody_keys[] = {
	[SIZE] = {
		.name = "size", .type = ZD_KEY_SIZE, .min = ZD_DRIVER_MIN_BYTES, .help = "its size",
	},
	[MOOD] = { .name = "mood", .type = ZD_KEY_PATH, .help = "the file with its mood" },
	{ 0 }
};

static const struct zd_driver moody_driver = {
	.size = sizeof(moody_driver),
	.version = ZD_DRIVER_VERSION,
	.commands = ZD_DRIVER_RUN,
	.name = "moody",
	.summary = "a device with moods",
	.example = "plugin:./moody.so,size=1G,mood=file",
	.keys = moody_keys,
	.create = moody_create,
};

ZD_PLUGIN(moody_driver);
