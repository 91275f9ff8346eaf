// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What must hold under KVM: the dirty log is exact, a remap is seen by the guest, write protection
 * holds writers back.
 *
 * timeout: 180
 *
 * The guest is the test ROM, which a KVM runs that cannot boot Linux. The dirty source is off, as it
 * would read the log that the tests want to read; nothing moves by itself.
 */
#include "rig.h"

#include <string.h>
#include <unistd.h>

#define RAM (64 * MIB)

static const char config[] = "[vm default]\nquota=32M\nrate=0\ngranule=64K\nsources=refault\n";

static struct rig *start(const char *label, const char *name)
{
    struct rig *rig = rig_new(name);
    g_autofree char *qemu = strcmp(label, "10.0") == 0 ? vm_qemu10() : NULL;
    g_autofree char *file = lab_path(rig->lab, "vmtierd.conf");

    g_assert_true(g_file_set_contents(file, config, -1, NULL));
    rig_start_daemon(rig, NULL);
    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .accel = "kvm" });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "tiering");
    g_autoptr(JsonObject) vm = rig_status(rig);

    g_assert_cmpstr(json_text(vm, "accel"), ==, "kvm");
    return rig;
}

/* --- the dirty log -------------------------------------------------------------------------- */

static gint64 dirty_pages(struct rig *rig, uint64_t offset, uint64_t length)
{
    g_autofree char *args = g_strdup_printf(
        "{\"what\":\"dirty\",\"block\":\"ram0\",\"offset\":%" PRIu64 ",\"length\":%" PRIu64 "}",
        offset, length);
    g_autoptr(JsonObject) answer = ask(rig->vm->qmp, "x-vmtier-query", args);

    return json_int(answer, "pages");
}

/* The mailbox's page is written as a command ends; nothing else is. */
static void check_log(struct rig *rig, uint32_t command, struct rom_range range, gint64 pages)
{
    rom_run(rig->vm, command, range, 1, 30);
    g_assert_cmpint(dirty_pages(rig, 0, RAM), ==, pages + 1);
    g_assert_cmpint(dirty_pages(rig, 0, RAM), ==, 0);
}

/* Pages are counted where they are. QEMU takes its log in windows of 64 pages, so the test does. */
static void check_which(struct rig *rig)
{
    static const struct rom_range range = { .base = 8 * MIB, .stride = 5 * 4096, .count = 50 };
    static const gint64 wanted[] = { 13, 13, 13, 11, 0 };

    rom_run(rig->vm, ROM_WRITE, range, 1, 30);
    for (unsigned i = 0; i < G_N_ELEMENTS(wanted); i++)
        g_assert_cmpint(dirty_pages(rig, range.base + i * 256 * KIB, 256 * KIB), ==, wanted[i]);
    g_assert_cmpint(dirty_pages(rig, 0, RAM), ==, 1);
}

static void test_dirty(gconstpointer label)
{
    static const struct rom_range few = { .base = 16 * MIB, .stride = 3 * 4096, .count = 50 };
    static const struct rom_range many = { .base = MIB, .stride = 4096, .count = 16000 };
    static const struct rom_range one = { .base = 20 * MIB, .stride = 4, .count = 1024 };
    g_autoptr(Rig) rig = start(label, "dirty");

    dirty_pages(rig, 0, RAM);                   /* switches the log on */
    g_assert_cmpint(dirty_pages(rig, 0, RAM), ==, 0);
    check_log(rig, ROM_WRITE, few, 50);
    check_log(rig, ROM_READ, few, 0);
    check_log(rig, ROM_READ, many, 0);
    check_log(rig, ROM_ADD, one, 1);
    check_log(rig, ROM_WRITE, many, 16000);
    rig_move(rig, 16 * MIB, 64 * KIB * 32, "cxl");
    rig_move(rig, 48 * MIB, 64 * KIB * 32, "dram");
    check_log(rig, ROM_READ, many, 0);
    check_log(rig, ROM_WRITE, few, 50);
    check_which(rig);
}

/* --- remapping ------------------------------------------------------------------------------ */

struct files {
    int dram, cxl;
};

static uint32_t word_in(int file, uint64_t offset)
{
    uint32_t word;

    g_assert_cmpint(pread(file, &word, sizeof(word), (off_t)offset), ==, sizeof(word));
    return word;
}

/* The guest's word is in the one file, and a hole in the other. */
static void check_word(struct rig *rig, int in, int not_in, uint64_t at, uint32_t value)
{
    uint32_t seen;

    vm_peek(rig->vm, at, &seen, sizeof(seen));
    g_assert_cmpuint(seen, ==, value);
    g_assert_cmpuint(word_in(in, at), ==, value);
    g_assert_cmpuint(word_in(not_in, at), ==, 0);
    g_assert_cmpint(lseek(not_in, (off_t)at, SEEK_DATA), !=, (off_t)at);
}

