// SPDX-License-Identifier: GPL-2.0-or-later
/* See nested.h. */
#include "nested.h"

#include <numaif.h>
#include <stdio.h>
#include <string.h>

#define PAGE 4096u

/* --- machines ----------------------------------------------------------------------------------- */

struct rig *nested_daemon(const char *name, const char *config)
{
    struct rig *rig = rig_new(name);
    g_autofree char *file = lab_path(rig->lab, "vmtierd.conf");
    g_autoptr(GError) error = NULL;

    g_file_set_contents(file, config, -1, &error);
    g_assert_no_error(error);
    rig_start_daemon(rig, NULL);
    return rig;
}

/* Whatever its mode is. */
static bool is_known(JsonObject *vm, void *unused)
{
    (void)unused;
    return !g_str_equal(json_text(vm, "state"), "attaching") && json_int(vm, "rounds") > 0;
}

void nested_wait_known(struct rig *rig)
{
    g_assert_true(daemon_wait_vm(rig->daemon, "vm", is_known, NULL, TIMEOUT));
}

struct vm *nested_vm(struct rig *rig, const char *name, struct vm_options o)
{
    g_autofree char *id = g_strconcat("vm=", name, NULL), *plugin = rig_plugin(rig, id);

    o.accel = "kvm";
    if (!o.plugin)
        o.plugin = plugin;
    else if (!o.plugin[0])
        o.plugin = NULL;
    return vm_start(rig->lab, name, &o);
}

struct vm *nested_rom_vm(struct rig *rig, const char *name, struct vm_options o)
{
    g_autofree char *rom = lab_built("tests/rom.bin");

    o.rom = rom;
    o.machine = "pc";
    o.ram = "64M";
    return nested_vm(rig, name, o);
}

struct rig *nested_rom(const char *name, const char *config, struct vm_options o)
{
    struct rig *rig = nested_daemon(name, config);

    rig->vm = nested_rom_vm(rig, "vm", o);
    rom_wait_alive(rig->vm, TIMEOUT);
    if (!o.plugin)
        nested_wait_known(rig);
    return rig;
}

/* --- orders ------------------------------------------------------------------------------------- */

void nested_move_ranges(struct rig *rig, const char *tier, const char *ranges)
{
    g_autofree char *more = g_strdup_printf(",\"ranges\":[%s]", ranges);
    g_autoptr(JsonObject) event = rig_order(rig, tier, more, TIMEOUT);

    g_assert_cmpint(json_int(event, "data.failed"), ==, 0);
}

JsonObject *nested_move(struct rig *rig, const char *tier)
{
    g_autoptr(JsonObject) event = rig_order(rig, tier, "", TIMEOUT);

    return json_object_ref(json_object_get_object_member(event, "data"));
}

void nested_wait_rounds(struct rig *rig, gint64 n)
{
    g_assert_true(rig_reaches(rig, "rounds", rig_daemon_int(rig, "rounds") + n, TIMEOUT));
}

JsonObject *nested_dirty_log(struct rig *rig, uint64_t length)
{
    g_autofree char *args = g_strdup_printf(
        "{\"what\":\"dirty\",\"block\":\"ram0\",\"offset\":0,\"length\":%" PRIu64 "}", length);

    return ask(rig->vm->qmp, "x-vmtier-query", args);
}

/* --- where pages are ---------------------------------------------------------------------------- */

void nested_add_line(const char *line, struct nested_pages *pages)
{
    const char *size = strstr(line, " kernelpagesize_kB=");
    uint64_t each = size ? g_ascii_strtoull(strchr(size, '=') + 1, NULL, 10) * 1024 / PAGE : 1;

    for (unsigned node = 0; node < 2; node++) {
        g_autofree char *key = g_strdup_printf(" N%u=", node);
        const char *at = strstr(line, key);

        if (at)
            pages->on[node] += g_ascii_strtoull(at + strlen(key), NULL, 10) * each;
    }
}

char **nested_lines(struct vm *vm, uint64_t ram)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/numa_maps", (int)vm->qemu->pid), *text = NULL;
    GPtrArray *of_ram = g_ptr_array_new();

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        uint64_t start = g_ascii_strtoull(*line, NULL, 16);

        if (start >= vm->ram_at && start < vm->ram_at + ram)
            g_ptr_array_add(of_ram, g_strdup(*line));
    }
    g_ptr_array_add(of_ram, NULL);
    return (char **)g_ptr_array_free(of_ram, FALSE);
}

struct nested_pages nested_numa_maps(struct vm *vm, uint64_t ram)
{
    g_auto(GStrv) lines = nested_lines(vm, ram);
    struct nested_pages pages = { 0 };

