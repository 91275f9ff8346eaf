// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How late this machine runs what is ready to run: a thread that sleeps and looks how long it has
 * slept. Tests that ask whether a guest stood still take it off, as nothing of ours explains it.
 *
 * The thread starts with the first question and lives as long as the program does.
 */
#include "harness.h"

#define NAP_US 10000

static gint64 longest;          /* us; under `lock` */
static GMutex lock;

static gpointer nap(gpointer unused)
{
    while (true) {
        gint64 start = g_get_monotonic_time(), late;

        g_usleep(NAP_US);
        late = g_get_monotonic_time() - start - NAP_US;
        g_mutex_lock(&lock);
        longest = MAX(longest, late);
        g_mutex_unlock(&lock);
    }
    return unused;
}

static void begin(void)
{
    static gsize begun;

    if (g_once_init_enter(&begun)) {
        g_thread_unref(g_thread_new("delay", nap, NULL));
        g_once_init_leave(&begun, 1);
    }
}

void lab_reset_delay(void)
{
    begin();
    g_mutex_lock(&lock);
    longest = 0;
    g_mutex_unlock(&lock);
}

double lab_longest_delay(void)
{
    begin();
    g_mutex_lock(&lock);
    double ms = (double)longest / 1000;

    g_mutex_unlock(&lock);
    return ms;
}
