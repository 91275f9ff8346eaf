// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest that is being tiered: see tiered.h.
 *
 * QEMU gets a second monitor, so that the thread that keeps moves going and the test do not have to
 * share one.
 */
#include "tiered.h"

#include <string.h>
#include <sys/stat.h>

#define DRAM_FILE "memory-backend-memfd"
#define CXL_FILE  "vmtier-cxl"
#define RATE      (1ull << 30)
#define STIR_BYTES (16u << 20)

/* --- memfds --------------------------------------------------------------------------------- */

unsigned memfd_count(pid_t pid, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);
    g_autofree char *start = g_strconcat("/memfd:", name, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    const char *entry;

    while (dir && (entry = g_dir_read_name(dir))) {
        g_autofree char *fd = g_build_filename(path, entry, NULL);
        g_autofree char *target = g_file_read_link(fd, NULL);
        struct stat st;

        if (target && g_str_has_prefix(target, start) && stat(fd, &st) == 0)
            g_hash_table_add(seen, GSIZE_TO_POINTER(st.st_ino));
    }
    return g_hash_table_size(seen);
}

struct watch {
    GThread *thread;
    gint stop;                      /* atomic */
    pid_t qemu;
    uint64_t quota, peak;
    unsigned samples;
    double start;
};

static gpointer watch_memory(gpointer arg)
{
    struct watch *w = arg;

    while (!g_atomic_int_get(&w->stop)) {
        w->peak = MAX(w->peak, memfd_bytes(w->qemu, DRAM_FILE));
        w->samples++;
        g_usleep(50000);
    }
    return NULL;
}

struct watch *watch_start(pid_t qemu, uint64_t quota)
{
    struct watch *w = g_new0(struct watch, 1);

    w->qemu = qemu;
    w->quota = quota;
    w->start = lab_now();
    w->thread = g_thread_new("watch", watch_memory, w);
    return w;
}

void watch_end(struct watch *w)
{
    g_atomic_int_set(&w->stop, 1);
    g_thread_join(w->thread);
    double seconds = lab_now() - w->start;

    g_test_message("dram_bytes_peak=%" PRIu64 " quota_bytes=%" PRIu64 " in %u samples, %.1f s",
                   w->peak, w->quota, w->samples, seconds);
    g_assert_cmpuint(w->peak, >, 0);
    g_assert_cmpuint(w->peak, <=, w->quota);
    g_assert_cmpfloat(w->samples, >=, seconds);
    g_free(w);
}

/* --- a tiered VM ---------------------------------------------------------------------------- */

static char *monitor_of(struct tiered *t, const char *name)
{
    g_autofree char *file = g_strconcat(name, ".qmp2", NULL);

    return lab_path(t->lab, file);
}

struct vm *tiered_vm(struct tiered *t, const char *name, const struct tiered_options *o)
{
    g_autoptr(GPtrArray) extra = g_ptr_array_new();
    g_autofree char *plugin = daemon_plugin(t->daemon, name);
    g_autofree char *path = monitor_of(t, name);
    g_autofree char *monitor = g_strdup_printf("unix:%s,server=on,wait=off", path);

    g_ptr_array_add(extra, (gpointer)"-qmp");
    g_ptr_array_add(extra, monitor);
    for (const char *const *arg = o->extra; arg && *arg; arg++)
        g_ptr_array_add(extra, (gpointer)*arg);
    g_ptr_array_add(extra, NULL);
    return vm_start(t->lab, name, &(struct vm_options){
        .qemu = o->qemu, .ram = o->ram, .memory = o->memory, .append = o->append,
        .plugin = plugin, .extra = (const char *const *)extra->pdata });
}

struct tiered *tiered_new(const struct tiered_options *o)
{
    struct tiered *t = g_new0(struct tiered, 1);
    const char *const arguments[] = { "--quota", o->quota, "--rate", o->rate ? o->rate : "1G", NULL };

    t->lab = lab_new(o->lab);
    t->name = "vm";
    t->quota = g_ascii_strtoull(o->quota, NULL, 10) * MIB;
    t->monitor = monitor_of(t, t->name);
    t->daemon = daemon_start(t->lab, arguments);
    t->vm = tiered_vm(t, t->name, o);
    t->watch = watch_start(t->vm->qemu->pid, t->quota);
    g_free(guest_expect(t->vm->guest, "VMT READY", BOOT_TIMEOUT));
    tiered_check(t, 5);
    return t;
}

void tiered_free(struct tiered *t)
{
    if (t->watch)
        watch_end(t->watch);
    if (t->vm)
        vm_free(t->vm);
    daemon_free(t->daemon);
    lab_free(t->lab);
    g_free(t->monitor);
    g_free(t);
}

/* --- is the daemon's account right? --------------------------------------------------------- */

static JsonObject *query(struct vm *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "x-vmtier-query", NULL);

    return json_object_ref(json_node_get_object(node));
}

uint64_t tiered_granules(struct vm *vm, const char *tier)
{
    g_autoptr(JsonObject) all = query(vm);
    JsonArray *blocks = json_object_get_array_member(all, "blocks");
    uint64_t n = 0;

    for (guint i = 0; i < json_array_get_length(blocks); i++) {
        JsonObject *block = json_array_get_object_element(blocks, i);

        if (json_object_get_boolean_member(block, "present"))
            n += (uint64_t)json_object_get_int_member(
                json_object_get_object_member(block, "tiers"), tier);
    }
    return n;
}

uint64_t tiered_pages(struct vm *vm)
{
    g_autoptr(JsonObject) all = query(vm);

    return (uint64_t)json_object_get_int_member(json_object_get_object_member(all, "moves"), "pages");
}

