// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What sources see of a guest under KVM with nested paging, where an access leaves its mark in KVM's own page tables:
 * the granules that are believed hot are those that the guest uses, and are so again after it has gone on to others.
 *
 * A granule counts as recognised if it is hotter than all are on average. precision: the share of those
 * recognised that the guest uses; recall: the share of those it uses that are recognised. What they come to is
 * told; asked for is less, as a source that looks at little at a time is never wholly right.
 */
#include "nested.h"

#include <string.h>
#include <unistd.h>

#define RAM       (64 * MIB)
#define PRECISION 0.75
#define RECALL    0.75
#define IDLE      "/sys/kernel/mm/page_idle/bitmap"
#define KDAMONDS  "/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds"

/* 16 MiB of 64, and later others; all that is not the guest's own is touched once. */
static const struct rom_range all = { .base = MIB, .stride = 4096, .count = NESTED_COUNTED };
static const struct rom_range first = { .base = 12 * MIB, .stride = 4096, .count = 4096 };
static const struct rom_range second = { .base = 40 * MIB, .stride = 4096, .count = 4096 };

/* --- judging -------------------------------------------------------------------------------------------- */

struct verdict {
    struct rig *rig;
    struct rom_range hot;
    double precision, recall;
};

static bool is_in(struct rom_range range, uint64_t gpa)
{
    return gpa >= range.base && gpa < range.base + (uint64_t)range.count * range.stride;
}

static void judge(struct verdict *v)
{
    g_autoptr(JsonObject) map = ask(v->rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    JsonArray *heat = json_object_get_array_member(map, "heat");
    const guint n = json_array_get_length(heat);
    const uint64_t granule = (uint64_t)json_int(map, "granule_bytes");
    guint hot = 0, found = 0, right = 0;
    double sum = 0;

    for (guint g = 0; g < n; g++)
        sum += json_array_get_double_element(heat, g);
    for (guint g = 0; g < n; g++) {
        bool is = json_array_get_double_element(heat, g) > sum / n, should = is_in(v->hot, g * granule);

        hot += should;
        found += is;
        right += is && should;
    }
    v->precision = found ? (double)right / found : 0;
    v->recall = (double)right / hot;
}

static bool is_recognised(void *opaque)
{
    struct verdict *v = opaque;

    judge(v);
    return v->precision >= PRECISION && v->recall >= RECALL;
}

static void expect(struct rig *rig, struct rom_range hot, const char *what)
{
    struct verdict v = { rig, hot, 0, 0 };
    double start = lab_now();
    bool recognised;

    rom_give(rig->vm, ROM_SPIN, hot, 0);
    recognised = lab_wait(is_recognised, &v, TIMEOUT);
    g_test_message("%s: precision %.2f, recall %.2f after %.1f s", what, v.precision, v.recall, lab_now() - start);
    g_assert_true(recognised);
    nested_wait_rounds(rig, 20);
    judge(&v);
    g_test_message("%s: precision %.2f, recall %.2f 20 rounds later", what, v.precision, v.recall);
    rom_stop_spin(rig->vm, TIMEOUT);
}

/* --- sources -------------------------------------------------------------------------------------------- */

static gint64 events_of(struct rig *rig, const char *source)
{
    g_autoptr(JsonObject) vm = rig_status(rig);
    JsonArray *list = json_object_get_array_member(vm, "sources");

    for (guint i = 0; i < json_array_get_length(list); i++) {
        JsonObject *s = json_array_get_object_element(list, i);

        if (g_str_equal(json_text(s, "name"), source))
            return json_flag(s, "active") ? json_int(s, "events") : -1;
    }
    return -1;
}

/* What a look costs, it costs ten times over where the machine is emulated: so there is ten times the budget. */
static struct rig *start(const char *source)
{
    g_autofree char *config = g_strdup_printf("[vm default]\nquota=100%%\nmode=observe\nsources=%s\n"
                                              "probe-budget-us=25000\n", source);
    struct rig *rig = nested_rom(source, config, (struct vm_options){ 0 });

    rom_run(rig->vm, ROM_WRITE, all, 1, TIMEOUT);
    return rig;
}

/* DAMON's tracepoint: with less, every third interval would be heard of. */
static bool has_event(pid_t pid)
{
    g_autofree char *dir = g_strdup_printf("/proc/%d/fd", (int)pid);
    g_autoptr(GDir) files = g_dir_open(dir, 0, NULL);
    const char *name;
    bool found = false;

    while (!found && files && (name = g_dir_read_name(files))) {
        g_autofree char *path = g_build_filename(dir, name, NULL), *to = g_file_read_link(path, NULL);

        found = to && strstr(to, "[perf_event]");
    }
    return found;
}

static void test_source(gconstpointer source)
{
    g_autoptr(Rig) rig = start(source);

    expect(rig, first, source);
    expect(rig, second, "after it went elsewhere");
    g_assert_cmpint(events_of(rig, source), >, 0);
    g_assert_true(has_event(rig->daemon->process->pid) == g_str_equal(source, "damon"));
    g_assert_cmpint(daemon_stop(rig->daemon), ==, 0);   /* one that is killed does not give DAMON back */
}

static void test_idle(void)
{
    if (access(IDLE, W_OK) == 0)
        test_source("idle");
    else
        g_test_skip("this kernel does not track idle pages, as none of Debian's does: make lab-kernel");
}

/* --- the kernel's DAMON has one user ------------------------------------------------------------------------ */

static gint64 kdamonds(void)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(KDAMONDS, &text, NULL, NULL));
    return g_ascii_strtoll(text, NULL, 10);
}

static bool has_events(void *rig)
{
    return events_of(rig, "damon") > 0;
}

/* A daemon that was killed leaves it running; the next one knows that it is its own, uses it and gives it back. */
static void test_given_back(void)
{
    g_autoptr(Rig) rig = start("damon");

    rom_give(rig->vm, ROM_SPIN, first, 0);
    g_assert_true(lab_wait(has_events, rig, TIMEOUT));
    daemon_kill(rig->daemon);
    g_assert_cmpint(kdamonds(), ==, 1);
    daemon_restart(rig->daemon);
    nested_wait_known(rig);
    g_assert_true(lab_wait(has_events, rig, TIMEOUT));
    g_assert_cmpint(kdamonds(), ==, 1);
    g_assert_cmpint(daemon_stop(rig->daemon), ==, 0);
    g_assert_cmpint(kdamonds(), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/nested/detect/refault", "refault", test_source);
    g_test_add_data_func("/nested/detect/damon", "damon", test_source);
    g_test_add_func("/nested/detect/damon-given-back", test_given_back);
    g_test_add_func("/nested/detect/idle", test_idle);
    return nested_run();
}