/* There and back, with the guest writing in between. */
static void travel(struct rig *rig, struct files f, uint64_t at)
{
    const struct rom_range here = { .base = (uint32_t)at, .stride = 4, .count = 1 };
    const uint64_t granule = at / (64 * KIB) * 64 * KIB;

    rig_move(rig, granule, 64 * KIB, "dram");
    rom_run(rig->vm, ROM_WRITE, here, 100, 10);
    check_word(rig, f.dram, f.cxl, at, 100);
    rig_move(rig, granule, 64 * KIB, "cxl");
    check_word(rig, f.cxl, f.dram, at, 100);
    rom_run(rig->vm, ROM_ADD, here, 1, 10);
    check_word(rig, f.cxl, f.dram, at, 101);
    rig_move(rig, granule, 64 * KIB, "dram");
    check_word(rig, f.dram, f.cxl, at, 101);
    rom_run(rig->vm, ROM_ADD, here, 1, 10);
    check_word(rig, f.dram, f.cxl, at, 102);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, here, 102, 10).result, ==, 0);
}

static void test_remap(gconstpointer label)
{
    g_autoptr(Rig) rig = start(label, "remap");
    struct files f = { memfd_open(rig->vm->qemu->pid, "memory-backend-memfd"),
                       memfd_open(rig->vm->qemu->pid, "vmtier-cxl:vm:ram0") };

    for (unsigned i = 0; i < 16; i++)
        travel(rig, f, 4 * MIB + i * 3 * MIB + i * 4100ull / 4 * 4);
    close(f.dram);
    close(f.cxl);
}

/* --- write protection ----------------------------------------------------------------------- */

#define CROWD 16                /* granules that are on the move */
#define MOVES 6000

/* Four counters in each page of the range, so that the guest is never long away from any page. */
static const struct rom_range counters = {
    .base = 24 * MIB, .stride = 1024, .count = CROWD * 64,
};

static guint shuttle(struct rig *rig, GRand *rand)
{
    guint first = (guint)g_rand_int_range(rand, 0, CROWD);
    guint n = (guint)g_rand_int_range(rand, 1, (gint32)(CROWD - first) + 1);

    rig_move(rig, counters.base + first * 64 * KIB, n * 64 * KIB,
             g_rand_boolean(rand) ? "cxl" : "dram");
    return n;
}

static gint64 moved_pages(struct rig *rig)
{
    g_autoptr(JsonObject) query = rig_query(rig);

    return json_int(query, "moves.pages");
}

/* The guest counts up all the while: every counter must be the number of rounds in the end. */
static void count_while_moving(struct rig *rig)
{
    GRand *rand = g_rand_new_with_seed(1);
    gint64 before = moved_pages(rig);

    rom_run(rig->vm, ROM_WRITE, counters, 0, 30);       /* counter i starts at i */
    rom_give(rig->vm, ROM_SPIN, counters, 0);
    for (guint moves = 0; moves < MOVES;)
        moves += shuttle(rig, rand);
    rom_stop_spin(rig->vm, 30);
    g_rand_free(rand);
    struct rom_mailbox box = rom_mailbox(rig->vm);
    uint32_t rounds = box.rounds;

    box = rom_run(rig->vm, ROM_CHECK, counters, rounds, 30);
    g_test_message("%u rounds, %" G_GINT64_FORMAT " pages moved, %u counters wrong", rounds,
                   moved_pages(rig) - before, box.result);
    g_assert_cmpuint(rounds, >, 100);
    g_assert_cmpint(moved_pages(rig) - before, >, 10000);
    g_assert_cmpuint(box.result, ==, 0);
}

static void test_protect(gconstpointer label)
{
    g_autoptr(Rig) rig = start(label, "protect");

    count_while_moving(rig);
    rig_wait_state(rig, "tiering");
}

/* Moves that QEMU's monitor orders do not need the daemon, once it has been there. */
static void test_protect_alone(gconstpointer label)
{
    g_autoptr(Rig) rig = start(label, "alone");

    daemon_kill(rig->daemon);
    g_assert_nonnull(qmp_wait_event(rig->vm->qmp, "X_VMTIER_DETACHED", 10));
    count_while_moving(rig);
    daemon_restart(rig->daemon);
    rig_wait_state(rig, "tiering");
    g_assert_cmpint(rig_daemon_int(rig, "tiers.0.ledger_bytes") +
                    rig_daemon_int(rig, "tiers.1.ledger_bytes"), ==, RAM);
}

/* --- the list of tests ---------------------------------------------------------------------- */

struct test {
    const char *name;
    void (*run)(gconstpointer label);
    const char *label;
};

static const struct test tests[] = {
    { "7.2/dirty", test_dirty, "7.2" },     { "10.0/dirty", test_dirty, "10.0" },
    { "7.2/remap", test_remap, "7.2" },     { "10.0/remap", test_remap, "10.0" },
    { "7.2/protect", test_protect, "7.2" }, { "10.0/protect", test_protect, "10.0" },
    { "7.2/protect-alone", test_protect_alone, "7.2" },
    { "10.0/protect-alone", test_protect_alone, "10.0" },
};

static void run(gconstpointer data)
{
    const struct test *test = data;

    if (vm_kvm_usable())
        test->run(test->label);
    else
        g_test_skip("/dev/kvm cannot be opened");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/kvm/", tests[i].name, NULL);

        g_test_add_data_func(path, &tests[i], run);
    }
    return g_test_run();
}
