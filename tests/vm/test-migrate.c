// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Migration, snapshots and what goes with them, while everything is on the move.
 *
 * timeout: 240
 *
 * The guest is the test ROM under KVM: it counts up a word in each of 8192 pages, round after round,
 * so that a page that is lost, torn or late shows as a counter that is wrong. The memory of both sides
 * is moved to and fro as fast as it goes by a pusher each. Without KVM the guest stands still: QEMU's
 * own dirty log is not exact then.
 *
 * VMTIER_MIGRATE_RUNS repeats each test so many times.
 */
#include "migrate.h"
#include "pusher.h"
#include "rig.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RAM      (64 * MIB)
#define BLOCK    (64 * KIB)
#define FAST     (400 * MIB)
#define MOVED_LEAST 50          /* granules, while something goes on; an idle machine moves ten thousands */
#define SLOW     (60 * MIB)     /* so that RAM takes a while to go out */

static const struct rom_range counters = { .base = 16 * MIB, .stride = 4096, .count = 8192 };

/* --- two sides ------------------------------------------------------------------------------ */

struct side {
    struct vm *vm;
    struct pusher *pusher;      /* NULL: without the plugin */
};

struct pair {
    struct lab *lab;
    const char *label;
    const char *backend;        /* of both, or NULL */
    struct side from, to;
};

enum { UNTIERED = 1 };

static bool live(void)
{
    return vm_kvm_usable();
}

static void side_start(struct pair *p, struct side *s, const char *name, const char *const *extra,
                       unsigned flags)
{
    g_autofree char *socket = lab_path(p->lab, name), *so = lab_built("vmtier-qemu.so");
    g_autofree char *plugin = g_strdup_printf("%s,socket=%s,vm=%s", so, socket, name);
    g_autofree char *rom = lab_built("tests/rom.bin");
    g_autofree char *qemu = strcmp(p->label, "10.0") == 0 ? vm_qemu10() : NULL;

    s->pusher = flags & UNTIERED ? NULL : pusher_start(socket, BLOCK);
    if (s->pusher)
        pusher_may_freeze(s->pusher);
    s->vm = vm_start(p->lab, name, &(struct vm_options){
        .qemu = qemu, .accel = live() ? "kvm" : "tcg,thread=single", .machine = "pc", .ram = "64M",
        .rom = rom, .backend = p->backend, .plugin = s->pusher ? plugin : NULL, .extra = extra });
}

static void side_end(struct side *s)
{
    if (s->vm)
        vm_free(s->vm);
    if (s->pusher)
        pusher_end(s->pusher);
    *s = (struct side){ 0 };
}

static void pair_start(struct pair *p, const char *label)
{
    *p = (struct pair){ .lab = lab_new("migrate"), .label = label };
}

static void pair_end(struct pair *p)
{
    side_end(&p->to);
    side_end(&p->from);
    lab_free(p->lab);
}

static void go(struct side *s)
{
    if (s->pusher)
        pusher_go(s->pusher);
}

static void stand(struct side *s)
{
    if (s->pusher)
        pusher_pause(s->pusher);
}

/* --- the guest ------------------------------------------------------------------------------ */

static void guest_begin(struct side *s)
{
    rom_wait_alive(s->vm, 20);
    rom_run(s->vm, ROM_WRITE, counters, 0, 30);
    rom_give(s->vm, ROM_SPIN, counters, 0);
    if (!live()) {
        lab_sleep(0.3);
        json_node_unref(qmp_ok(s->vm->qmp, "stop", NULL));
    }
}

/* It goes on where it was saved, and every counter has the number of rounds. */
static void guest_check(struct side *s)
{
    stand(s);
    json_node_unref(qmp_ok(s->vm->qmp, "cont", NULL));
    uint32_t before = rom_mailbox(s->vm).rounds;

    rom_stop_spin(s->vm, 30);
    uint32_t rounds = rom_mailbox(s->vm).rounds;
    struct rom_mailbox box = rom_run(s->vm, ROM_CHECK, counters, rounds, 30);

    g_test_message("%s: %u rounds, %u counters wrong", s->vm->qemu->name, rounds, box.result);
    g_assert_cmpuint(rounds, >=, before);
    g_assert_cmpuint(box.result, ==, 0);
}

