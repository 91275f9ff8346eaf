// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attach, first placement, moves and the control sockets, on the system's QEMU and on QEMU 10.
 *
 * timeout: 240
 *
 * The guest is the test ROM under TCG, 64 MiB in granules of 2 MiB. Most tests run at rate 0, so
 * that nothing moves but what they move themselves.
 */
#include "rig.h"

#include <string.h>
#include <sys/wait.h>

#define RAM (64 * MIB)
#define ANSWER 10.0

static const char *const still[] = { "--rate", "0", "--quota", "16M", NULL };
static const char *const paused[] = { "-S", NULL };

/* NULL: the system's QEMU. */
static char *qemu_of(const char *label)
{
    return strcmp(label, "10.0") == 0 ? vm_qemu10() : NULL;
}

static struct rig *start(const char *label, const char *name, const char *const *daemon_args,
                         struct vm_options options)
{
    struct rig *rig = rig_new(name);
    g_autofree char *qemu = qemu_of(label);

    options.qemu = qemu;
    if (daemon_args)
        rig_start_daemon(rig, daemon_args);
    rig_start_vm(rig, options);
    if (!options.extra)
        rom_wait_alive(rig->vm, 20);
    return rig;
}

static struct rig *start_still(const char *label, const char *name)
{
    struct rig *rig = start(label, name, still, (struct vm_options){ 0 });

    rig_wait_state(rig, "tiering");
    return rig;
}

/* Ledger and query tell the same story: so many granules in dram, the rest in cxl. */
static void check_placement(struct rig *rig, gint64 dram)
{
    const gint64 all = RAM / GRANULE;

    rig_wait_int(rig, "tiers.0.granules", dram, ANSWER);
    g_autoptr(JsonObject) vm = rig_status(rig), query = rig_query(rig);

    g_assert_cmpint(json_int(vm, "tiers.1.granules"), ==, all - dram);
    g_assert_cmpint(json_int(vm, "tiers.0.ledger_bytes"), ==, dram * (gint64)GRANULE);
    g_assert_cmpint(json_int(vm, "tiers.1.ledger_bytes"), ==, (all - dram) * (gint64)GRANULE);
    g_assert_cmpint(json_int(vm, "ledger_mismatches"), ==, 0);
    g_assert_cmpint(json_int(query, "blocks.0.tiers.dram"), ==, dram);
    g_assert_cmpint(json_int(query, "blocks.0.tiers.cxl"), ==, all - dram);
}

/* The files hold no more than the ledger says, and what status tells of them is true. */
static void check_files(struct rig *rig)
{
    uint64_t dram = rig_dram_bytes(rig), cxl = rig_cxl_bytes(rig);

    g_assert_true(rig_reaches(rig, "tiers.0.file_bytes", (gint64)dram, ANSWER));
    g_assert_true(rig_reaches(rig, "tiers.1.file_bytes", (gint64)cxl, ANSWER));
    g_autoptr(JsonObject) vm = rig_status(rig);

    g_assert_cmpint(json_int(vm, "tiers.0.file_bytes"), ==, dram);
    g_assert_cmpint(json_int(vm, "tiers.1.file_bytes"), ==, cxl);
    g_assert_cmpuint(dram, <=, json_int(vm, "tiers.0.ledger_bytes"));
    g_assert_cmpuint(cxl, <=, json_int(vm, "tiers.1.ledger_bytes"));
}

/* --- attach --------------------------------------------------------------------------------- */

/* All of RAM from 1 MiB on; word i of page i is value + i. */
static const struct rom_range all_pages = { .base = MIB, .stride = 4096,
                                            .count = (RAM - MIB) / 4096 };

/* The quota holds before the guest has run its first instruction, and as it fills its memory. */
static void test_first_placement(gconstpointer label)
{
    g_autoptr(Rig) rig = start(label, "placement", still, (struct vm_options){ .extra = paused });

    rig_wait_state(rig, "tiering");
    g_autoptr(JsonObject) run = ask(rig->vm->qmp, "query-status", "{}");

    g_assert_cmpstr(json_text(run, "status"), ==, "prelaunch");
    check_placement(rig, 8);
    json_node_unref(qmp_ok(rig->vm->qmp, "cont", NULL));
    rom_wait_alive(rig->vm, 20);
    rom_run(rig->vm, ROM_WRITE, all_pages, 7, 30);
    g_assert_cmpuint(rig_dram_bytes(rig), ==, 15 * MIB + 4096);    /* the mailbox's page */
    g_assert_cmpuint(rig_cxl_bytes(rig), ==, 48 * MIB);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all_pages, 7, 30).result, ==, 0);
    check_files(rig);
    g_assert_cmpint(rig_daemon_int(rig, "dram_bytes_peak"), <=, 16 * MIB);
    check_placement(rig, 8);
}

