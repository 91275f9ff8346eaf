// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The dirty log, by both routes: to the page under KVM's bitmap, KVM's ring and TCG; and that a
 * migration that it is read during loses nothing.
 *
 * timeout: 180
 *
 * The guest is the test ROM, so it is known which pages are written. Read while the guest stands still
 * it is exact, under TCG as well. Migrated while the guest runs: under KVM's bitmap only, as stock QEMU
 * is not exact under TCG, nor with a ring on every kernel.
 *
 * VMTIER_DIRTY_RUNS repeats each migration so many times, and makes those that the short form leaves out.
 */
#include "migrate.h"
#include "rig.h"
#include "tiered.h"

#include <string.h>

#define RAM   (64 * MIB)
#define PAGES (RAM / 4096)

struct test {
    const char *version, *accel, *route, *name;
    void (*run)(const struct test *t);
    bool again;                 /* what another row shows, with another QEMU: for the long form */
};

static const char still_config[] = "[vm default]\nquota=32M\nrate=0\ngranule=64K\nsources=refault\n";
static const char dirty_config[] = "[vm default]\nquota=32M\nrate=0\ngranule=64K\nsources=dirty\n";
static const char large_config[] = "[vm default]\nquota=100%\nrate=0\nsources=dirty\n";
static const char moving_config[] = "[vm default]\nquota=16M\nrate=1G\nsources=refault,dirty\n";

static char *qemu_of(const struct test *t)
{
    return strcmp(t->version, "10.0") == 0 ? vm_qemu10() : NULL;
}

static void start_in(struct rig *rig, const struct test *t, const char *config,
                     const char *ram, const char *const *extra)
{
    g_autofree char *file = lab_path(rig->lab, "vmtierd.conf"), *qemu = qemu_of(t);

    if (t->route)
        g_setenv("VMTIER_TEST_DIRTY", t->route, TRUE);
    else
        g_unsetenv("VMTIER_TEST_DIRTY");
    g_assert_true(g_file_set_contents(file, config, -1, NULL));
    rig_start_daemon(rig, NULL);
    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = t->accel, .ram = ram,
                                           .extra = extra });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "tiering");
}

static struct rig *start_rig(const struct test *t, const char *config)
{
    struct rig *rig = rig_new("dirty");

    start_in(rig, t, config, NULL, NULL);
    return rig;
}

static void expect_route(struct rig *rig, const char *route)
{
    g_autoptr(JsonObject) query = rig_query(rig);

    g_test_message("route %s %s: chunks of %" G_GINT64_FORMAT " us at most under the big lock (%"
                   G_GINT64_FORMAT " us to begin), %" G_GINT64_FORMAT " us under our own",
                   json_text(query, "dirty.route"), json_text(query, "dirty.reason"),
                   json_int(query, "dirty.bql-max-ns") / 1000,
                   json_int(query, "dirty.bql-start-max-ns") / 1000,
                   json_int(query, "dirty.hold-max-ns") / 1000);
    g_assert_cmpstr(json_text(query, "dirty.route"), ==, route);
}

/* --- to the page ---------------------------------------------------------------------------- */

struct log {
    bool written[PAGES];
};

static JsonObject *ask_log(struct rig *rig)
{
    g_autofree char *args = g_strdup_printf(
        "{\"what\":\"dirty\",\"block\":\"ram0\",\"offset\":0,\"length\":%" PRIu64 "}", (uint64_t)RAM);

    return ask(rig->vm->qmp, "x-vmtier-query", args);
}

static void read_log(struct rig *rig, struct log *log)
{
    g_autoptr(JsonObject) answer = ask_log(rig);
    const char *bitmap = json_text(answer, "bitmap");
    gint64 n = 0;

    g_assert_cmpuint(strlen(bitmap), ==, PAGES / 4);
    for (guint p = 0; p < PAGES; p++) {
        int digit = g_ascii_xdigit_value(bitmap[p / 8 * 2 + (p % 8 < 4)]);

        log->written[p] = digit >> p % 4 & 1;
        n += log->written[p];
    }
    g_assert_cmpint(n, ==, json_int(answer, "pages"));
}

static void expect_log(struct rig *rig, const struct log *wanted)
{
    struct log log;
    guint missed = 0, more = 0;

    read_log(rig, &log);
    for (guint p = 0; p < PAGES; p++) {
        missed += wanted->written[p] && !log.written[p];
        more += log.written[p] && !wanted->written[p];
        if (wanted->written[p] != log.written[p] && missed + more < 10)
            g_test_message("page %u: written %d, reported %d", p, wanted->written[p], log.written[p]);
    }
    g_assert_cmpuint(missed, ==, 0);
    g_assert_cmpuint(more, ==, 0);
}

