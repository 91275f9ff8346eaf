// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is seen while the demo runs.
 *
 * On a terminal a block of lines is drawn over itself, each draw as one write, so that nothing
 * flickers; the block is the last thing on the screen. Elsewhere there is a plain line every two
 * seconds, in TAP a comment.
 */
#include "demo.h"

#include "host/cli/format.h"
#include "host/cli/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_S 2.0                  /* between plain lines */
#define DRAW_S 0.2
#define BAR 40                      /* cells */
#define SHOWN_HIT_S 1.0             /* the ratio on the screen is of so much time */

#define BOLD "\033[1m"
#define SOFT "\033[2m"
#define WARM "\033[33m"
#define COOL "\033[34m"
#define GOOD "\033[32m"
#define PLAIN "\033[0m"

struct screen {
    bool live;
    const char *prefix;             /* of plain lines */
    unsigned lines;                 /* of the block as it stands */
    double due;
};

static const struct {
    const char *key, *title;
    double seconds;                 /* it usually takes */
} phases[] = {
    [PHASE_BOOT] = { "boot", "boot and populate", 10 },
    [PHASE_FIRST_TOUCH] = { "first_touch", "first touch, no moves", 3 },
    [PHASE_SETTLE] = { "settle", "settle", 27 },
    [PHASE_SHIFT] = { "shift", "another hot set", 30 },
    [PHASE_STRESS] = { "stress", "more page moves", 20 },
    [PHASE_SWEEP] = { "sweep", "check every page", 3 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(phases) == PHASE_COUNT);

const char *phase_key(enum phase phase)
{
    return phases[phase].key;
}

const char *phase_title(enum phase phase)
{
    return phases[phase].title;
}

struct screen *screen_new(const struct demo *d)
{
    struct screen *s = g_new0(struct screen, 1);

    s->live = isatty(STDOUT_FILENO) && !d->options.tap;
    s->prefix = d->options.tap ? "# " : "";
    if (s->live)
        fputs("\033[?25l", stdout);
    return s;
}

void screen_free(struct screen *s)
{
    if (s->live)
        fputs("\033[?25h", stdout);
    fflush(stdout);
    g_free(s);
}

/* Back to the block's first line, and nothing below it. */
static void wipe(struct screen *s)
{
    if (s->lines)
        printf("\033[%uA\r\033[J", s->lines);
    s->lines = 0;
}

void screen_say(struct screen *s, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    wipe(s);
    printf("%s%s\n", s->prefix, text);
    fflush(stdout);
}

/* --- parts ----------------------------------------------------------------------------------- */

static char *percent(double share)
{
    return share < 0 ? g_strdup("    - ") : g_strdup_printf("%5.1f %%", 100 * share);
}

/* The ratio from READY up to now, in as many cells as there are. */
static char *sparkline(const struct demo *d, unsigned cells)
{
    static const char *const steps[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    static const char *const ascii[] = { "0", "1", "2", "3", "4", "5", "6", "7" };
    const char *const *mark = g_get_charset(NULL) ? steps : ascii;
    double now = demo_now(d), each = MAX(now - d->ready, 1.0) / cells;
    GString *out = g_string_new(NULL);

    for (unsigned i = 0; d->ready > 0 && i < cells; i++) {
        double hit = measure_hit(d, d->ready + each * (i + 1), MAX(each, 0.6), NULL);

        g_string_append(out, hit < 0 ? " " : mark[(unsigned)CLAMP(hit * 8, 0, 7)]);
    }
    return g_string_free(out, FALSE);
}

static double progress(const struct demo *d, enum phase phase)
{
    const struct phase_run *run = &d->runs[phase];

    if (run->end > 0)
        return 1;
    return run->start > 0 ? MIN((demo_now(d) - run->start) / phases[phase].seconds, 0.99) : 0;
}

static void put_line(GString *out, struct screen *s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void put_line(GString *out, struct screen *s, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    g_string_append_vprintf(out, format, ap);
    va_end(ap);
    g_string_append(out, "\033[K\n");
    s->lines++;
}

static void put_tier(GString *out, struct screen *s, const char *name, const char *colour,
                     uint64_t bytes, uint64_t most)
{
    g_autofree char *bar = fmt_bar((double)bytes / (double)most, BAR);
    g_autofree char *size = fmt_size((gint64)bytes), *full = fmt_size((gint64)most);

    put_line(out, s, "  %-5s %s%s" PLAIN " %8s of %s", name, colour, bar, size, full);
}

static void put_memory(GString *out, struct screen *s, const struct demo *d)
{
    const struct point *p = measure_last(d);
    double hit = measure_hit(d, demo_now(d), SHOWN_HIT_S, NULL);
    g_autofree char *spark = sparkline(d, BAR), *ratio = percent(hit);

    put_tier(out, s, "DRAM", WARM, p->dram_bytes, QUOTA_BYTES);
    put_tier(out, s, "CXL", COOL, p->cxl_bytes, RAM_BYTES - QUOTA_BYTES);
    put_line(out, s, "  %-5s %s%s" PLAIN " %s %s", d->sampled ? "hits" : "hot",
             hit >= HIT_WANTED ? GOOD : "", spark, ratio, d->sampled ? "from DRAM" : "in DRAM");
}

static void put_counts(GString *out, struct screen *s, const struct demo *d)
{
    const struct point *p = measure_last(d);
    double gap = d->guest.ready ? guest_longest_gap(d->vm->guest) : 0;

    put_line(out, s, "  moves %.0f MB/s, %" PRIu64 " pages so far" SOFT "   rounds %" PRIu64
             " at %.1f ms" PLAIN, p->move_bytes_per_s / 1e6, p->pages, p->rounds,
             js_num(d->vm_now, "round_ms_p50"));
    put_line(out, s, "  guest %" PRIu64 " pages verified, %" PRIu64 " bad" SOFT
             "   longest silence %.0f ms" PLAIN, d->guest.verified, d->guest.bad, gap);
}

static void put_phase(GString *out, struct screen *s, const struct demo *d, enum phase phase)
{
    const struct phase_run *run = &d->runs[phase];
    g_autofree char *bar = fmt_bar(progress(d, phase), 30), *time = NULL;

    if (run->start > 0)
        time = g_strdup_printf("%5.1f s", (run->end > 0 ? run->end : demo_now(d)) - run->start);
    put_line(out, s, "  %s%-22s %s %s" PLAIN, d->phase == phase ? BOLD : SOFT,
             phase_title(phase), bar, time ? time : "");
}

static void put_all(GString *out, struct screen *s, const struct demo *d)
{
    put_line(out, s, "%s", "");
    put_memory(out, s, d);
    put_counts(out, s, d);
    put_line(out, s, "%s", "");
    for (enum phase p = 0; p < PHASE_COUNT; p++)
        if (p != PHASE_STRESS || d->runs[p].start > 0)
            put_phase(out, s, d, p);
}

/* --- drawing --------------------------------------------------------------------------------- */

/* The new block over the old one; lines the new one has not are wiped. */
static void draw_live(struct screen *s, const struct demo *d)
{
    g_autoptr(GString) out = g_string_new(NULL);

    if (s->lines)
        g_string_append_printf(out, "\033[%uA\r", s->lines);
    s->lines = 0;
    put_all(out, s, d);
    g_string_append(out, "\033[J");
    fwrite(out->str, 1, out->len, stdout);
    fflush(stdout);
}

static void draw_line(const struct screen *s, const struct demo *d)
{
    const struct point *p = measure_last(d);
    g_autofree char *hit = percent(measure_hit(d, demo_now(d), SHOWN_HIT_S, NULL));

    printf("%s%5.1f s  %-21s  %-4s %s  DRAM %3.0f MiB  CXL %3.0f MiB  %4.0f MB/s  %6" PRIu64
           " pages  %3" PRIu64 " rounds\n", s->prefix, p->t, phase_title(d->phase),
           d->sampled ? "hits" : "hot", hit, (double)p->dram_bytes / MIB,
           (double)p->cxl_bytes / MIB, p->move_bytes_per_s / 1e6, p->pages, p->rounds);
    fflush(stdout);
}

void screen_finish(struct screen *s, const struct demo *d)
{
    s->due = 0;
    screen_draw(s, d);
}

void screen_draw(struct screen *s, const struct demo *d)
{
    double now = demo_now(d);

    if (now < s->due)
        return;
    s->due = now + (s->live ? DRAW_S : LINE_S);
    if (s->live)
        draw_live(s, d);
    else
        draw_line(s, d);
}
