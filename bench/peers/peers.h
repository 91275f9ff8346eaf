// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a user could tier a VM with, side by side: the same guest under a real KVM, on a machine with two
 * NUMA nodes (tests/nested), with the same DRAM for its RAM.
 *
 *     loads.c      what the guest does, and which share of its accesses each page gets
 *     systems.c    who places its memory, and what is set for that
 *     damos.c      DAMON's schemes, over sysfs
 *     dram.c       how much of node 0 is there for the guest
 *     look.c       where the guest's pages are, second by second, and what follows from that
 *     cost.c       CPU time and the kernel's counters
 *     run.c        a load with each system, in L1
 *     result.c     what a run gives, as JSON
 *     tell.c       all of them, on the host: report.json and a table
 *     picture.c    the same as a PNG
 *
 * A run looks at every LOOK_STEP-th page of RAM, once a second, by move_pages(2) on QEMU: the same for all
 * systems, and none of them is asked. Times are seconds since the guest was ready. L1 is emulated, and its nodes
 * are equally fast: where memory is, what is moved and what that costs are compared, speeds of memory are not.
 */
#ifndef VMTIER_BENCH_PEERS_H
#define VMTIER_BENCH_PEERS_H

#include "tests/vm/rig.h"

#define PEERS_PAGE   4096u
#define PEERS_GRANULE (2 * MIB)         /* vmtierd's default */
#define PEERS_RAM    (192 * MIB)
#define PEERS_DRAM   (48 * MIB)
#define LOOK_STEP    8u                 /* pages */
#define BACK_S       30.0               /* a page that returns within this was moved in vain */
#define REACHED      0.9                /* of what an oracle would serve from DRAM */
#define PATIENCE     120.0

/* --- loads.c -------------------------------------------------------------------------------------------- */

enum load_kind { LOAD_HOT, LOAD_SCAN, LOAD_ZIPF, LOAD_UNIFORM, LOAD_KEYS };

struct peers_load {
    const char *name, *title;
    const char *words;                  /* for the guest's kernel */
    enum load_kind kind;
    double share;                       /* of the accesses, that go to the hot set */
    double seconds;
    double shifts[4];                   /* when the hot set jumps; 0: no more */
};

extern const struct peers_load peers_loads[];
extern const guint peers_n_loads;
const struct peers_load *peers_load(const char *name);

/* The footprint's extents; empty for LOAD_KEYS. */
GArray *load_pieces(const struct peers_load *load, struct guest *guest);
/* The share of all accesses that goes to each page that is looked at; sums up to 1, g_free() it. */
double *load_weights(const struct peers_load *load, const GArray *pieces, const GArray *hot, guint n);
/* The same for keys, found in the guest's memory by their values. */
double *load_key_weights(struct vm *vm, guint n);

/* --- systems.c ------------------------------------------------------------------------------------------ */

struct peers_run;

struct peers_system {
    const char *name, *title;
    bool limited;                       /* PEERS_DRAM of node 0, or as much as there is */
    bool plugin;
    const char *daemon;                 /* vmtierd's configuration, or NULL: none runs */
    bool demotion;
    unsigned balancing;                 /* kernel.numa_balancing */
    void (*begin)(struct peers_run *run);       /* the guest has its memory, and works */
    void (*second)(struct peers_run *run);      /* called about once a second */
    void (*end)(struct peers_run *run);
};

extern const struct peers_system peers_systems[];
extern const guint peers_n_systems;
const struct peers_system *peers_system(const char *name);
void system_set(const struct peers_system *system);     /* the kernel's settings */
void set_file(const char *path, const char *format, ...) G_GNUC_PRINTF(2, 3);    /* one of /proc, /sys; or ends */

/* --- damos.c -------------------------------------------------------------------------------------------- */

void damos_begin(struct peers_run *run);
void damos_second(struct peers_run *run);
void damos_end(struct peers_run *run);

/* --- dram.c --------------------------------------------------------------------------------------------- */

/* Takes what node 0 has free out of use, but for the guest's share and what the kernel keeps free. */
void dram_limit(uint64_t bytes);
void dram_release(void);
uint64_t dram_unused(void);             /* of node 0, beyond what the kernel keeps free */
void dram_clear(pid_t pid);             /* moves what a process has on node 0 to node 1 */
struct extent dram_node(unsigned node);                         /* physical addresses */

/* --- begin.c -------------------------------------------------------------------------------------------- */

/* Pages that the guest has, so many bytes, are on node 0 and all others on node 1. */
void begin_pages(struct vm *vm, const GArray *pieces, uint64_t bytes);
/* The same with the plugin: PEERS_DRAM in whole granules. */
void begin_granules(struct rig *rig, const GArray *pieces);

/* --- look.c --------------------------------------------------------------------------------------------- */

struct look {
    double t;
    uint64_t moved;                     /* bytes since the guest was ready */
    uint64_t ops;
    double spin_s;                      /* CPU time of a fixed piece of work, as L1 is emulated on a busy machine */
    guint dram;                         /* pages of those looked at that are on node 0 */
    gint16 *node;                        /* of each page looked at; -1: it has no memory yet */
};

guint look_pages(void);
/*
 * By move_pages(2): the nodes of n pages, `step` bytes apart from the beginning of RAM (negative: there is none);
 * with `to` they are moved there before.
 */
void look_nodes(struct vm *vm, uint64_t step, guint n, const int *to, int *status);
void look(struct vm *vm, gint16 *node);
/* The share of accesses that node 0 serves. */
double look_share(const struct look *look, const double *weights);
/* The largest share that so many bytes can serve. */
double look_oracle(const double *weights, uint64_t bytes);
/* Pages that were elsewhere than a second before, and how many of them were soon back. */
void look_changes(const GArray *looks, uint64_t *changes, uint64_t *back);

/* --- cost.c --------------------------------------------------------------------------------------------- */

struct cost {
    double kthreads, daemon, plugin;            /* seconds of CPU */
    double vcpu_user, vcpu_system, qemu;        /* "user" is the guest, too */
    uint64_t hints, promoted, demoted, migrated;       /* pages, by the kernel's counters */
};

struct cost cost_now(const struct peers_run *run);
uint64_t cost_vmstat(const char *prefix);       /* sum of the counters whose names begin so */

/* --- run.c ---------------------------------------------------------------------------------------------- */

struct peers_run {
    const struct peers_load *load;
    const struct peers_system *system;
    struct rig *rig;                    /* NULL: there is no guest */
    bool shared;                        /* it is for all that need no plugin */
    GArray *pieces;
    GArray *looks;                      /* struct look */
    GPtrArray *weights;                 /* double *, of each phase */
    GArray *phases;                     /* double: when each phase began */
    struct cost first, last;
    double start, scale;                /* "scale": of the load's seconds, for a brief form */
    uint64_t moved_at_start;
};

uint64_t run_moved(const struct peers_run *run);        /* bytes, ever */
/* result.c */
bool result_write(const struct peers_run *run, const char *file);
int peers_run(const struct peers_load *load, double scale, const char *dir, char **systems);

/* --- tell.c, picture.c ---------------------------------------------------------------------------------- */

/* From DIR/raw/LOAD/SYSTEM.json. */
int peers_tell(const char *dir);
bool picture_draw(JsonObject *report, const char *file);

#endif