/* Exactly the pages of the range, if it is written, and the mailbox's: that is where a command ends. */
static void check(struct rig *rig, uint32_t command, struct rom_range range)
{
    static const struct log nothing;
    struct log wanted = { .written[ROM_MAILBOX / 4096] = true };

    for (guint i = 0; command != ROM_READ && i < range.count; i++)
        wanted.written[(range.base + (uint64_t)i * range.stride) / 4096] = true;
    rom_run(rig->vm, command, range, 1, 60);
    expect_log(rig, &wanted);
    expect_log(rig, &nothing);
}

static const struct rom_range few = { .base = 16 * MIB, .stride = 3 * 4096, .count = 50 };
static const struct rom_range odd = { .base = MIB + 4096, .stride = 7 * 4096 + 512, .count = 2000 };
static const struct rom_range most = { .base = MIB, .stride = 4 * 4096, .count = 4000 };
static const struct rom_range one = { .base = 20 * MIB, .stride = 4, .count = 1024 };

static void check_all(struct rig *rig)
{
    check(rig, ROM_WRITE, few);
    check(rig, ROM_READ, most);
    check(rig, ROM_ADD, one);
    check(rig, ROM_WRITE, odd);
    check(rig, ROM_WRITE, most);
    rig_move(rig, 16 * MIB, 2 * MIB, "cxl");
    rig_move(rig, 48 * MIB, 2 * MIB, "dram");
    check(rig, ROM_READ, most);
    check(rig, ROM_WRITE, few);
}

/* What KVM's memslots are made anew for costs what was written meanwhile, and no more. */
static void check_after_reset(struct rig *rig)
{
    static const uint32_t none;
    struct log unused;

    vm_poke(rig->vm, ROM_MAILBOX, &none, sizeof(none));
    json_node_unref(qmp_ok(rig->vm->qmp, "system_reset", NULL));
    rom_wait_alive(rig->vm, 20);
    read_log(rig, &unused);
    check(rig, ROM_WRITE, odd);
    check(rig, ROM_READ, most);
}

static void test_exact(const struct test *t)
{
    g_autoptr(Rig) rig = start_rig(t, still_config);
    struct log unused;

    read_log(rig, &unused);                     /* switches it on */
    expect_route(rig, t->route);
    check_all(rig);
    check_after_reset(rig);
}

/*
 * KVM's ring has no bitmap: whoever asks for the route "kvm" is told why it is not taken. No more is
 * written at a time than the ring has room for: where it runs full, QEMU loses pages on some kernels,
 * without us as well.
 */
static void test_ring(const struct test *t)
{
    g_autoptr(Rig) rig = start_rig(t, still_config);
    struct log unused;

    read_log(rig, &unused);
    expect_route(rig, "qemu");
    g_autoptr(JsonObject) query = rig_query(rig);

    says(json_text(query, "dirty.reason"), "*dirty ring*");
    check(rig, ROM_WRITE, few);
    check(rig, ROM_READ, most);
    check(rig, ROM_ADD, one);
    check(rig, ROM_WRITE, odd);
    rig_move(rig, 16 * MIB, 2 * MIB, "cxl");
    check(rig, ROM_READ, most);
    check(rig, ROM_WRITE, few);
}

/* --- harvested by the daemon ---------------------------------------------------------------- */

struct progress {
    struct rig *rig;
    const char *what;
    gint64 least;
};

static gint64 dirty_int(struct rig *rig, const char *what)
{
    g_autofree char *path = g_strconcat("dirty.", what, NULL);
    g_autoptr(JsonObject) query = rig_query(rig);

    return json_int(query, path);
}

static bool has_come(void *arg)
{
    const struct progress *p = arg;

    return dirty_int(p->rig, p->what) >= p->least;
}

static void wait_passes(struct rig *rig, gint64 n)
{
    struct progress p = { rig, "passes", dirty_int(rig, "passes") + n };

    g_assert_true(lab_wait(has_come, &p, 60));
}