static void check_moved(struct side *s)
{
    struct pusher_count n = pusher_get_count(s->pusher);

    g_test_message("%s: %" PRIu64 " granules moved, %" PRIu64 " busy, %" PRIu64 " frozen, %" PRIu64
                   " pages", s->vm->qemu->name, n.moved, n.busy, n.frozen, n.pages);
    g_assert_cmpuint(n.moved, >=, MOVED_LEAST);
}

/* --- from one to the other ------------------------------------------------------------------ */

static char *unix_uri(struct pair *p)
{
    g_autofree char *path = lab_path(p->lab, "stream");

    unlink(path);
    return g_strconcat("unix:", path, NULL);
}

static void enable(struct pair *p, const char *const *capabilities)
{
    for (; capabilities && *capabilities; capabilities++) {
        migration_enable(p->from.vm, *capabilities);
        migration_enable(p->to.vm, *capabilities);
    }
}

static void receive(struct pair *p, const char *uri)
{
    json_node_unref(qmp_ok(p->to.vm->qmp, "migrate-incoming", "{\"uri\":\"%s\"}", uri));
}

static const char *const incoming[] = { "-incoming", "defer", "-S", NULL };

static bool has_gone_round(void *vm)
{
    return migration_rounds(vm) >= 3;
}

static void let_it_go(struct pair *p)
{
    if (live())
        g_assert_true(lab_wait(has_gone_round, p->from.vm, 30));
    migration_set_limits(p->from.vm, FAST, 3000);
    migration_wait(p->from.vm);
    g_test_message("%" PRIi64 " rounds", migration_rounds(p->from.vm));
    migration_wait(p->to.vm);
}

static void start_both(struct pair *p, const char *label, unsigned to)
{
    pair_start(p, label);
    side_start(p, &p->from, "from", NULL, 0);
    guest_begin(&p->from);
    side_start(p, &p->to, "to", incoming, to);
    go(&p->from);
    go(&p->to);
    g_assert_true(pusher_moves(p->from.pusher, MOVED_LEAST, 30));
}

static void run_pair(struct pair *p, const char *uri)
{
    migration_set_limits(p->from.vm, SLOW, 10);
    migrate_to(p->from.vm, uri);
    let_it_go(p);
    stand(&p->from);
    stand(&p->to);
    g_assert_cmpuint(differing_pages(p->from.vm, p->to.vm, RAM), ==, 0);
    check_moved(&p->from);
    go(&p->to);
    guest_check(&p->to);
    pair_end(p);
}

static void migrate_pair(const char *label, const char *const *capabilities, unsigned to)
{
    struct pair p;

    start_both(&p, label, to);
    enable(&p, capabilities);
    g_autofree char *uri = unix_uri(&p);

    receive(&p, uri);
    run_pair(&p, uri);
}

static void test_plain(const char *label)
{
    migrate_pair(label, NULL, 0);
}

static void test_untiered(const char *label)
{
    static const char *const capabilities[] = { "auto-converge", NULL };

    migrate_pair(label, capabilities, UNTIERED);
}

static void test_xbzrle(const char *label)
{
    static const char *const capabilities[] = { "xbzrle", NULL };

    migrate_pair(label, capabilities, 0);
}

static void test_multifd(const char *label)
{
    static const char *const capabilities[] = { "multifd", NULL };

    migrate_pair(label, capabilities, 0);
}

/* The kernel reads pages after the call that sent them has returned. */
static void test_zero_copy(const char *label)
{
    static const char *const capabilities[] = { "multifd", "zero-copy-send", NULL };
    struct pair p;

    start_both(&p, label, 0);
    enable(&p, capabilities);
    receive(&p, "tcp:127.0.0.1:0");
    g_autoptr(JsonObject) o = ask(p.to.vm->qmp, "query-migrate", "{}");
    g_autofree char *uri = g_strconcat("tcp:127.0.0.1:", json_text(o, "socket-address.0.port"), NULL);

    run_pair(&p, uri);
}

