// SPDX-License-Identifier: GPL-2.0-or-later
/* See thread.h. */
#include "common/thread.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

int thread_start(const char *name, void *(*run)(void *), void *arg)
{
    static const int own[] = { SIGBUS, SIGSEGV, SIGFPE, SIGILL };
    sigset_t all, before;
    pthread_t thread;
    int rc;

    sigfillset(&all);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        sigdelset(&all, own[i]);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return rc;
    pthread_setname_np(thread, name);
    return pthread_detach(thread);
}
