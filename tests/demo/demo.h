// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The demo: a VM on a stock QEMU whose memory is tiered, measured from outside and told live.
 *
 *     demo.c       options, start and end
 *     phases.c     boot, first touch, settle, shift, sweep: one after the other
 *     start.c      what the machine has to have; KVM or TCG
 *     memory.c     a thread that looks at the bytes in DRAM all the time
 *     measure.c    what the daemon and the guest say, as a series of points
 *     screen.c     the live terminal, or plain lines
 *     verdict.c    what is good enough
 *     report.c     report.json, series.json and the heat map
 *
 * One thread does everything but look at the memory: while it waits for something it measures and
 * draws when that is due. Times are seconds since the demo's start.
 */
#ifndef VT_DEMO_H
#define VT_DEMO_H

#include "tests/vm/harness.h"

#include <signal.h>

#define DEMO_VM "demo"
#define MIB (1ull << 20)
#define RAM_BYTES (1024 * MIB)
#define QUOTA_BYTES (256 * MIB)
#define FOOT_BYTES (700 * MIB)
#define HOT_BYTES (160 * MIB)
#define HOT_SHARE 95                /* percent of the accesses */
#define HIT_WANTED 0.95
#define PAGES_WANTED 20000          /* page moves, for the check of the guest's pages */
#define HIT_WINDOW_S 3.0            /* a ratio that is reported is over so much time */

enum phase {
    PHASE_BOOT, PHASE_FIRST_TOUCH, PHASE_SETTLE, PHASE_SHIFT, PHASE_STRESS, PHASE_SWEEP, PHASE_COUNT
};

struct phase_run {
    double start, end;              /* 0: not yet */
    double unix_start;
};

/* What is known at one time; counters are totals unless they are said to be of this point. */
struct point {
    double t;
    enum phase phase;
    uint64_t dram_bytes, cxl_bytes;
    uint64_t hot_samples, hot_dram_samples; /* of this point: accesses to the hot set */
    double hot_in_dram;             /* share of the hot set's granules; < 0: not looked at */
    uint64_t pages, moved_bytes, rounds, failed, deferred;
    double move_bytes_per_s;
};

/* The guest's own account. */
struct guest_view {
    bool ready, swept;
    unsigned hot_phase;             /* the newest hot set that was told completely */
    uint64_t ops, verified, bad, sweep_bad, sweep_pages, populate_ms, boot_ms;
};

/* How much of the hot set's use DRAM serves, at the end of a phase. */
struct hit {
    double ratio;                   /* by samples; < 0: not known */
    double placed;                  /* share of its granules that are in DRAM; < 0: not known */
    uint64_t samples;
};

struct demo_options {
    bool tap;
    char *sample_use;               /* "place" or "measure" */
    char *rate;                     /* of the moves, once they are on */
};

struct memory_watch;
struct screen;

struct demo {
    struct demo_options options;
    double start;                   /* lab_now() */
    struct lab *lab;
    struct vt_daemon *daemon;
    struct vm *vm;
    struct memory_watch *memory;
    struct screen *screen;
    const char *accel;              /* for QEMU */
    char *accel_why;
    char *broken;                   /* why the demo cannot go on */

    enum phase phase;
    struct phase_run runs[PHASE_COUNT];
    double ready, moves_on, shifted;
    uint64_t pages_at_ready, moved_at_ready;

    /* measure.c */
    GArray *points;                 /* struct point */
    struct guest_view guest;
    GArray *hot;                    /* struct extent: the hot set now */
    JsonObject *vm_now;             /* what the daemon said last, or NULL */
    uint64_t *seen[2];              /* per granule: samples so far, from DRAM and from CXL */
    guint granules;
    bool sampled;                   /* accesses are sampled: the hit ratio is known */
    double measured, drawn;

    /* results */
    struct hit first_touch, steady, after_shift;
    double heartbeat_gap_ms, daemon_cpu_s, qemu_cpu_s;
    uint64_t peak_bytes, looks;
    double looks_per_s, look_gap_s;
};

/* --- phases.c -------------------------------------------------------------------------------- */

extern volatile sig_atomic_t demo_signal;       /* the signal that interrupted us, or 0 */

double demo_now(const struct demo *demo);
/* False: interrupted, or `broken` says why. */
bool phases_run(struct demo *demo);

/* --- start.c --------------------------------------------------------------------------------- */

/* NULL, or what is missing and what to do about it. */
char *start_missing(void);
/* Sets accel and accel_why; boots a guest for a try where that has to be found out. */
void start_choose_accel(struct demo *demo);

/* --- memory.c -------------------------------------------------------------------------------- */

struct memory_watch *memory_watch_start(pid_t qemu);
uint64_t memory_watch_now(struct memory_watch *watch);
/* Ends the thread, and notes what it saw in the demo's results. */
void memory_watch_end(struct memory_watch *watch, struct demo *demo);

/* --- measure.c ------------------------------------------------------------------------------- */

void measure_init(struct demo *demo);
void measure_free(struct demo *demo);
/* Adds a point. */
void measure(struct demo *demo);
void measure_guest(struct demo *demo);
/* Takes over the guest's hot set; what was sampled up to now counts for the old one. */
void measure_take_hot(struct demo *demo, unsigned phase);
const struct point *measure_last(const struct demo *demo);
/* Share of the hot set served from DRAM (or in DRAM) in the seconds up to t; < 0: not known. */
double measure_hit(const struct demo *demo, double t, double seconds, uint64_t *samples);
/* The same for the last HIT_WINDOW_S up to now, and where the hot set is now. */
struct hit measure_hit_now(struct demo *demo);
/* What is judged: the sampled ratio where there are samples, else the placement. */
double measure_judged(const struct demo *demo, const struct hit *hit);
/* When the hit ratio of a second reached what is wanted, as seconds from `from`; < 0: never. */
double measure_time_to_hit(const struct demo *demo, double from, double until);
double measure_cpu_s(pid_t pid);
const char *measure_how(const struct demo *demo);

/* --- screen.c -------------------------------------------------------------------------------- */

struct screen *screen_new(const struct demo *demo);
void screen_free(struct screen *screen);        /* the terminal is as it was */
/* A line above whatever is drawn. */
void screen_say(struct screen *screen, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void screen_draw(struct screen *screen, const struct demo *demo);       /* if it is time */
void screen_finish(struct screen *screen, const struct demo *demo);     /* for the last time */
const char *phase_key(enum phase phase);
const char *phase_title(enum phase phase);

/* --- verdict.c ------------------------------------------------------------------------------- */

/* Prints it, or TAP; the number of criteria that failed. */
unsigned verdict_print(const struct demo *demo);

/* --- report.c -------------------------------------------------------------------------------- */

#define REPORT_FILE "demo/report.json"
#define SERIES_FILE "demo/series.json"
#define HEATMAP_FILE "demo/heatmap.png"

bool report_write(const struct demo *demo, GError **error);
bool report_draw_heatmap(const struct demo *demo, GError **error);
bool report_is_valid(void);
bool report_heatmap_is_valid(void);

#endif