static void check_identity(struct rig *rig, const char *label)
{
    g_autoptr(JsonObject) vm = rig_status(rig), q = rig_query(rig);
    g_autoptr(JsonObject) version = ask(rig->vm->qmp, "query-version", "{}");
    g_autofree char *qemu = g_strdup_printf("%d.%d.%d", (int)json_int(version, "qemu.major"),
                                            (int)json_int(version, "qemu.minor"),
                                            (int)json_int(version, "qemu.micro"));

    if (strcmp(label, "10.0") == 0)
        g_assert_true(g_str_has_prefix(qemu, "10."));
    g_assert_cmpstr(json_text(vm, "qemu"), ==, qemu);
    g_assert_cmpint(json_int(vm, "pid"), ==, rig->vm->qemu->pid);
    g_assert_cmpstr(json_text(vm, "accel"), ==, "tcg");
    g_assert_cmpint(json_int(vm, "ram_bytes"), ==, RAM);
    g_assert_cmpint(json_int(vm, "granule_bytes"), ==, GRANULE);
    g_assert_cmpint(json_int(vm, "granules"), ==, RAM / GRANULE);
    g_assert_cmpint(json_int(vm, "quota.max_bytes"), ==, 16 * MIB);
    g_assert_true(json_flag(vm, "quota.default"));
    g_assert_cmpstr(json_text(q, "state"), ==, "attached");
    g_assert_cmpstr(json_text(q, "id"), ==, "vm");
    g_assert_cmpint(json_int(q, "connects"), ==, 1);
    g_assert_cmpint(json_int(q, "granule"), ==, GRANULE);
    g_assert_cmpstr(json_text(q, "blocks.0.name"), ==, "ram0");
    g_assert_cmpint(json_int(q, "blocks.0.length"), ==, RAM);
    g_assert_cmpint(json_int(q, "blocks.0.page-size"), ==, 4096);
    g_assert_true(json_flag(q, "blocks.0.present"));
    g_assert_null(json_at(q, "blocks.1"));
}

static void check_sources(struct rig *rig)
{
    static const char *const names[] = { "refault", "dirty", "sample" };
    g_autoptr(JsonObject) vm = rig_status(rig), q = rig_query(rig);

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *at = g_strdup_printf("sources.%u.name", i);
        g_autofree char *available = g_strdup_printf("sources.%u.available", i);

        g_assert_cmpstr(json_text(vm, at), ==, names[i]);
        g_assert_cmpstr(json_text(q, at), ==, names[i]);
        g_assert_cmpint(json_flag(vm, available), ==, json_flag(q, available));
    }
    g_assert_true(json_flag(vm, "sources.2.available"));
}

