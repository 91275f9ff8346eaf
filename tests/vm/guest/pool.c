// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A process of its own with a buffer that it knows of: `workload pool SIZE` fills it, tells where it is,
 * waits for SIGUSR1, and then uses it and nothing else, until it is ended or finds a page bad.
 */
#include "workload.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

static void tell(void)
{
    uint64_t start = (uint64_t)(uintptr_t)piece_address(0);

    printf("buffer 0x%llx+0x%zx\n", (unsigned long long)start, pieces * PIECE);
    for (unsigned i = 0; i < pieces; i++)
        if (piece_gpa(i) != NO_GPA)
            printf("gpa 0x%llx\n", (unsigned long long)piece_gpa(i));
    puts("filled");
    fflush(stdout);
}

int run_pool(const char *size)
{
    sigset_t go;
    int number;

    sigemptyset(&go);
    sigaddset(&go, SIGUSR1);
    sigprocmask(SIG_BLOCK, &go, NULL);
    prctl(PR_SET_NAME, "pool");
    cfg.foot = parse_size(size);
    make_footprint();
    tell();
    sigwait(&go, &number);
    while (!atomic_load(&bad))
        visit_some();
    return 1;
}
