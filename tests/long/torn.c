// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A hundred million page moves under writers and device I/O, on every backing, granule size and kind
 * of destination: is one update lost, or torn? At last two runs that do it wrong on purpose, to show
 * that it would be seen. tests/unit/test-vmm-torn.c is this in seconds.
 *
 *   torn [MILLIONS]      pages to be moved in all, 100 by default: about a quarter of an hour
 *
 * Output: build/long/torn.json, and a line per variant. Exits 1 if there was damage, or if damage
 * that was done was not found.
 */
#include "bench/lib/child.h"
#include "bench/lib/torn.h"

#include <json-glib/json-glib.h>
#include <stdlib.h>

#define HUGE_PAGES 64u
#define SECONDS    3600u        /* of one variant, at most */

/*
 * Shares of all moves, as small granules are slow to move: per cent, of one mode. The one that takes
 * huge pages from the machine is first, and gives them back.
 */
static const struct variant {
    enum bench_backing backing;
    guint64 granule;
    double share;
} variants[] = {
    { BENCH_HUGETLB, 2u << 20, 8.5 },
    { BENCH_4K, 4u << 10, 0.5 },      { BENCH_4K, 64u << 10, 4 },  { BENCH_4K, 2u << 20, 8 },
    { BENCH_THP, 4u << 10, 0.5 },     { BENCH_THP, 64u << 10, 4 }, { BENCH_THP, 2u << 20, 8 },
};

struct totals {
    JsonArray *list;
    guint64 pages, granules, damage, bad_runs;
};

static void set_counts(JsonObject *o, const struct torn_result *r)
{
    const struct {
        const char *name;
        guint64 value;
    } counts[] = {
        { "page_moves", r->pages },         { "granule_moves", r->granules },
        { "deferred", r->deferred },        { "writes", r->writes },
        { "device_reads", r->reads_in },    { "device_writes", r->writes_out },
        { "lost", r->lost },                { "torn", r->torn },
        { "wrong_at_end", r->wrong_at_end }, { "bad_device_reads", r->bad_reads },
        { "bad_device_writes", r->bad_writes },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(counts); i++)
        json_object_set_int_member(o, counts[i].name, (gint64)counts[i].value);
    json_object_set_double_member(o, "seconds", r->seconds);
}

static void print_result(const struct torn_case *c, const struct torn_result *r)
{
    static const char *const harms[] = { "", ", fence off", ", a page put back" };

    g_print("%-17s %4" G_GUINT64_FORMAT "K %-9s%s: ", bench_backing_names[c->backing],
            c->granule >> 10, torn_mode_names[c->mode], harms[c->harm]);
    if (!r->ok) {
        g_print("not run: %s\n", r->why);
        return;
    }
    g_print("%.2fM pages in %.0f s, %" G_GUINT64_FORMAT " deferred, %.1fM writes, I/O %"
            G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT "; lost %" G_GUINT64_FORMAT " torn %"
            G_GUINT64_FORMAT " at end %" G_GUINT64_FORMAT " bad I/O %" G_GUINT64_FORMAT "+%"
            G_GUINT64_FORMAT "\n", (double)r->pages / 1e6, r->seconds, r->deferred,
            (double)r->writes / 1e6, r->reads_in, r->writes_out, r->lost, r->torn, r->wrong_at_end,
            r->bad_reads, r->bad_writes);
}

static struct torn_result run(const struct torn_case *c, struct totals *t)
{
    struct torn_result r = { 0 };
    const char *why = bench_child(torn_run, c, &r, sizeof(r), c->seconds + 60);
    JsonObject *o = json_object_new();

    if (why)
        g_strlcpy(r.why, why, sizeof(r.why));
    print_result(c, &r);
    json_object_set_string_member(o, "backing", bench_backing_names[c->backing]);
    json_object_set_int_member(o, "granule_bytes", (gint64)c->granule);
    json_object_set_string_member(o, "destination", torn_mode_names[c->mode]);
    json_object_set_boolean_member(o, "harmed_on_purpose", c->harm != TORN_NO_HARM);
    if (r.ok)
        set_counts(o, &r);
    else
        json_object_set_string_member(o, "not_run", r.why);
    json_array_add_object_element(t->list, o);
    return r;
}

static void run_modes(const struct variant *v, int disk, double pages, struct totals *t)
{
    for (int mode = 0; mode < TORN_MODES; mode++) {
        const struct torn_case c = {
            .backing = v->backing, .granule = v->granule, .mode = mode, .seconds = SECONDS,
            .pages = (guint64)(pages * v->share / 100), .disk = disk,
        };
        struct torn_result r = run(&c, t);

        t->pages += r.pages;
        t->granules += r.granules;
        t->damage += torn_damage(&r);
        t->bad_runs += !r.ok;
    }
}

static void run_variants(int disk, double pages, struct totals *t)
{
    char why[200];

    for (gsize i = 0; i < G_N_ELEMENTS(variants); i++) {
        bool huge = variants[i].backing == BENCH_HUGETLB;

        if (huge && !bench_huge_take(HUGE_PAGES, why))
            g_print("%s\n", why);
        run_modes(&variants[i], disk, pages, t);
        if (huge)
            bench_huge_give();
    }
}

static void run_harmed(int disk, struct totals *t)
{
    for (int harm = TORN_NO_FENCE; harm <= TORN_REWIND; harm++) {
        const struct torn_case c = {
            .backing = BENCH_4K, .granule = 64u << 10, .mode = TORN_KEPT, .harm = harm,
            .pages = G_MAXUINT64, .seconds = 20, .disk = disk,
        };
        struct torn_result r = run(&c, t);

        t->bad_runs += !torn_damage(&r);
    }
}

static bool write_down(struct totals *t, const char *directory)
{
    g_autofree char *path = g_strdup_printf("%s/torn.json", directory), *text = NULL;
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(GError) error = NULL;
    JsonObject *o = json_object_new();

    json_object_set_int_member(o, "page_moves", (gint64)t->pages);
    json_object_set_int_member(o, "granule_moves", (gint64)t->granules);
    json_object_set_int_member(o, "damage", (gint64)t->damage);
    json_object_set_int_member(o, "runs_that_went_wrong", (gint64)t->bad_runs);
    json_object_set_array_member(o, "variants", t->list);
    json_node_take_object(root, o);
    text = json_to_string(root, TRUE);
    if (g_file_set_contents(path, text, -1, &error))
        return true;
    g_printerr("%s\n", error->message);
    return false;
}

int main(int argc, char **argv)
{
    const char *build = g_getenv("BUILD");
    g_autofree char *directory = g_strdup_printf("%s/long", build ? build : "build");
    double millions = argc > 1 ? g_ascii_strtod(argv[1], NULL) : 100;
    struct totals t = { .list = json_array_new() };
    struct vt_err err = { 0 };
    int disk;

    g_mkdir_with_parents(directory, 0755);
    disk = torn_disk(directory, &err);
    if (disk < 0) {
        g_printerr("%s\n", err.text);
        return 1;
    }
    run_variants(disk, millions * 1e6, &t);
    run_harmed(disk, &t);
    g_print("%.1fM page moves, damage in %" G_GUINT64_FORMAT " places, %" G_GUINT64_FORMAT
            " runs went wrong\n", (double)t.pages / 1e6, t.damage, t.bad_runs);
    return write_down(&t, directory) && !t.damage && !t.bad_runs ? 0 : 1;
}