/* Heat map and samples have a value per granule of the same ranges. */
static void check_arrays(struct rig *rig)
{
    g_autoptr(JsonObject) map = ask(rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    g_autoptr(JsonObject) s = ask(rig->daemon->qmp, "query-vmtier-samples", "{\"vm\":\"vm\"}");
    const char *const in_map[] = { "heat", "tier" }, *const in_samples[] = { "dram", "cxl" };

    for (int i = 0; i < 2; i++) {
        JsonArray *a = json_object_get_array_member(map, in_map[i]);
        JsonArray *b = json_object_get_array_member(s, in_samples[i]);

        g_assert_cmpuint(json_array_get_length(a), ==, RAM / GRANULE);
        g_assert_cmpuint(json_array_get_length(b), ==, RAM / GRANULE);
    }
    g_assert_cmpint(json_int(map, "tier.7"), ==, 0);
    g_assert_cmpint(json_int(map, "tier.8"), ==, 1);
    g_assert_cmpstr(json_text(map, "ranges.0.block"), ==, "ram0");
    g_assert_cmpint(json_int(map, "ranges.0.first"), ==, 0);
    g_assert_cmpint(json_int(map, "granule_bytes"), ==, GRANULE);
}

static bool has_command(struct qmp *qmp, const char *name)
{
    g_autoptr(JsonNode) all = qmp_ok(qmp, "query-commands", NULL);
    JsonArray *list = json_node_get_array(all);

    for (guint i = 0; i < json_array_get_length(list); i++)
        if (strcmp(json_text(json_array_get_object_element(list, i), "name"), name) == 0)
            return true;
    return false;
}

static void test_query(gconstpointer label)
{
    g_autoptr(Rig) rig = start_still(label, "query");
    g_autoptr(JsonObject) status = ask(rig->daemon->qmp, "query-vmtier-status", "{}");

    check_identity(rig, label);
    check_sources(rig);
    check_arrays(rig);
    g_assert_true(json_flag(status, "userfaultfd.available"));
    g_assert_cmpint(json_int(status, "pid"), ==, rig->daemon->process->pid);
    g_assert_cmpstr(json_text(status, "tiers.0.name"), ==, "dram");
    g_assert_cmpstr(json_text(status, "tiers.1.name"), ==, "cxl");
    g_assert_cmpstr(json_text(status, "vms.0.name"), ==, "vm");
    g_assert_true(has_command(rig->daemon->qmp, "vmtier-set-quota"));
    g_assert_true(has_command(rig->vm->qmp, "x-vmtier-query"));
    g_assert_true(has_command(rig->vm->qmp, "x-vmtier-set"));
    g_assert_true(has_command(rig->vm->qmp, "x-vmtier-move"));
}

/* RAM above the PCI hole: one block, two places in the guest. */
static void test_split(gconstpointer label)
{
    g_autoptr(Rig) rig = start(label, "split", still, (struct vm_options){
        .extra = paused, .ram = "4G" });
    const gint64 low = 3072 * MIB;

    rig_wait_state(rig, "tiering");
    g_autoptr(JsonObject) query = rig_query(rig), vm = rig_status(rig);
    JsonObject *const both[] = { query, vm };
    static const char *const size[] = { "memslots.%d.length", "memslots.%d.size" };

    for (int i = 0; i < 2; i++) {
        JsonArray *slots = json_object_get_array_member(both[i], "memslots");
        guint last = json_array_get_length(slots) - 1;
        JsonObject *high = json_array_get_object_element(slots, last);

        g_assert_cmpuint(last, >=, 1);
        g_assert_cmpint(json_int(both[i], "memslots.0.gpa"), ==, 0);
        g_assert_cmpint(json_int(high, "gpa"), ==, 4096 * MIB);
        g_assert_cmpint(json_int(high, "offset"), ==, low);
        g_assert_cmpint(json_int(high, strrchr(size[i], '.') + 1), ==, 1024 * MIB);
        g_assert_cmpstr(json_text(high, "block"), ==, "ram0");
    }
    g_assert_cmpint(json_int(query, "blocks.0.granules"), ==, 2048);
    g_assert_cmpint(json_int(query, "blocks.0.tiers.dram"), ==, 8);
}

/* --- events --------------------------------------------------------------------------------- */

static JsonObject *expect_event(struct rig *rig, const char *name)
{
    JsonObject *event = qmp_wait_event(rig->vm->qmp, name, ANSWER);

    if (!event)
        g_error("no %s in QEMU's monitor", name);
    return event;
}

static void wait_event(struct rig *rig, const char *name)
{
    json_object_unref(expect_event(rig, name));
}

/* The VM is older than the daemon, and outlives it; placement stays. */
static void test_come_and_go(gconstpointer label)
{
    g_autoptr(Rig) rig = start(label, "events", NULL, (struct vm_options){ 0 });
    g_autoptr(JsonObject) before = rig_query(rig);

    g_assert_cmpstr(json_text(before, "state"), ==, "detached");
    rom_run(rig->vm, ROM_WRITE, all_pages, 3, 30);
    rig_start_daemon(rig, still);
    wait_event(rig, "X_VMTIER_ATTACHED");
    rig_move(rig, 10 * GRANULE, 4 * GRANULE, "cxl");
    wait_event(rig, "X_VMTIER_MOVED");
    check_placement(rig, 28);
    g_assert_cmpint(daemon_stop(rig->daemon), ==, 0);
    wait_event(rig, "X_VMTIER_DETACHED");
    g_autoptr(JsonObject) alone = rig_query(rig);

    g_assert_cmpstr(json_text(alone, "state"), ==, "detached");
    g_assert_cmpint(json_int(alone, "blocks.0.tiers.cxl"), ==, 4);
    daemon_restart(rig->daemon);
    wait_event(rig, "X_VMTIER_ATTACHED");
    rig_wait_state(rig, "tiering");
    check_placement(rig, 28);
    check_files(rig);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all_pages, 3, 30).result, ==, 0);
}