/* --- postcopy ------------------------------------------------------------------------------- */

static bool thawed(void *vm)
{
    g_autoptr(JsonObject) status = ask(((struct vm *)vm)->qmp, "x-vmtier-query", "{}");

    return strcmp(json_text(status, "state"), "attached") == 0;
}

static void check_lets_go(struct side *s)
{
    g_autoptr(JsonObject) frozen = qmp_wait_event(s->vm->qmp, "X_VMTIER_FROZEN", 10);

    g_assert_nonnull(frozen);
    g_test_message("%s: %s", s->vm->qemu->name, json_text(frozen, "data.reason"));
}

/* Tiering has come back by itself, and works. */
static void check_goes_on(struct side *s)
{
    g_assert_true(lab_wait(thawed, s->vm, 10));
    g_assert_nonnull(qmp_wait_event(s->vm->qmp, "X_VMTIER_THAWED", 10));
    go(s);
    g_assert_true(pusher_moves(s->pusher, 100, 20));
    stand(s);
}

static const char *const running[] = { "-incoming", "defer", NULL };

static bool is_postcopy(void *vm)
{
    g_autofree char *status = migration_status(vm);

    return strcmp(status, "postcopy-active") == 0 || strcmp(status, "completed") == 0;
}

static void postcopy_pair(const char *label, const char *const *capabilities)
{
    struct pair p;

    if (!live()) {
        g_test_skip("/dev/kvm cannot be opened");
        return;
    }
    pair_start(&p, label);
    side_start(&p, &p.from, "from", NULL, 0);
    guest_begin(&p.from);
    side_start(&p, &p.to, "to", running, 0);
    go(&p.from);
    go(&p.to);
    g_assert_true(pusher_moves(p.from.pusher, MOVED_LEAST, 30));
    enable(&p, capabilities);
    g_autofree char *uri = unix_uri(&p);

    receive(&p, uri);
    migration_set_limits(p.from.vm, SLOW, 10);
    migrate_to(p.from.vm, uri);
    g_assert_true(lab_wait(has_gone_round, p.from.vm, 30));
    json_node_unref(qmp_ok(p.from.vm->qmp, "migrate-start-postcopy", NULL));
    g_assert_true(lab_wait(is_postcopy, p.from.vm, 20));
    check_lets_go(&p.to);
    migration_wait(p.from.vm);
    migration_wait(p.to.vm);
    stand(&p.to);
    check_goes_on(&p.to);
    guest_check(&p.to);
    check_moved(&p.from);
    pair_end(&p);
}

static void test_postcopy(const char *label)
{
    static const char *const capabilities[] = { "postcopy-ram", NULL };

    postcopy_pair(label, capabilities);
}

static void test_preempt(const char *label)
{
    static const char *const capabilities[] = { "postcopy-ram", "postcopy-preempt", NULL };

    postcopy_pair(label, capabilities);
}

/* --- snapshots ------------------------------------------------------------------------------ */

/* The state in a file comes to life in another QEMU. */
static void check_file(struct pair *p, const char *uri, const char *const *capabilities)
{
    side_start(p, &p->to, "to", incoming, 0);
    for (; capabilities && *capabilities; capabilities++)
        migration_enable(p->to.vm, *capabilities);
    go(&p->to);
    receive(p, uri);
    migration_wait(p->to.vm);
    guest_check(&p->to);
}

static void test_background(const char *label)
{
    struct pair p;

    pair_start(&p, label);
    side_start(&p, &p.from, "from", NULL, 0);
    guest_begin(&p.from);
    go(&p.from);
    g_autofree char *file = lab_path(p.lab, "state");
    g_autofree char *uri = g_strdup_printf("exec:cat %s", file);

    g_autofree char *slowly = g_strdup_printf("exec:sleep 0.5; cat > %s", file);

    lab_sleep(0.2);
    migration_enable(p.from.vm, "background-snapshot");
    migrate_to(p.from.vm, slowly);
    check_lets_go(&p.from);
    migration_wait(p.from.vm);
    check_goes_on(&p.from);
    check_file(&p, uri, NULL);
    guest_check(&p.from);               /* it has not suffered */
    pair_end(&p);
}