/* False if the daemon does not know the VM. */
static bool set_rate(struct tiered *t, uint64_t bytes_per_s)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) done = qmp_try(t->daemon->qmp, &error, "vmtier-set-rate",
                                       "{\"vm\":\"%s\",\"bytes_per_s\":%" PRIu64 "}", t->name,
                                       bytes_per_s);

    return done != NULL;
}

/* What is wrong with one tier, or NULL. The files are looked at with our own eyes, too. */
static char *tier_fault(struct tiered *t, JsonObject *tier, const char *file)
{
    const char *name = json_object_get_string_member(tier, "name");
    uint64_t ledger = (uint64_t)json_object_get_int_member(tier, "ledger_bytes");
    uint64_t files = (uint64_t)json_object_get_int_member(tier, "file_bytes");
    uint64_t spare = (uint64_t)json_object_get_int_member(tier, "spare_bytes");
    uint64_t granules = (uint64_t)json_object_get_int_member(tier, "granules");
    uint64_t real = memfd_bytes(t->vm->qemu->pid, file), there = tiered_granules(t->vm, name);

    if (files > ledger + spare)
        return g_strdup_printf("%s: files of %" PRIu64 " bytes, ledger of %" PRIu64 ", %" PRIu64
                               " spare", name, files, ledger, spare);
    /* The guest may have touched new memory since the daemon's round. */
    if (files > real || real - files > 4 * MIB)
        return g_strdup_printf("%s: files of %" PRIu64 " bytes, really %" PRIu64, name, files, real);
    if (granules != there)
        return g_strdup_printf("%s: %" PRIu64 " granules, QEMU has %" PRIu64, name, granules, there);
    return NULL;
}

static char *fault_of(struct tiered *t)
{
    static const char *const files[] = { DRAM_FILE, CXL_FILE };
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, t->name);
    char *fault = NULL;

    if (!vm || !set_rate(t, 0))
        return g_strdup("the daemon does not know it");
    if (strcmp(json_object_get_string_member(vm, "state"), "tiering") != 0)
        return g_strdup_printf("state %s", json_object_get_string_member(vm, "state"));
    JsonArray *tiers = json_object_get_array_member(vm, "tiers");

    g_assert_cmpuint(json_array_get_length(tiers), ==, G_N_ELEMENTS(files));
    for (guint i = 0; !fault && i < G_N_ELEMENTS(files); i++)
        fault = tier_fault(t, json_array_get_object_element(tiers, i), files[i]);
    return fault;
}

void tiered_check(struct tiered *t, double timeout)
{
    double start = lab_now();
    char *fault;

    while ((fault = fault_of(t)) && lab_now() < start + LAB_PATIENCE * timeout) {
        g_free(fault);
        lab_sleep(0.05);
    }
    if (fault)
        g_error("%s after %.1f s: %s", t->name, timeout, fault);
    g_test_message("status is right after %.2f s", lab_now() - start);
    g_assert_true(set_rate(t, RATE));
}

/* --- the guest ------------------------------------------------------------------------------ */

uint64_t tiered_guest_gap(struct vm *vm)
{
    uint64_t longest = 0;

    while (true) {
        g_autofree char *beat = guest_wait_line(vm->guest, "VMT BEAT", 0);

        if (!beat)
            return longest;
        longest = MAX(longest, guest_number(beat, "gap_ms"));
    }
}

void tiered_check_guest(struct vm *vm)
{
    g_assert_cmpuint(tiered_guest_gap(vm), <=, GAP_MS);
    g_assert_cmpfloat(guest_longest_gap(vm->guest), <=, GAP_MS);
    g_assert_cmpuint(guest_sweep(vm->guest, 60), ==, 0);
    g_autofree char *beat = guest_beat(vm->guest, 5);

    g_assert_cmpuint(guest_number(beat, "bad"), ==, 0);
}

/* --- moves all the time --------------------------------------------------------------------- */

struct stir {
    GThread *thread;
    gint stop;                      /* atomic */
    struct qmp *qmp;
    uint64_t ram;
    GRand *rand;
};

static gpointer stir_memory(gpointer arg)
{
    struct stir *s = arg;

    while (!g_atomic_int_get(&s->stop)) {
        guint32 at = (guint32)g_rand_int_range(s->rand, 0, (gint32)(s->ram / STIR_BYTES));

        json_node_unref(qmp_ok(s->qmp, "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":%" PRIu64
                               ",\"length\":%u,\"tier\":\"cxl\"}", (uint64_t)at * STIR_BYTES,
                               STIR_BYTES));
        g_usleep(50000);
    }
    return NULL;
}

static uint64_t ram0_bytes(struct vm *vm)
{
    g_autoptr(JsonObject) all = query(vm);
    JsonArray *blocks = json_object_get_array_member(all, "blocks");

    for (guint i = 0; i < json_array_get_length(blocks); i++) {
        JsonObject *block = json_array_get_object_element(blocks, i);

        if (!strcmp(json_object_get_string_member(block, "name"), "ram0"))
            return (uint64_t)json_object_get_int_member(block, "length");
    }
    g_error("there is no RAM block ram0");
}

struct stir *stir_start(struct tiered *t)
{
    struct stir *s = g_new0(struct stir, 1);

    s->ram = ram0_bytes(t->vm);
    s->rand = g_rand_new_with_seed((guint32)g_test_rand_int());
    s->qmp = qmp_open(t->monitor, t->vm->qemu, 10);
    s->thread = g_thread_new("stir", stir_memory, s);
    return s;
}

void stir_end(struct stir *s)
{
    g_atomic_int_set(&s->stop, 1);
    g_thread_join(s->thread);
    qmp_close(s->qmp);
    g_rand_free(s->rand);
    g_free(s);
}