/* Each page once, however many rounds there are. */
static void test_harvest(const struct test *t)
{
    g_autoptr(Rig) rig = start_rig(t, dirty_config);

    wait_passes(rig, 3);
    expect_route(rig, t->route);
    gint64 before = dirty_int(rig, "pages");

    rom_run(rig->vm, ROM_WRITE, few, 1, 30);
    wait_passes(rig, 3);
    g_assert_cmpint(dirty_int(rig, "pages") - before, ==, 51);
    daemon_kill(rig->daemon);
    if (strcmp(t->route, "kvm") == 0) {         /* without a daemon nothing is logged */
        g_assert_nonnull(qmp_wait_event(rig->vm->qmp, "X_VMTIER_DETACHED", 10));
        g_assert_cmpint(dirty_int(rig, "logged"), ==, 0);
    }
    daemon_restart(rig->daemon);
    rig_wait_state(rig, "tiering");
    wait_passes(rig, 3);
    before = dirty_int(rig, "pages");
    rom_run(rig->vm, ROM_WRITE, few, 1, 30);
    wait_passes(rig, 3);
    g_assert_cmpint(dirty_int(rig, "pages") - before, ==, 51);
}

/* A guest with more RAM: the other route is taken by itself. */
static void test_large(const struct test *t)
{
    g_autoptr(Rig) rig = rig_new("dirty");

    start_in(rig, t, large_config, "320M", NULL);
    wait_passes(rig, 2);
    expect_route(rig, "kvm");
    gint64 before = dirty_int(rig, "pages");

    rom_run(rig->vm, ROM_WRITE, few, 1, 30);
    wait_passes(rig, 2);
    g_assert_cmpint(dirty_int(rig, "pages") - before, ==, 51);
}

/* --- migration ------------------------------------------------------------------------------ */

/* Reads the log all the time, through a monitor of its own. */
struct reader {
    struct qmp *qmp;
    GThread *thread;
    gint stop;
    gint64 reads, pages;
};

static gpointer read_on(gpointer data)
{
    struct reader *r = data;
    g_autofree char *args = g_strdup_printf(
        "{\"what\":\"dirty\",\"block\":\"ram0\",\"offset\":0,\"length\":%" PRIu64 "}", (uint64_t)RAM);

    while (!g_atomic_int_get(&r->stop)) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonNode) node = qmp_try(r->qmp, &error, "x-vmtier-query", "%s", args);

        g_assert_no_error(error);
        r->pages += json_int(json_node_get_object(node), "pages");
        r->reads++;
        g_usleep(2000);
    }
    return NULL;
}

static void reader_start(struct reader *r, struct rig *rig)
{
    g_autofree char *path = lab_path(rig->lab, "monitor2");

    *r = (struct reader){ .qmp = qmp_open(path, rig->vm->qemu, 10) };
    r->thread = g_thread_new("reader", read_on, r);
}

static void reader_end(struct reader *r)
{
    g_atomic_int_set(&r->stop, 1);
    g_thread_join(r->thread);
    qmp_close(r->qmp);
    g_test_message("read %" G_GINT64_FORMAT " times, %" G_GINT64_FORMAT " pages", r->reads, r->pages);
    g_assert_cmpint(r->reads, >, 10);
    g_assert_cmpint(r->pages, >, 0);
}

static bool is_dirtying(void *vm)
{
    return migration_rounds(vm) >= 4;
}

static void let_it_end(struct vm *vm)
{
    g_assert_true(lab_wait(is_dirtying, vm, 30));
    migration_set_limits(vm, 400 * MIB, 3000);
    migration_wait(vm);
    g_test_message("%" PRIi64 " rounds", migration_rounds(vm));
}

/* One that begins, and does not come to its end: QEMU's logging goes on and off. */
static void cancel_one(struct vm *vm)
{
    migration_set_limits(vm, 20 * MIB, 20);
    migrate_to_file(vm, "/dev/null");
    lab_sleep(0.3);
    json_node_unref(qmp_ok(vm->qmp, "migrate_cancel", NULL));
    migration_wait_for(vm, "cancelled");
}

static void migrate_live(struct rig *rig, const char *file)
{
    static const struct rom_range range = { .base = 16 * MIB, .stride = 4096, .count = 8192 };
    struct tiered tiered = { .lab = rig->lab, .daemon = rig->daemon, .vm = rig->vm, .name = "vm" };
    g_autofree char *monitor = tiered.monitor = lab_path(rig->lab, "monitor1");
    struct stir *stir = stir_start(&tiered);
    struct reader reader;

    rom_give(rig->vm, ROM_SPIN, range, 0);
    reader_start(&reader, rig);
    cancel_one(rig->vm);
    lab_sleep(0.1);
    migration_set_limits(rig->vm, 100 * MIB, 20);
    migrate_to_file(rig->vm, file);
    let_it_end(rig->vm);
    reader_end(&reader);
    stir_end(stir);
    g_assert_cmpuint(tiered_pages(rig->vm), >, 1000);
}

