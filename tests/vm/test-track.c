// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Placement by survival probes alone, judged by what they do not see.
 *
 * A guest that is emulated is sampled, and the samples are kept away from placement (sample-use=measure):
 * they tell which share of the accesses DRAM served, and which share the best placement of the same
 * accesses would have had in as much DRAM: the oracle, who knows afterwards what was to come. The
 * share of the one in the other is what counts: on a hot set that stays, and after it has jumped.
 *
 * How soon after a jump depends on what else the machine has to do: half of an emulated guest's speed is
 * half of its touches, and where a page fault costs a multiple of the usual, the guest's budget buys as many
 * probes less. So a test among others waits until placement has begun to follow, and asks no more. With
 * VMTIER_TRACK_LONG in the environment there are both releases of QEMU, the demo's guest, three jumps, and the
 * share and the time that there should be on a machine that has nothing else to do. VMTIER_TRACK_SEED is the
 * guest's, and VMTIER_TRACK_RECORD a directory for recordings of what the probes told, for `vmtier replay`.
 *
 * timeout: 500
 */
#include "rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define BOOT_TIMEOUT  90.0
#define STABLE_SHARE  0.95
#define CALM_SHARE    0.50      /* the same in the short form; the first touch alone gives 0.4 */
#define SHIFT_SHARE   0.90
#define BUSY_SHARE    0.40      /* on a machine that has other things to do; before anything moves it is 0.25 */
#define WINDOW_S      2.0       /* over which a share is taken while it is waited for */
#define STABLE_S      5.0       /* ... and when it is to stay */
#define SHIFT_S       10.0
#define PATIENCE      120.0
#define SAMPLES_LEAST 2000

struct form {
    const char *qemu, *append, *ram, *quota;
    uint64_t quota_bytes;
    unsigned jumps;
    double share, deadline;     /* of the oracle, after a jump */
};

static bool is_long(void)
{
    return g_getenv("VMTIER_TRACK_LONG") != NULL;
}

/* --- hits, and what they could have been ---------------------------------------------------- */

struct counts {
    guint n;
    uint64_t *dram, *cxl;
    uint64_t granule;
    double at;
};

static uint64_t *take_list(JsonObject *o, const char *key, guint n)
{
    JsonArray *array = json_object_get_array_member(o, key);
    uint64_t *list = g_new0(uint64_t, n);

    for (guint i = 0; i < n; i++)
        list[i] = (uint64_t)json_array_get_int_element(array, i);
    return list;
}

static struct counts *count_now(struct vt_daemon *d)
{
    g_autoptr(JsonNode) node = qmp_ok(d->qmp, "query-vmtier-samples", "{\"vm\":\"vm\"}");
    JsonObject *o = json_node_get_object(node);
    struct counts *c = g_new0(struct counts, 1);

    c->n = json_array_get_length(json_object_get_array_member(o, "dram"));
    c->dram = take_list(o, "dram", c->n);
    c->cxl = take_list(o, "cxl", c->n);
    c->granule = (uint64_t)json_int(o, "granule_bytes");
    c->at = lab_now();
    return c;
}

static void counts_free(struct counts *c)
{
    g_free(c->dram);
    g_free(c->cxl);
    g_free(c);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? 1 : x > y ? -1 : 0;
}

struct share {
    double hit, oracle;         /* of all accesses */
    uint64_t samples;
};

static struct share share_between(const struct counts *a, const struct counts *b, uint64_t quota)
{
    g_autofree uint64_t *all = g_new0(uint64_t, b->n);
    uint64_t dram = 0, best = 0, total = 0;

    g_assert_cmpuint(a->n, ==, b->n);
    for (guint g = 0; g < b->n; g++) {
        all[g] = b->dram[g] - a->dram[g] + b->cxl[g] - a->cxl[g];
        dram += b->dram[g] - a->dram[g];
        total += all[g];
    }
    qsort(all, b->n, sizeof(all[0]), by_size);
    for (guint g = 0; g < b->n && g < quota / b->granule; g++)
        best += all[g];
    return (struct share){ (double)dram / (double)MAX(total, 1), (double)best / (double)MAX(total, 1),
                           total };
}

/* Of the next seconds; longer if there are too few samples. */
static double share_of(struct vt_daemon *d, const struct form *form, double seconds)
{
    struct counts *from = count_now(d), *to;
    struct share s = { 0 };

    for (int i = 0; i < 10 && s.samples < SAMPLES_LEAST; i++) {
        lab_sleep(seconds);
        to = count_now(d);
        s = share_between(from, to, form->quota_bytes);
        counts_free(to);
    }
    counts_free(from);
    g_assert_cmpuint(s.samples, >=, SAMPLES_LEAST);
    g_test_message("%.4f of all accesses in dram, the oracle %.4f: share %.4f (%" PRIu64 " samples)",
                   s.hit, s.oracle, s.hit / s.oracle, s.samples);
    return s.hit / s.oracle;
}

