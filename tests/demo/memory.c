// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The bytes in DRAM, as the file system counts them: allocated blocks of the file that is QEMU's
 * RAM, looked at by a thread of its own, so that nothing else that the demo does delays a look.
 */
#include "demo.h"

#define LOOK_US 50000
#define DRAM_FILE "memory-backend-memfd"

struct memory_watch {
    GThread *thread;
    gint stop;                      /* atomic */
    pid_t qemu;
    GMutex lock;                    /* for what follows */
    uint64_t now, peak, looks;
    double start, last, longest_gap;
};

static void look(struct memory_watch *w)
{
    uint64_t bytes = memfd_bytes(w->qemu, DRAM_FILE);
    double t = lab_now();

    g_mutex_lock(&w->lock);
    w->now = bytes;
    w->peak = MAX(w->peak, bytes);
    w->longest_gap = MAX(w->longest_gap, t - w->last);
    w->last = t;
    w->looks++;
    g_mutex_unlock(&w->lock);
}

static gpointer keep_looking(gpointer arg)
{
    struct memory_watch *w = arg;

    while (!g_atomic_int_get(&w->stop)) {
        look(w);
        g_usleep(LOOK_US);
    }
    return NULL;
}

struct memory_watch *memory_watch_start(pid_t qemu)
{
    struct memory_watch *w = g_new0(struct memory_watch, 1);

    w->qemu = qemu;
    w->start = w->last = lab_now();
    g_mutex_init(&w->lock);
    w->thread = g_thread_new("memory", keep_looking, w);
    return w;
}

uint64_t memory_watch_now(struct memory_watch *w)
{
    g_mutex_lock(&w->lock);
    uint64_t bytes = w->now;

    g_mutex_unlock(&w->lock);
    return bytes;
}

void memory_watch_end(struct memory_watch *w, struct demo *demo)
{
    g_atomic_int_set(&w->stop, 1);
    g_thread_join(w->thread);
    demo->peak_bytes = w->peak;
    demo->looks = w->looks;
    demo->looks_per_s = (double)w->looks / MAX(w->last - w->start, 0.001);
    demo->look_gap_s = w->longest_gap;
    g_mutex_clear(&w->lock);
    g_free(w);
}