/* The fixed places of pages in the file; several threads write them, past the page cache. */
static void test_mapped(const char *label)
{
    static const char *const capabilities[] = { "mapped-ram", "multifd", NULL };
    struct pair p;

    pair_start(&p, label);
    side_start(&p, &p.from, "from", NULL, 0);
    guest_begin(&p.from);
    go(&p.from);
    g_autofree char *dir = lab_built("tests/run");
    g_autofree char *uri = g_strdup_printf("file:%s/mapped-%d", dir, (int)getpid());

    g_mkdir_with_parents(dir, 0755);
    for (const char *const *c = capabilities; *c; c++)
        migration_enable(p.from.vm, *c);
    json_node_unref(qmp_ok(p.from.vm->qmp, "migrate-set-parameters", "{\"direct-io\":true}"));
    migration_set_limits(p.from.vm, FAST, 3000);
    migrate_to(p.from.vm, uri);
    migration_wait(p.from.vm);
    check_file(&p, uri, capabilities);
    unlink(uri + strlen("file:"));
    pair_end(&p);
}

static void hmp(struct vm *vm, const char *line)
{
    g_autoptr(JsonNode) said = qmp_ok(vm->qmp, "human-monitor-command",
                                      "{\"command-line\":\"%s\"}", line);

    g_assert_cmpstr(json_node_get_string(said), ==, "");
}

