// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Freezing of the mover: see mover.h. The first reason is kept, but a final one replaces one that can
 * be lifted.
 */
#include "vmm/mover.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;           /* reason; taken by itself */
    char reason[VT_TEXT];
    atomic_bool frozen;
    bool final;
} freeze = { .lock = PTHREAD_MUTEX_INITIALIZER };

void mover_freeze(bool final, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&freeze.lock);
    if (!atomic_load(&freeze.frozen) || (final && !freeze.final)) {
        va_start(args, format);
        vsnprintf(freeze.reason, sizeof(freeze.reason), format, args);
        va_end(args);
        freeze.final = final;
        atomic_store(&freeze.frozen, true);
    }
    pthread_mutex_unlock(&freeze.lock);
}

bool mover_thaw(void)
{
    bool ok;

    pthread_mutex_lock(&freeze.lock);
    ok = !freeze.final;
    if (ok)
        atomic_store(&freeze.frozen, false);
    pthread_mutex_unlock(&freeze.lock);
    return ok;
}

bool mover_frozen(char reason[VT_TEXT])
{
    bool frozen;

    pthread_mutex_lock(&freeze.lock);
    frozen = atomic_load(&freeze.frozen);
    memcpy(reason, freeze.reason, VT_TEXT);
    pthread_mutex_unlock(&freeze.lock);
    return frozen;
}

bool mover_is_frozen(void)
{
    return atomic_load(&freeze.frozen);
}
