// SPDX-License-Identifier: GPL-2.0-or-later
/* What the demo found against what is wanted, for people and as TAP. */
#include "demo.h"

#include "host/cli/format.h"

#include <stdio.h>
#include <unistd.h>

#define LOOKS_PER_S 5.0

struct criterion {
    const char *name, *wanted;
    bool ok;
    char *found;
};

static struct criterion of_hit(const struct demo *d, const char *name, const struct hit *hit,
                               double wanted)
{
    double value = measure_judged(d, hit);
    struct criterion c = { name, wanted > 0 ? "at least 0.95" : "reported", value >= wanted, NULL };

    if (value < 0)
        c.found = g_strdup("not known");
    else if (d->sampled)
        c.found = g_strdup_printf("%.4f of %" PRIu64 " samples", value, hit->samples);
    else
        c.found = g_strdup_printf("%.4f of the granules", value);
    return c;
}

static struct criterion of_peak(const struct demo *d)
{
    g_autofree char *peak = fmt_size((gint64)d->peak_bytes);

    return (struct criterion) { "dram_bytes_peak", "at most the quota of 256 MiB",
        d->peak_bytes > 0 && d->peak_bytes <= QUOTA_BYTES && d->looks_per_s >= LOOKS_PER_S,
        g_strdup_printf("%s, %.0f looks a second", peak, d->looks_per_s) };
}

static struct criterion of_pages(const struct demo *d)
{
    uint64_t bad = MAX(d->guest.sweep_bad, d->guest.bad);

    return (struct criterion) { "guest_bad_pages", "0", d->guest.swept && !bad,
        g_strdup_printf("%" PRIu64 " of %" PRIu64, bad, d->guest.sweep_pages) };
}

static struct criterion of_moves(const struct demo *d)
{
    uint64_t pages = measure_last(d)->pages - d->pages_at_ready;

    return (struct criterion) { "page_moves", "at least 20000", pages >= PAGES_WANTED,
        g_strdup_printf("%" PRIu64, pages) };
}

/* In the order they are told; returns how many. */
static unsigned judge(const struct demo *d, struct criterion *c)
{
    unsigned n = 0;

    c[n++] = of_hit(d, "dram_hit_first_touch", &d->first_touch, 0);
    c[n++] = of_hit(d, "dram_hit_steady", &d->steady, HIT_WANTED);
    c[n++] = of_hit(d, "dram_hit_after_shift", &d->after_shift, HIT_WANTED);
    c[n++] = of_peak(d);
    c[n++] = of_pages(d);
    c[n++] = of_moves(d);
    c[n++] = (struct criterion) { REPORT_FILE, "valid", report_is_valid(), g_strdup("") };
    c[n++] = (struct criterion) { HEATMAP_FILE, "valid", report_heatmap_is_valid(), g_strdup("") };
    return n;
}

static void print_text(const struct criterion *c)
{
    bool colour = isatty(STDOUT_FILENO);
    const char *on = !colour ? "" : c->ok ? "\033[32m" : "\033[1;31m";
    const char *off = colour ? "\033[0m" : "";

    printf("  %s%-6s%s %-21s %-30s %s\n", on, c->ok ? "ok" : "FAILED", off, c->name, c->found,
           c->wanted);
}

unsigned verdict_print(const struct demo *d)
{
    struct criterion c[16];
    unsigned n = judge(d, c), failed = 0;

    if (d->options.tap)
        printf("1..%u\n", n);
    else
        printf("\n  %-6s %-21s %-30s %s\n", "", "what", "found", "wanted");
    for (unsigned i = 0; i < n; i++) {
        if (d->options.tap)
            printf("%s %u - %s: %s, wanted: %s\n", c[i].ok ? "ok" : "not ok", i + 1, c[i].name,
                   c[i].found, c[i].wanted);
        else
            print_text(&c[i]);
        failed += !c[i].ok;
        g_free(c[i].found);
    }
    return failed;
}