static void test_freeze(gconstpointer label)
{
    g_autoptr(Rig) rig = start_still(label, "freeze");
    struct qmp *qmp = rig->vm->qmp;

    json_node_unref(qmp_ok(qmp, "x-vmtier-set", "{\"mode\":\"frozen\"}"));
    g_autoptr(JsonObject) event = expect_event(rig, "X_VMTIER_FROZEN");

    says(json_text(event, "data.reason"), "frozen through x-vmtier-set");
    rig_wait_state(rig, "frozen");
    g_autoptr(JsonObject) vm = rig_status(rig), query = rig_query(rig);

    g_assert_cmpstr(json_text(vm, "reason"), ==, "frozen through x-vmtier-set");
    g_assert_cmpstr(json_text(query, "state"), ==, "frozen");
    g_autoptr(JsonObject) result = ask(qmp, "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":0,"
                                       "\"length\":4194304,\"tier\":\"cxl\"}");

    g_assert_cmpint(json_int(result, "moved"), ==, 0);
    g_assert_cmpint(json_int(result, "failed"), ==, 2);
    g_assert_cmpstr(json_text(result, "status"), ==, "frozen");
    json_node_unref(qmp_ok(qmp, "x-vmtier-set", "{\"mode\":\"on\"}"));
    rig_wait_state(rig, "tiering");
    g_autoptr(JsonObject) thawed = rig_status(rig);

    g_assert_true(JSON_NODE_HOLDS_NULL(json_at(thawed, "reason")));
    rig_move(rig, 0, 2 * GRANULE, "cxl");
    check_placement(rig, 6);
}

/* --- moves ---------------------------------------------------------------------------------- */

/* As the host sees guest RAM: what the ROM's own checks cannot see is every byte in between. */
static char *checksum(struct rig *rig, uint64_t from, uint64_t length)
{
    g_autofree guchar *bytes = g_malloc(length);

    vm_peek(rig->vm, from, bytes, length);
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes, length);
}

/* Bytes that differ everywhere, but for the mailbox's first 2 MiB. */
static void fill(struct rig *rig)
{
    g_autofree guint32 *words = g_malloc(RAM - GRANULE);
    GRand *rand = g_rand_new_with_seed(42);

    for (gsize i = 0; i < (RAM - GRANULE) / sizeof(*words); i++)
        words[i] = g_rand_int(rand);
    vm_poke(rig->vm, GRANULE, words, RAM - GRANULE);
    g_rand_free(rand);
}

static const struct {
    unsigned at, n;
    const char *tier;
    unsigned dram;              /* granules there afterwards */
} moves[] = {
    { 3, 1, "cxl", 7 },     { 3, 1, "dram", 8 },    { 2, 5, "cxl", 3 },     { 0, 32, "cxl", 0 },
    { 4, 16, "dram", 16 },  { 31, 1, "dram", 17 },  { 0, 32, "dram", 32 },  { 16, 16, "cxl", 16 },
    { 16, 16, "cxl", 16 },
};

static void test_move(gconstpointer label)
{
    g_autoptr(Rig) rig = start_still(label, "move");

    fill(rig);
    g_autofree char *before = checksum(rig, GRANULE, RAM - GRANULE);

    for (gsize i = 0; i < G_N_ELEMENTS(moves); i++) {
        rig_move(rig, moves[i].at * GRANULE, moves[i].n * GRANULE, moves[i].tier);
        g_autoptr(JsonObject) event = expect_event(rig, "X_VMTIER_MOVED");
        g_autofree char *after = checksum(rig, GRANULE, RAM - GRANULE);

        g_assert_cmpint(json_int(event, "data.granules"), ==, moves[i].n);
        g_assert_cmpstr(json_text(event, "data.tier"), ==, moves[i].tier);
        g_assert_cmpstr(after, ==, before);
        check_placement(rig, moves[i].dram);
        g_assert_cmpuint(rig_dram_bytes(rig), <=, moves[i].dram * GRANULE);
        g_assert_cmpuint(rig_cxl_bytes(rig), <=, RAM - moves[i].dram * GRANULE);
    }
    check_files(rig);
    g_assert_cmpuint(rig_dram_bytes(rig) + rig_cxl_bytes(rig), >=, RAM - GRANULE);
}

