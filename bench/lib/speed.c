// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Speed: bytes moved per second of CPU time, against memcpy() of as many bytes in the same run.
 *
 * A round copies everything with memcpy() in chunks of a granule, between two areas of the same
 * backing, then moves everything to the other tier; both again for the way back. A repetition is as
 * many rounds as take a tenth of a second. Between moves all of the memory is touched, which is not
 * counted: a guest has its memory mapped, and tearing that down is part of a move.
 *
 * The time of moves is the process's CPU time, as nothing else runs in it: whatever threads the
 * mover has are counted. That of memcpy() is the sum of its threads' CPU time.
 */
#include "bench/lib/move.h"
#include "common/clock.h"

#include <string.h>

#define SIZE        (128ull << 20)
#define SIZE_4K     (64ull << 20)       /* every other page moved: as many mappings as pages */
#define REP_NS      100000000u
#define COPIERS_MAX 8u

struct copier {
    uint8_t *to;
    const uint8_t *from;
    guint64 size, chunk, cpu_ns;
};

struct speed {
    const struct bench_case *c;
    struct bench_memory m;
    uint8_t *from, *to;
    struct vt_move_one *moves;
    guint64 copy_ns, copy_wall, move_ns, move_wall, bytes;
    guint8 tier, status;
};

static gpointer copy_chunks(gpointer data)
{
    struct copier *c = data;
    guint64 start = cpu_ns();

    for (guint64 at = 0; at < c->size; at += c->chunk)
        memcpy(c->to + at, c->from + at, c->chunk);
    c->cpu_ns = cpu_ns() - start;
    return NULL;
}

static void copy_all(struct speed *s)
{
    guint n = CLAMP(s->c->threads, 1, COPIERS_MAX);
    guint64 start = clock_ns(CLOCK_MONOTONIC), part = s->m.size / n;
    struct copier copier[COPIERS_MAX] = { 0 };
    GThread *thread[COPIERS_MAX];

    for (guint i = 0; i < n; i++) {
        copier[i] = (struct copier){ s->to + i * part, s->from + i * part, part, s->c->granule, 0 };
        thread[i] = i ? g_thread_new("copy", copy_chunks, &copier[i]) : NULL;
    }
    copy_chunks(&copier[0]);
    for (guint i = 1; i < n; i++)
        g_thread_join(thread[i]);
    s->copy_wall += clock_ns(CLOCK_MONOTONIC) - start;
    for (guint i = 0; i < n; i++)
        s->copy_ns += copier[i].cpu_ns;
}

/* Every granule, so ordered that `run` of them are neighbours and the next ones are not. */
static guint32 order(const struct speed *s, struct vt_move_one *out)
{
    guint32 run = (guint32)MAX(s->c->run_bytes / s->c->granule, 1), n = 0;
    const struct ram_block *b = s->m.b;

    for (guint32 half = 0; half < 2; half++)
        for (guint32 g = half * run; g < b->count; g += 2 * run)
            for (guint32 i = 0; i < run && g + i < b->count; i++)
                out[n++] = (struct vt_move_one){ .granule = b->first + g + i, .tier = s->tier };
    return n;
}

static bool move_all(struct speed *s)
{
    guint32 n;
    guint64 wall, cpu;
    bool ok;

    s->tier = !s->tier;
    n = order(s, s->moves);
    bench_memory_touch(&s->m);
    wall = clock_ns(CLOCK_MONOTONIC);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    ok = bench_move(s->moves, n, &s->status);
    s->move_ns += clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    s->move_wall += clock_ns(CLOCK_MONOTONIC) - wall;
    s->bytes += s->m.size;
    return ok;
}

static bool there_and_back(struct speed *s)
{
    for (int i = 0; i < 2; i++) {
        copy_all(s);
        if (!move_all(s))
            return false;
    }
    return true;
}

static void clear(struct speed *s)
{
    s->copy_ns = s->copy_wall = s->move_ns = s->move_wall = s->bytes = 0;
}

static bool repeat(struct speed *s, struct speed_result *r)
{
    double bytes;

    clear(s);
    while (s->move_ns < REP_NS)
        if (!there_and_back(s))
            return false;
    bytes = (double)s->bytes;
    r->move_gbs[r->reps] = bytes / (double)s->move_ns;
    r->copy_gbs[r->reps] = bytes / (double)s->copy_ns;
    r->wall_gbs[r->reps] = bytes / (double)s->move_wall;
    r->copy_wall_gbs[r->reps] = bytes / (double)s->copy_wall;
    r->ratio[r->reps] = (double)s->copy_ns / (double)s->move_ns;
    r->granule_us += (double)s->move_ns / 1e3 / (bytes / (double)s->c->granule) / s->c->reps;
    r->reps++;
    return true;
}

/* Granules moved one by one, in no order: neighbours are not neighbours in the files any more. */
static bool age(struct speed *s)
{
    guint64 random = 17;

    for (guint32 i = 0; i < 4 * s->m.b->count; i++) {
        struct vt_move_one m = bench_toggle(&s->m, bench_random(&random) % s->m.b->count);

        if (!bench_move(&m, 1, &s->status))
            return false;
    }
    return true;
}

/* The first round makes what later ones find: pools, page tables, warm memory of the host. */
static bool measure(struct speed *s, struct speed_result *r)
{
    guint64 before[MOVER_STEPS], after[MOVER_STEPS];
    double granules = 0;

    if ((s->c->aged && !age(s)) || !there_and_back(s))
        return false;
    bench_step_ns(before);
    for (guint i = 0; i < s->c->reps; i++) {
        if (!repeat(s, r))
            return false;
        granules += (double)s->bytes / (double)s->c->granule;
    }
    bench_step_ns(after);
    for (guint i = 0; i < MOVER_STEPS; i++)
        r->step_us[i] = (double)(after[i] - before[i]) / 1e3 / granules;
    return true;
}

void bench_speed(const void *what, void *result)
{
    const struct bench_case *c = what;
    struct speed_result *r = result;
    struct speed s = { .c = c };
    guint64 size = c->granule == 4096 && c->run_bytes <= c->granule ? SIZE_4K : SIZE;

    if (!bench_case_open(c, size, &s.m, r->why))
        return;
    r->huge_bytes = s.m.huge_bytes;
    s.from = bench_memory_more(&s.m, size);
    s.to = bench_memory_more(&s.m, size);
    if (!s.from || !s.to) {
        g_snprintf(r->why, sizeof(r->why), "no memory to compare with");
        return;
    }
    s.moves = g_new(struct vt_move_one, s.m.b->count);
    r->ok = measure(&s, r);
    if (!r->ok)
        g_snprintf(r->why, sizeof(r->why), "a move ended with status %u", s.status);
    g_free(s.moves);
}
