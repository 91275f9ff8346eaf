// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Samples of a real QEMU's vCPU, by its page faults: the refault source zaps the guest's memory all the time, the guest
 * touches it again, and each fault's two addresses are looked up. QEMU's own tells the granule at once; the
 * physical one goes through the reverse map, as those of hardware would, and has to say the same; and
 * pagemap is asked which page it is. Then the same from the daemon's side.
 */
#include "host/perf/sampler.h"
#include "host/rmap.h"
#include "rig.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT 30.0
#define PAGE    4096u
#define RAM     (64 * MIB)
#define SAMPLES 3000u           /* enough to tell 99.9 % */

static const struct rom_range spun = { 16 << 20, PAGE, 8192 };

static struct rig *rig_start(const char *name, const char *config)
{
    struct rig *rig = rig_new(name);
    g_autofree char *path = lab_path(rig->lab, "vmtierd.conf");

    g_assert_true(g_file_set_contents(path, config, -1, NULL));
    rig_start_daemon(rig, NULL);
    rig_start_vm(rig, (struct vm_options){ 0 });
    rom_wait_alive(rig->vm, TIMEOUT);
    rom_run(rig->vm, ROM_WRITE, spun, 0, TIMEOUT);
    return rig;
}

/* --- sampled from here ---------------------------------------------------------------------------------------- */

struct live {
    struct rig *rig;
    Event *event;
    struct sampler *sampler;
    struct rmap *map;
    int pagemap;
    guint64 inside, right, unknown, wrong;
    guint64 same_page, other_page;      /* as pagemap shows; the rest was zapped again by then */
};

static void check_page(struct live *l, const struct perf_sample *s)
{
    guint64 entry = 0;

    g_assert_cmpint(pread(l->pagemap, &entry, 8, (off_t)(s->addr / PAGE * 8)), ==, 8);
    if (!(entry >> 63))
        return;
    if ((entry & ((1ull << 55) - 1)) == s->phys_addr / PAGE)
        l->same_page++;
    else
        l->other_page++;
}

static void judge(const struct perf_sample *s, gpointer opaque)
{
    struct live *l = opaque;
    guint64 offset = s->addr - l->rig->vm->ram_at;
    guint32 granule;

    if (offset >= RAM)
        return;
    l->inside++;
    check_page(l, s);
    if (!rmap_find(l->map, s->phys_addr, &granule))
        l->unknown++;
    else if (granule == offset / GRANULE)
        l->right++;
    else
        l->wrong++;
}

static bool live_start(struct live *l)
{
    pid_t pid = l->rig->vm->qemu->pid;
    struct rmap_area all = { l->rig->vm->ram_at, RAM, 0, RAM / GRANULE, PAGE };
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)pid);
    struct vt_err err = { 0 };

    l->event = event_parse("minor-faults", EVENT_DEVICES, NULL);
    l->sampler = sampler_new(l->event, pid, 1e9, &err);
    l->map = l->sampler ? rmap_new(pid, GRANULE, &err) : NULL;
    l->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (!l->map) {
        g_test_skip(err.text);
        return false;
    }
    rmap_set_areas(l->map, &all, 1);
    do
        g_assert_cmpint(rmap_refresh(l->map, 5000, &err), ==, 0);
    while (rmap_is_due(l->map));
    return true;
}

static void live_end(struct live *l)
{
    sampler_free(l->sampler);
    rmap_free(l->map);
    event_free(l->event);
    close(l->pagemap);
    rig_free(l->rig);
}

/* One look, in this order: what is sampled is older than what the map knows then. */
static void look(struct live *l)
{
    struct vt_err err = { 0 };

    if (rmap_refresh(l->map, 5000, &err) || sampler_read(l->sampler, 50000, judge, l, &err))
        g_error("%s", err.text);
    g_usleep(5000);
}

static void collect(struct live *l)
{
    double until = lab_deadline(40);

    l->inside = l->right = l->unknown = l->wrong = l->same_page = l->other_page = 0;
    while (l->inside < SAMPLES && lab_now() < until)
        look(l);
}

static guint64 pages_known(const struct live *l)
{
    struct rmap_stats m;

    rmap_stats(l->map, &m);
    return m.pages;
}

/* Until the map knows so many pages: what the refault source has unmapped, or was moved, has to be touched first. */
static void learn(struct live *l, guint64 pages, double timeout)
{
    double until = lab_deadline(timeout);

    while (pages_known(l) < pages && lab_now() < until)
        look(l);
}

static void ignore(const struct perf_sample *s, gpointer opaque)
{
    (void)s, (void)opaque;
}

/* Samples of pages as they were before a move: these may be other granules' by now. */
static void drop(struct live *l)
{
    struct vt_err err = { 0 };

    for (int i = 0; i < 10; i++)
        if (sampler_read(l->sampler, 50000, ignore, NULL, &err))
            g_error("%s", err.text);
}