static void migrate_still(struct rig *rig, const char *file)
{
    struct log unused;

    read_log(rig, &unused);
    rom_run(rig->vm, ROM_WRITE, most, 1, 60);
    json_node_unref(qmp_ok(rig->vm->qmp, "stop", NULL));
    migration_set_limits(rig->vm, 400 * MIB, 300);
    migrate_to_file(rig->vm, file);
    read_log(rig, &unused);
    migration_wait(rig->vm);
}

/* To a file, from which another QEMU takes it; then every page of the two is the same. */
static void migrate_once(const struct test *t)
{
    g_autoptr(Rig) rig = rig_new("dirty");
    g_autofree char *file = lab_path(rig->lab, "state");
    g_autofree char *from = g_strconcat("exec:cat ", file, NULL);
    g_autofree char *first = lab_path(rig->lab, "monitor1");
    g_autofree char *second = lab_path(rig->lab, "monitor2");
    g_autofree char *server1 = g_strdup_printf("unix:%s,server=on,wait=off", first);
    g_autofree char *server2 = g_strdup_printf("unix:%s,server=on,wait=off", second);
    const char *const extra[] = { "-qmp", server1, "-qmp", server2, NULL };
    const char *const incoming[] = { "-incoming", from, "-S", NULL };
    g_autoptr(Vm) target = NULL;

    start_in(rig, t, moving_config, NULL, extra);
    if (strcmp(t->accel, "kvm") == 0)
        migrate_live(rig, file);
    else
        migrate_still(rig, file);
    expect_route(rig, t->route);
    g_autofree char *qemu = qemu_of(t);

    target = rig_another_vm(rig, "target", (struct vm_options){ .qemu = qemu, .accel = t->accel,
                                                                .extra = incoming });
    migration_wait(target);
    g_assert_cmpuint(differing_pages(rig->vm, target, RAM), ==, 0);
}

static bool is_long(void)
{
    return g_getenv("VMTIER_DIRTY_RUNS") != NULL;
}

static guint runs(void)
{
    const char *text = g_getenv("VMTIER_DIRTY_RUNS");

    return text ? (guint)MAX(atoi(text), 1) : 1;
}

static void test_migrate(const struct test *t)
{
    for (guint i = 0; i < runs() && !g_test_failed(); i++)
        migrate_once(t);
}

/* --- the list of tests ---------------------------------------------------------------------- */

#define RING "kvm,dirty-ring-size=4096"
#define TCG  "tcg,thread=single"

static const struct test tests[] = {
    { "7.2", "kvm", "kvm", "exact", test_exact, false },
    { "10.0", "kvm", "kvm", "exact", test_exact, false },
    { "7.2", "kvm", "qemu", "exact", test_exact, false },
    { "10.0", "kvm", "qemu", "exact", test_exact, true },
    { "7.2", TCG, "qemu", "exact", test_exact, false },
    { "10.0", TCG, "qemu", "exact", test_exact, false },
    { "7.2", RING, "kvm", "exact", test_ring, false },
    { "10.0", RING, "kvm", "exact", test_ring, false },
    { "7.2", "kvm", "kvm", "harvest", test_harvest, false },
    { "10.0", TCG, "qemu", "harvest", test_harvest, true },
    { "7.2", "kvm", NULL, "large", test_large, false },
    { "7.2", "kvm", "kvm", "migrate", test_migrate, false },
    { "10.0", "kvm", "kvm", "migrate", test_migrate, false },
    { "7.2", "kvm", "qemu", "migrate", test_migrate, true },
    { "10.0", "kvm", "qemu", "migrate", test_migrate, false },
    { "7.2", TCG, "qemu", "migrate", test_migrate, false },
    { "10.0", TCG, "qemu", "migrate", test_migrate, true },
};

static void run(gconstpointer data)
{
    const struct test *test = data;

    if (g_str_has_prefix(test->accel, "kvm") && !vm_kvm_usable())
        g_test_skip("/dev/kvm cannot be opened");
    else
        test->run(test);
}

static const char *label_of(const char *accel)
{
    return strcmp(accel, TCG) == 0 ? "tcg" : strcmp(accel, RING) == 0 ? "ring" : accel;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        const struct test *t = &tests[i];

        if (t->again && !is_long())
            continue;
        g_autofree char *path = g_strdup_printf("/dirty/%s/%s/%s/%s", t->version, label_of(t->accel),
                                                t->route ? t->route : "auto", t->name);

        g_test_add_data_func(path, t, run);
    }
    return g_test_run();
}
