// SPDX-License-Identifier: GPL-2.0-or-later
/* Between the parts of torn.h: the mover, the writers, the devices. */
#ifndef VMTIER_BENCH_TORN_PARTS_H
#define VMTIER_BENCH_TORN_PARTS_H

#include "bench/lib/torn.h"

#include <stdatomic.h>

#define TORN_WRITERS 3u
#define TORN_DEVICES 2u
#define TORN_LIST    32u        /* granules in one list of moves */

/* What all threads see. `focus` is what is being moved: most accesses go there. */
struct torn {
    struct bench_memory m;
    guint pages;                /* of the memory */
    const struct torn_case *c;
    atomic_uint focus[TORN_LIST], focused;
    atomic_bool stop;
    _Atomic guint64 damage;     /* seen until now */
};

/* A page in one of the granules that are moved just now, or, one time of four, any. */
guint torn_pick_page(struct torn *t, guint64 *random);

struct torn_writer {
    struct torn *t;
    guint id;
    guint64 *mine, *seen, *added;       /* by page: my number, the next writer's last, my additions */
    guint64 writes, lost, torn;
};

/* For g_thread_new(). */
gpointer torn_write(gpointer writer);

/* Pages whose numbers or sum are not what the stopped writers have written. */
guint64 torn_check(const struct torn *t, const struct torn_writer w[TORN_WRITERS]);

struct torn_device {
    struct torn *t;
    guint id;
    guint64 reads, writes, bad_reads, bad_writes;
    int failed;                 /* errno of an I/O that did not work */
};

gpointer torn_do_io(gpointer device);

#endif
