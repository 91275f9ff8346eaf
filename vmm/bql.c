// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls into the main thread.
 *
 * Normally a call is a bottom half in the main loop. While the machine starts, the main thread waits
 * in bql_serve() for the first placement and runs no loop; then it takes the call itself. One call
 * is under way at most, because only the link thread calls.
 */
#include "vmm/bql.h"
#include "vmm/qemu.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static struct {
    void (*fn)(void *opaque);   /* NULL: no call under way */
    void *opaque;
} call;

/* Runs the call, if nobody has yet. With the BQL. */
static void run_call(void)
{
    void (*fn)(void *opaque);
    void *opaque;

    pthread_mutex_lock(&lock);
    fn = call.fn;
    opaque = call.opaque;
    pthread_mutex_unlock(&lock);
    if (!fn)
        return;
    fn(opaque);
    pthread_mutex_lock(&lock);
    call.fn = NULL;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void bottom_half(void *unused)
{
    (void)unused;
    run_call();
}

void bql_call(void (*fn)(void *opaque), void *opaque)
{
    pthread_mutex_lock(&lock);
    call.fn = fn;
    call.opaque = opaque;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    /* In any case: bql_serve() may not run, or give up now. Who comes second finds no call. */
    qemu_bh(bottom_half, NULL);
    pthread_mutex_lock(&lock);
    while (call.fn)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

bool bql_serve(const bool *done, int timeout_ms)
{
    struct timespec end;
    bool is_done;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += timeout_ms / 1000;
    end.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    pthread_mutex_lock(&lock);
    while (!*done && rc != ETIMEDOUT) {
        bool called = call.fn != NULL;

        if (called) {
            pthread_mutex_unlock(&lock);
            run_call();
            pthread_mutex_lock(&lock);
        } else {
            rc = pthread_cond_timedwait(&changed, &lock, &end);
        }
    }
    is_done = *done;
    pthread_mutex_unlock(&lock);
    return is_done;
}

void bql_done(bool *done)
{
    pthread_mutex_lock(&lock);
    *done = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}