/* What the guest writes after a move is where the granule is now, and survives the way back. */
static void test_guest_goes_on(gconstpointer label)
{
    g_autoptr(Rig) rig = start_still(label, "goes-on");

    rom_run(rig->vm, ROM_WRITE, all_pages, 1000, 30);
    for (unsigned i = 0; i < 6; i++) {
        rig_move(rig, (2 + i) * GRANULE, 8 * GRANULE, i % 2 ? "dram" : "cxl");
        rom_run(rig->vm, ROM_ADD, all_pages, 5, 30);
    }
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, all_pages, 1030, 30).result, ==, 0);
}

static const struct {
    const char *command, *args, *error;
} wrong[] = {
    { "x-vmtier-move", "{}", "*block, offset, length and tier are needed" },
    { "x-vmtier-move", "{\"block\":\"ram9\",\"offset\":0,\"length\":2097152,\"tier\":\"cxl\"}",
      "*no tiered RAM block 'ram9'" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":0,\"length\":2097152,\"tier\":\"disk\"}",
      "*no tier 'disk'" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":4096,\"length\":2097152,\"tier\":\"cxl\"}",
      "*block ram0: offset 4096, length 2097152 is no range of*granules of 2097152 bytes" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":0,\"length\":4096,\"tier\":\"cxl\"}",
      "*offset 0, length 4096 is no range*" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":0,\"length\":0,\"tier\":\"cxl\"}",
      "*offset 0, length 0 is no range*" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":67108864,\"length\":2097152,"
      "\"tier\":\"cxl\"}", "*offset 67108864*is no range*" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":2097152,\"length\":67108864,"
      "\"tier\":\"cxl\"}", "*length 67108864 is no range*" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":-2097152,\"length\":2097152,"
      "\"tier\":\"cxl\"}", "*needed" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":\"0\",\"length\":2097152,\"tier\":\"cxl\"}",
      "*needed" },
    { "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":0,\"length\":2097152,\"teir\":\"cxl\"}",
      "*Parameter 'teir' is unexpected" },
    { "x-vmtier-set", "{}", "*mode is missing*" },
    { "x-vmtier-set", "{\"mode\":\"off\"}", "*mode 'off': it is on or frozen" },
    { "x-vmtier-query", "{\"what\":\"weather\"}", "*what='weather'*" },
    { "x-vmtier-query", "{\"what\":\"dirty\"}", "*needs block, offset and length" },
    { "x-vmtier-query", "{\"what\":\"dirty\",\"block\":\"x\",\"offset\":0,\"length\":4096}",
      "*block 'x': No such*" },
    { "x-vmtier-query", "{\"what\":\"dirty\",\"block\":\"ram0\",\"offset\":1,\"length\":4096}",
      "*Invalid*" },
};

static void test_errors(gconstpointer label)
{
    g_autoptr(Rig) rig = start_still(label, "errors");

    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *error = qmp_fails(rig->vm->qmp, wrong[i].command, "%s", wrong[i].args);

        says(error, wrong[i].error);
        g_assert_true(g_str_has_prefix(error, "GenericError: "));
    }
    check_placement(rig, 8);
    rig_wait_state(rig, "tiering");
}

/* --- settings ------------------------------------------------------------------------------- */

static void set(struct rig *rig, const char *what, const char *value)
{
    g_autofree char *command = g_strdup_printf("vmtier-set-%s", what);
    g_autofree char *args = g_strdup_printf("{\"vm\":\"vm\",%s}", value);

    json_node_unref(qmp_ok(rig->daemon->qmp, command, "%s", args));
}

static void set_quota(struct rig *rig, uint64_t bytes)
{
    g_autofree char *value = g_strdup_printf("\"max\":%" PRIu64, bytes);

    set(rig, "quota", value);
    rig_wait_int(rig, "quota.max_bytes", (gint64)bytes, ANSWER);
}