/* Seconds until a window of WINDOW_S reaches the share. */
static double time_to(struct vt_daemon *d, const struct form *form, double share, double patience)
{
    double start = lab_now();

    while (share_of(d, form, WINDOW_S) < share)
        if (lab_now() > start + patience)
            g_error("%.2f of the oracle was not reached in %.0f s", share, patience);
    return lab_now() - start;
}

/* --- what ran --------------------------------------------------------------------------------- */

/* Only probes have placed anything; and what they cost is told. */
static void check_sources(struct vt_daemon *d)
{
    g_autoptr(JsonObject) vm = daemon_vm(d, "vm");
    JsonArray *sources = json_object_get_array_member(vm, "sources");

    for (guint i = 0; i < json_array_get_length(sources); i++) {
        JsonObject *s = json_array_get_object_element(sources, i);
        const char *name = json_text(s, "name");

        if (json_flag(s, "active"))
            g_test_message("%s: %" G_GINT64_FORMAT " events, %.1f ms of CPU, %.1f ms of the vCPUs", name,
                           json_int(s, "events"), json_object_get_double_member(s, "cpu_ms"),
                           json_object_get_double_member(s, "vcpu_ms"));
        g_assert_cmpint(json_flag(s, "drives_placement"), ==, strcmp(name, "refault") == 0);
    }
}

/* NULL: nobody asked for a recording. */
static struct child *start_recording(struct vt_daemon *d)
{
    static unsigned runs;
    const char *dir = g_getenv("VMTIER_TRACK_RECORD");
    g_autofree char *file = g_strdup_printf("%s/track-%u.vmtrace", dir ? dir : "", runs++);
    g_autofree char *vmtier = lab_built("vmtier");
    const char *const argv[] = { vmtier, "--socket", d->qmp_socket, "record", "vm", "-o", file, NULL };

    return dir ? child_start(d->lab, "record", argv) : NULL;
}

static void end_recording(struct child *recording)
{
    if (!recording)
        return;
    child_kill(recording, SIGINT);
    child_wait(recording, 20);
    child_free(recording);
}

static void run(const struct form *form)
{
    const double calm = is_long() ? STABLE_SHARE : CALM_SHARE;
    g_autoptr(Lab) lab = lab_new("track");
    const char *const arguments[] = { "--quota", form->quota, "--rate", "1G", NULL };
    g_autofree char *config = lab_path(lab, "vmtierd.conf");

    g_assert_true(g_file_set_contents(config, "[vm vm]\nsources=refault,sample\nsample-use=measure\n", -1,
                                      NULL));
    g_autoptr(Daemon) daemon = daemon_start(lab, arguments);
    g_autofree char *plugin = daemon_plugin(daemon, "vm");
    const char *seed = g_getenv("VMTIER_TRACK_SEED");
    g_autofree char *append = g_strdup_printf("%s vmt.seed=%s", form->append, seed ? seed : "1");
    g_autoptr(Vm) vm = vm_start(lab, "vm", &(struct vm_options){
        .qemu = form->qemu, .ram = form->ram, .append = append, .plugin = plugin });
    struct child *recording = start_recording(daemon);

    g_free(guest_expect(vm->guest, "VMT READY", BOOT_TIMEOUT));
    g_test_message("stable after %.1f s", time_to(daemon, form, calm, PATIENCE));
    if (is_long())
        g_assert_cmpfloat(share_of(daemon, form, STABLE_S), >=, calm);
    for (unsigned i = 0; i < form->jumps; i++) {
        g_array_unref(guest_shift(vm->guest, 10));
        g_test_message("the hot set has jumped");
        double took = time_to(daemon, form, form->share, PATIENCE);

        g_test_message("%.2f of the oracle %.1f s after a jump", form->share, took);
        g_assert_cmpfloat(took, <=, form->deadline);
        if (is_long())
            time_to(daemon, form, STABLE_SHARE, PATIENCE);
    }
    check_sources(daemon);
    g_assert_cmpuint(guest_sweep(vm->guest, 60), ==, 0);
    end_recording(recording);
}

static void test_short(void)
{
    run(&(struct form){ .append = "vmt.foot=320M vmt.hot=64M", .ram = "512M", .quota = "128M",
                        .quota_bytes = 128 << 20, .jumps = 1, .share = BUSY_SHARE,
                        .deadline = 2 * PATIENCE });
}

static void run_long(const char *qemu)
{
    run(&(struct form){ .qemu = qemu, .append = "vmt.foot=700M vmt.hot=160M", .ram = "1G",
                        .quota = "256M", .quota_bytes = 256 << 20, .jumps = 3, .share = SHIFT_SHARE,
                        .deadline = SHIFT_S });
}

static void test_long(void)
{
    run_long(NULL);
}

static void test_long10(void)
{
    g_autofree char *qemu = vm_qemu10();

    run_long(qemu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/track/probes-alone", test_short);
    if (is_long()) {
        g_test_add_func("/track/long", test_long);
        g_test_add_func("/track/long/qemu10", test_long10);
    }
    return g_test_run();
}