static char *make_disk(struct pair *p)
{
    char *disk = lab_path(p->lab, "disk");
    const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", disk, "64M", NULL };
    int status;

    g_assert_true(g_spawn_sync(NULL, (char **)(gpointer)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                               NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    return disk;
}

static bool job_is_done(void *vm)
{
    g_autoptr(JsonNode) jobs = qmp_ok(((struct vm *)vm)->qmp, "query-jobs", NULL);
    JsonArray *all = json_node_get_array(jobs);

    for (guint i = 0; i < json_array_get_length(all); i++) {
        JsonObject *job = json_array_get_object_element(all, i);

        if (strcmp(json_text(job, "status"), "concluded") != 0)
            return false;
        g_assert_false(json_object_has_member(job, "error"));
    }
    return true;
}

static void snapshot_job(struct vm *vm, const char *command, const char *tag)
{
    static int n;
    int id = n++;

    json_node_unref(qmp_ok(vm->qmp, command, "{\"job-id\":\"j%d\",\"tag\":\"%s\",\"vmstate\":\"disk\","
                           "\"devices\":[\"disk\"]}", id, tag));
    g_assert_true(lab_wait(job_is_done, vm, 30));
    json_node_unref(qmp_ok(vm->qmp, "job-dismiss", "{\"id\":\"j%d\"}", id));
}

/* Saved, changed, loaded: it is as it was, and the machine that is moved about is none the worse. */
static void test_savevm(const char *label)
{
    struct pair p;

    pair_start(&p, label);
    g_autofree char *disk = make_disk(&p);
    g_autofree char *drive = g_strdup_printf("driver=qcow2,node-name=disk,file.driver=file,"
                                             "file.filename=%s", disk);
    const char *const extra[] = { "-blockdev", drive, "-device", "virtio-blk-pci,drive=disk", NULL };

    side_start(&p, &p.from, "vm", extra, 0);
    guest_begin(&p.from);
    go(&p.from);
    for (int i = 0; i < 3; i++) {
        g_autofree char *tag = g_strdup_printf("s%d", i);
        g_autofree char *save = g_strconcat("savevm ", tag, NULL);
        g_autofree char *load = g_strconcat("loadvm ", tag, NULL);

        lab_sleep(0.1);
        if (i % 2 == 0)
            hmp(p.from.vm, save);
        else
            snapshot_job(p.from.vm, "snapshot-save", tag);
        lab_sleep(0.2);
        if (i % 2 == 0)
            hmp(p.from.vm, load);
        else
            snapshot_job(p.from.vm, "snapshot-load", tag);
    }
    guest_check(&p.from);
    check_moved(&p.from);
    pair_end(&p);
}

/* A dump is read by whoever understands ELF: guest-physical memory is in its PT_LOAD segments. */
static uint32_t word_of_dump(int file, const Elf64_Phdr *ph, size_t n, uint64_t gpa)
{
    uint32_t word = 0;

    for (size_t i = 0; i < n; i++)
        if (ph[i].p_type == PT_LOAD && gpa - ph[i].p_paddr < ph[i].p_filesz)
            g_assert_cmpint(pread(file, &word, sizeof(word),
                                  (off_t)(ph[i].p_offset + gpa - ph[i].p_paddr)), ==, sizeof(word));
    return word;
}

static void check_dump(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    uint32_t rounds, later, wrong = 0;
    Elf64_Phdr ph[64];
    Elf64_Ehdr eh;

    g_assert_cmpint(pread(file, &eh, sizeof(eh), 0), ==, sizeof(eh));
    g_assert_cmpint(eh.e_phnum, <=, 64);
    g_assert_cmpint(pread(file, ph, eh.e_phnum * sizeof(ph[0]), (off_t)eh.e_phoff), >, 0);
    rounds = word_of_dump(file, ph, eh.e_phnum, counters.base);
    for (uint32_t i = 0; i < counters.count; i++) {
        later = word_of_dump(file, ph, eh.e_phnum, counters.base + i * counters.stride) - i;
        wrong += later > rounds;        /* within a round, what comes later is not ahead */
        rounds = later < rounds ? later : rounds;
    }
    g_test_message("dump: %u rounds, %u counters wrong", rounds, wrong);
    g_assert_cmpuint(wrong, ==, 0);
    close(file);
}

static void test_dump(const char *label)
{
    struct pair p;

    pair_start(&p, label);
    side_start(&p, &p.from, "vm", NULL, 0);
    guest_begin(&p.from);
    go(&p.from);
    g_autofree char *file = lab_path(p.lab, "dump");

    g_assert_true(pusher_moves(p.from.pusher, MOVED_LEAST, 30));
    json_node_unref(qmp_ok(p.from.vm->qmp, "dump-guest-memory", "{\"paging\":false,"
                           "\"protocol\":\"file:%s\"}", file));
    check_dump(file);
    guest_check(&p.from);
    check_moved(&p.from);
    pair_end(&p);
}

/* --- the list of tests ---------------------------------------------------------------------- */

struct test {
    const char *label, *name;
    void (*run)(const char *label);
};

static const struct test tests[] = {
    { "7.2", "plain", test_plain },           { "10.0", "plain", test_plain },
    { "7.2", "untiered", test_untiered },     { "10.0", "untiered", test_untiered },
    { "7.2", "xbzrle", test_xbzrle },         { "10.0", "xbzrle", test_xbzrle },
    { "7.2", "multifd", test_multifd },       { "10.0", "multifd", test_multifd },
    { "7.2", "zero-copy", test_zero_copy },   { "10.0", "zero-copy", test_zero_copy },
    { "7.2", "postcopy", test_postcopy },     { "10.0", "postcopy", test_postcopy },
    { "10.0", "preempt", test_preempt },      { "10.0", "mapped", test_mapped },
    { "7.2", "background", test_background }, { "10.0", "background", test_background },
    { "7.2", "savevm", test_savevm },         { "10.0", "savevm", test_savevm },
    { "7.2", "dump", test_dump },             { "10.0", "dump", test_dump },
};

static int runs(void)
{
    const char *text = g_getenv("VMTIER_MIGRATE_RUNS");

    return text ? MAX(atoi(text), 1) : 1;
}

static void run(gconstpointer data)
{
    const struct test *t = data;

    for (int i = 0; i < runs() && !g_test_failed(); i++)
        t->run(t->label);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strdup_printf("/migrate/%s/%s", tests[i].label, tests[i].name);

        g_test_add_data_func(path, &tests[i], run);
    }
    return g_test_run();
}