/* Less: the surplus goes, memory and all. More: room that what is hot moves into. */
static void test_quota(gconstpointer label)
{
    static const char *const args[] = { "--quota", "32M", NULL };
    static const struct rom_range hot = { .base = 44 * MIB, .stride = 4096, .count = 4096 };
    g_autoptr(Rig) rig = start(label, "quota", args, (struct vm_options){ 0 });

    rig_wait_state(rig, "tiering");
    rom_run(rig->vm, ROM_WRITE, all_pages, 1, 30);
    set_quota(rig, 4 * MIB);
    g_assert_true(rig_falls_to(rig, "tiers.0.ledger_bytes", 4 * MIB, ANSWER));
    g_assert_cmpuint(rig_dram_bytes(rig), <=, 4 * MIB);
    rom_give(rig->vm, ROM_SPIN, hot, 0);
    set_quota(rig, 24 * MIB);
    g_assert_true(rig_reaches(rig, "tiers.0.ledger_bytes", 20 * MIB, 20));
    g_assert_cmpuint(rig_dram_bytes(rig), <=, 24 * MIB);
    rom_stop_spin(rig->vm, 20);
    g_assert_cmpint(rig_daemon_int(rig, "tiers.0.ledger_bytes"), <=, 24 * MIB);
    g_assert_cmpint(rig_daemon_int(rig, "ledger_mismatches"), ==, 0);
    g_assert_false(rig_daemon_flag(rig, "quota.default"));
}

/* Promotions and demotions in a while. */
static gint64 moves_in(struct rig *rig, double seconds)
{
    g_autoptr(JsonObject) before = rig_status(rig);

    lab_sleep(seconds);
    g_autoptr(JsonObject) after = rig_status(rig);

    return json_int(after, "moves.promoted") + json_int(after, "moves.demoted") -
           json_int(before, "moves.promoted") - json_int(before, "moves.demoted");
}

/* off and observe leave everything where it is; so does rate 0; on with a rate moves. */
static void test_modes(gconstpointer label)
{
    static const char *const args[] = { "--quota", "16M", "--mode", "observe", NULL };
    static const struct rom_range hot = { .base = 48 * MIB, .stride = 4096, .count = 2048 };
    g_autoptr(Rig) rig = start(label, "modes", args, (struct vm_options){ 0 });

    rom_run(rig->vm, ROM_WRITE, all_pages, 1, 30);
    rom_give(rig->vm, ROM_SPIN, hot, 0);
    rig_wait_state(rig, "observing");
    g_assert_true(rig_reaches(rig, "plan.wanted", 1, ANSWER));
    g_assert_cmpint(moves_in(rig, 1), ==, 0);
    set(rig, "mode", "\"mode\":\"off\"");
    rig_wait_state(rig, "off");
    g_assert_cmpint(moves_in(rig, 1), ==, 0);
    g_assert_false(rig_daemon_flag(rig, "sources.2.active"));
    set(rig, "rate", "\"bytes_per_s\":0");
    set(rig, "mode", "\"mode\":\"on\"");
    rig_wait_state(rig, "tiering");
    g_assert_cmpint(moves_in(rig, 1), ==, 0);
    set(rig, "rate", "\"bytes_per_s\":268435456");
    g_assert_true(rig_falls_to(rig, "tiers.0.ledger_bytes", 16 * MIB, ANSWER));
    rom_stop_spin(rig->vm, 20);
    rom_give(rig->vm, ROM_SPIN, (struct rom_range){ 24 * MIB, 4096, 2048 }, 0);
    g_assert_true(rig_reaches(rig, "moves.promoted", 1, 20));
    set(rig, "rate", "\"bytes_per_s\":0");
    lab_sleep(0.6);
    g_assert_cmpint(moves_in(rig, 1), ==, 0);
}

/* --- the list of tests ---------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(gconstpointer label);
} tests[] = {
    { "first-placement", test_first_placement }, { "query", test_query }, { "split", test_split },
    { "come-and-go", test_come_and_go }, { "freeze", test_freeze }, { "move", test_move },
    { "guest-goes-on", test_guest_goes_on }, { "errors", test_errors }, { "quota", test_quota },
    { "modes", test_modes },
};

int main(int argc, char **argv)
{
    static const char *const labels[] = { "7.2", "10.0" };

    g_test_init(&argc, &argv, NULL);
    for (gsize l = 0; l < G_N_ELEMENTS(labels); l++)
        for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
            g_autofree char *path = g_strdup_printf("/attach/%s/%s", labels[l], tests[i].name);

            g_test_add_data_func(path, labels[l], tests[i].run);
        }
    return g_test_run();
}