    for (char **line = lines; *line; line++)
        nested_add_line(*line, &pages);
    return pages;
}

/* The node of each of `n` pages from an address on; negative: it is not there. */
static void nodes_of(pid_t pid, uint64_t hva, unsigned n, int *node)
{
    g_autofree void **at = g_new(void *, n);

    for (unsigned i = 0; i < n; i++)
        at[i] = (void *)(uintptr_t)(hva + (uint64_t)i * PAGE);      /* NOLINT(performance-no-int-to-ptr) */
    g_assert_cmpint(move_pages((int)pid, n, at, NULL, node, 0), ==, 0);
}

/* Adds a granule's pages; how many of them are not on the tier's node. */
static unsigned count_granule(struct vm *vm, uint64_t hva, unsigned n, gint64 tier,
                              struct nested_pages *pages)
{
    g_autofree int *node = g_new(int, n);
    unsigned wrong = 0;

    nodes_of(vm->qemu->pid, hva, n, node);
    for (unsigned i = 0; i < n; i++) {
        if (node[i] < 0)
            continue;
        g_assert_cmpint(node[i], <, 2);
        pages->on[node[i]]++;
        wrong += node[i] != tier;
    }
    return wrong;
}

static unsigned count_all(struct rig *rig, uint64_t ram, struct nested_pages *pages)
{
    g_autoptr(JsonObject) map = ask(rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    uint64_t granule = (uint64_t)json_int(map, "granule_bytes");
    JsonArray *tier = json_object_get_array_member(map, "tier");
    unsigned wrong = 0;

    g_assert_cmpuint(json_array_get_length(tier), >=, ram / granule);
    for (guint g = 0; g < ram / granule; g++)
        wrong += count_granule(rig->vm, rig->vm->ram_at + g * granule, (unsigned)(granule / PAGE),
                               json_array_get_int_element(tier, g), pages);
    return wrong;
}

struct nested_pages nested_check_ledger(struct rig *rig, uint64_t ram)
{
    struct nested_pages pages = { 0 }, maps;
    unsigned wrong;

    json_node_unref(qmp_ok(rig->vm->qmp, "stop", NULL));
    nested_wait_rounds(rig, 2);
    wrong = count_all(rig, ram, &pages);
    maps = nested_numa_maps(rig->vm, ram);
    json_node_unref(qmp_ok(rig->vm->qmp, "cont", NULL));
    g_test_message("pages on node 0: %" PRIu64 ", on node 1: %" PRIu64 " (numa_maps: %" PRIu64 ", %" PRIu64
                   "), on a node that the ledger does not say: %u", pages.on[0], pages.on[1], maps.on[0],
                   maps.on[1], wrong);
    g_assert_cmpuint(wrong, ==, 0);
    g_assert_cmpuint(maps.on[0], ==, pages.on[0]);
    g_assert_cmpuint(maps.on[1], ==, pages.on[1]);
    return pages;
}

/* --- the guest ---------------------------------------------------------------------------------- */

/* All of RAM but the first megabyte, where the mailbox is. */
static const struct rom_range counters = { .base = MIB, .stride = PAGE, .count = NESTED_COUNTED };

void nested_count(struct vm *vm)
{
    rom_run(vm, ROM_WRITE, counters, 0, TIMEOUT);
    rom_give(vm, ROM_SPIN, counters, 0);
}

struct counting {
    struct vm *vm;
    uint32_t from, rounds;
};

static bool has_counted(void *opaque)
{
    const struct counting *c = opaque;

    return rom_mailbox(c->vm).rounds - c->from >= c->rounds;
}

void nested_wait_counted(struct vm *vm, uint32_t rounds)
{
    struct counting c = { vm, rom_mailbox(vm).rounds, rounds };

    g_assert_true(lab_wait(has_counted, &c, TIMEOUT));
}

void nested_check_counters(struct vm *vm)
{
    struct rom_mailbox box;
    uint32_t rounds;

    rom_stop_spin(vm, TIMEOUT);
    rounds = rom_mailbox(vm).rounds;
    box = rom_run(vm, ROM_CHECK, counters, rounds, TIMEOUT);
    g_test_message("%s: %u rounds, %u of %u pages bad", vm->qemu->name, rounds, box.result, counters.count);
    g_assert_cmpuint(rounds, >, 0);
    g_assert_cmpuint(box.result, ==, 0);
}

int nested_run(void)
{
    if (g_getenv("VMTIER_L1"))
        return g_test_run();
    g_print("1..0 # SKIP run it in L1: make check-nested\n");
    return 0;
}