/* What is moved is in QEMU's page table, and so in the map, when it is touched again. */
static void move(struct live *l, guint granules)
{
    g_autoptr(JsonObject) moved = NULL;
    guint64 known = pages_known(l);

    rig_move(l->rig, spun.base, granules * GRANULE, "cxl");
    moved = qmp_wait_event(l->rig->vm->qmp, "X_VMTIER_MOVED", TIMEOUT);
    g_assert_nonnull(moved);
    drop(l);
    for (guint32 g = 0; g < granules; g++)
        rmap_moved(l->map, (guint32)(spun.base / GRANULE) + g);
    learn(l, known, 20);
    g_assert_cmpuint(l->wrong, ==, 0);
}

/* What it does not find makes the map look again, and then it has to know. What is wrong is so the first time. */
static void collect_known(struct live *l)
{
    for (int i = 0; i < 3; i++) {
        collect(l);
        if (l->wrong || l->right * 1000 >= l->inside * 999)
            return;
        g_test_message("%" PRIu64 " of %" PRIu64 " samples were not found: once more", l->unknown, l->inside);
        learn(l, spun.count, 40);
    }
}

static void report(const struct live *l)
{
    struct sampler_stats p;
    struct rmap_stats m;

    sampler_stats(l->sampler, &p);
    rmap_stats(l->map, &m);
    g_test_message("%u threads, %" PRIu64 " samples of RAM: %" PRIu64 " right, %" PRIu64 " unknown, %" PRIu64 " wrong; "
                   "pagemap: %" PRIu64 " the same page, %" PRIu64 " another; %" PRIu64 " lost; map: %" PRIu64
                   " pages, %.2f bytes each, %" PRIu64 " sweeps", p.threads, l->inside, l->right, l->unknown,
                   l->wrong, l->same_page, l->other_page, p.counts.lost, m.pages,
                   (double)m.bytes / (double)m.pages, m.sweeps);
}

static void check(const struct live *l)
{
    struct sampler_stats p;

    sampler_stats(l->sampler, &p);
    report(l);
    g_assert_cmpuint(l->inside, >=, SAMPLES);
    g_assert_cmpuint(l->right * 1000, >=, l->inside * 999);
    g_assert_cmpuint(l->wrong, ==, 0);
    g_assert_cmpuint(l->other_page * 1000, <=, l->same_page);
    g_assert_cmpuint(l->same_page, >, l->inside / 4);
    g_assert_cmpuint(perf_counts_bad(&p.counts), ==, 0);
}

static void test_refaults(void)
{
    struct live l = { .rig = rig_start("perf-live", "[vm default]\nsources=refault\nmode=observe\n") };

    if (live_start(&l)) {
        rom_give(l.rig->vm, ROM_SPIN, spun, 0);
        learn(&l, spun.count, 40);
        collect_known(&l);
        check(&l);
        move(&l, 4);            /* of the sixteen that are touched */
        collect_known(&l);
        check(&l);
        rom_stop_spin(l.rig->vm, TIMEOUT);
    }
    live_end(&l);
}

/* --- by the daemon -------------------------------------------------------------------------------------------- */

#define IBS "sources.3"

static void test_daemon(void)
{
    struct rig *rig = rig_start("perf-daemon", "[vm default]\nsources=refault,ibs\nibs-event=minor-faults\n"
                                "mode=observe\n");
    g_autoptr(JsonObject) vm = NULL;

    rom_give(rig->vm, ROM_SPIN, spun, 0);
    vm = rig_status(rig);
    g_assert_cmpstr(json_text(vm, IBS ".name"), ==, "ibs");
    if (!rig_reaches(rig, IBS ".events", 500, TIMEOUT)) {
        g_autoptr(JsonObject) now = rig_status(rig);
        JsonNode *error = json_at(now, IBS ".last_error");

        g_assert_false(JSON_NODE_HOLDS_NULL(error));
        g_test_skip(json_node_get_string(error));
    } else {
        g_autoptr(JsonObject) now = rig_status(rig);

        g_test_message("%s", json_text(now, IBS ".detail"));
        g_assert_true(json_flag(now, IBS ".active"));
        g_assert_false(json_flag(now, IBS ".drives_placement"));
        g_assert_cmpstr(json_text(now, IBS ".kind"), ==, "accesses");
    }
    rom_stop_spin(rig->vm, TIMEOUT);
    rig_free(rig);
}

/* Where no PMU samples accesses, that is said, and the other sources go on. */
static void test_unavailable(void)
{
    struct rig *rig = rig_start("perf-none", "[vm default]\nsources=refault,ibs\nmode=observe\n");
    g_autoptr(JsonObject) vm = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *event = event_default(EVENT_DEVICES, &error);

    rom_give(rig->vm, ROM_SPIN, spun, 0);
    g_assert_true(rig_reaches(rig, "sources.0.events", 1, TIMEOUT));
    rom_stop_spin(rig->vm, TIMEOUT);
    vm = rig_status(rig);
    if (event) {
        g_test_skip("this host samples accesses");
    } else {
        g_assert_cmpstr(json_text(vm, IBS ".state"), ==, "unavailable");
        g_assert_cmpstr(json_text(vm, IBS ".reason"), ==, error->message);
        g_assert_nonnull(strstr(json_text(vm, IBS ".enable"), "IBS"));
    }
    rig_free(rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/perf/refaults", test_refaults);
    g_test_add_func("/perf/daemon", test_daemon);
    g_test_add_func("/perf/unavailable", test_unavailable);
    return g_test_run();
}
