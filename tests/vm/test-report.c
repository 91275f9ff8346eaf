// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A real guest whose placement nobody decides but who pushes reports: what is reported hot comes to DRAM and
 * what is not goes, in each address space, and what is wrong is refused and changes nothing.
 *
 * timeout: 120
 */
#include "rig.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RAM      (64 * MIB)
#define GRANULES (RAM / GRANULE)
#define HOT      4              /* granules */

static const char config[] = "[vm default]\nquota=16M\nrate=1G\nsources=report\n";
/* A word in every page above the first MiB. */
static const struct rom_range pages = { .base = 1 * MIB, .stride = 4096, .count = 63 * 256 };

enum space { GPA, HVA, HPA };
static const char *const names[] = { "gpa", "hva", "hpa" };

static struct rig *start(const char *name)
{
    struct rig *rig = rig_new(name);
    g_autofree char *file = lab_path(rig->lab, "vmtierd.conf");

    g_assert_true(g_file_set_contents(file, config, -1, NULL));
    rig_start_daemon(rig, NULL);
    rig_start_vm(rig, (struct vm_options){ .accel = vm_kvm_usable() ? "kvm" : "tcg,thread=single" });
    rig_wait_state(rig, "tiering");
    rom_wait_alive(rig->vm, 20);
    rom_run(rig->vm, ROM_WRITE, pages, 0, 30);
    return rig;
}

static uint64_t frame_at(struct rig *rig, uint64_t hva)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", (int)rig->vm->qemu->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;

    g_assert_cmpint(pread(fd, &entry, 8, (off_t)(hva / 4096 * 8)), ==, 8);
    close(fd);
    return entry >> 63 ? entry & ((1ull << 55) - 1) : 0;
}

/* Where page `i` of a granule is, in that space, now. */
static uint64_t address_of(struct rig *rig, enum space space, unsigned granule, unsigned i)
{
    uint64_t gpa = granule * GRANULE + i * 4096ull;

    if (space == GPA)
        return gpa;
    return space == HVA ? rig->vm->ram_at + gpa : frame_at(rig, rig->vm->ram_at + gpa) * 4096;
}

/* Many accesses to the hot granules, a few pages of each. */
static void push(struct rig *rig, enum space space, unsigned first)
{
    g_autoptr(GString) list = g_string_new(NULL);

    for (unsigned g = first; g < first + HOT; g++)
        for (unsigned i = 0; i < 8; i++) {
            uint64_t address = address_of(rig, space, g, i * 61);

            if (address || space != HPA)        /* a page that is not mapped has no frame */
                g_string_append_printf(list, "%s{\"address\":%" PRIu64 ",\"weight\":100000}",
                                       list->len ? "," : "", address);
        }
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-report",
                           "{\"vm\":\"vm\",\"space\":\"%s\",\"accesses\":[%s]}", names[space], list->str));
}

static bool are_in_dram(struct rig *rig, unsigned first)
{
    g_autoptr(JsonObject) map = ask(rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"vm\"}");
    JsonArray *tier = json_object_get_array_member(map, "tier");
    unsigned there = 0;

    for (unsigned g = first; g < first + HOT; g++)
        there += json_array_get_int_element(tier, g) == 0;
    return there == HOT;
}

static gint64 number(struct rig *rig, const char *key)
{
    g_autoptr(JsonObject) vm = rig_status(rig);
    JsonArray *sources = json_object_get_array_member(vm, "sources");

    for (unsigned i = 0; i < json_array_get_length(sources); i++) {
        JsonObject *s = json_array_get_object_element(sources, i);

        if (strcmp(json_object_get_string_member(s, "name"), "report") == 0)
            return json_int(s, key);
    }
    g_assert_not_reached();
}

/* Pushes several times a second, as a driver would, until all of the hot set is in DRAM. */
static void follow(struct rig *rig, enum space space, unsigned first)
{
    double until = lab_deadline(30);

    while (!are_in_dram(rig, first)) {
        if (lab_now() > until)
            g_error("%s: granules %u.. did not come to DRAM; %" PRId64 " reports taken, %" PRId64 " missed",
                    names[space], first, number(rig, "events"), number(rig, "missed"));
        push(rig, space, first);
        lab_sleep(0.2);
    }
    g_test_message("%s: granules %u.. came within %.1f s", names[space], first, lab_now() - until + 30);
}

static void test_follow(gconstpointer data)
{
    const enum space space = (enum space)GPOINTER_TO_UINT(data);
    g_autoptr(Rig) rig = start(names[space]);

    if (space == HPA && !frame_at(rig, rig->vm->ram_at + 2 * MIB)) {
        g_test_skip("the kernel hides page frame numbers: run as root");
        return;
    }
    g_assert_false(are_in_dram(rig, 16));
    follow(rig, space, 16);
    follow(rig, space, 26);
    follow(rig, space, 10);
    g_assert_cmpint(number(rig, "events"), >, 0);
    g_assert_cmpint(rig_daemon_int(rig, "moves.failed"), ==, 0);
    g_assert_cmpint(rig_daemon_int(rig, "tiers.0.ledger_bytes"), <=, 16 * MIB);
    g_assert_cmpuint(rom_run(rig->vm, ROM_CHECK, pages, 0, 30).result, ==, 0);
}

/* Nothing is reported, or only nonsense: nothing moves. */
static void test_refused(void)
{
    static const char *const bad[] = {
        "{\"vm\":\"vm\",\"space\":\"gpa\",\"accesses\":[33554432,\"x\"]}",
        "{\"vm\":\"vm\",\"space\":\"gpa\",\"accesses\":[33554432,{\"address\":33554432,\"weight\":-1}]}",
        "{\"vm\":\"vm\",\"space\":\"dpa\",\"device\":\"mem9\",\"accesses\":[33554432]}",
        "{\"vm\":\"vm\",\"space\":\"mars\",\"accesses\":[33554432]}",
    };
    g_autoptr(Rig) rig = start("refused");
    gint64 before = rig_daemon_int(rig, "moves.promoted");

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *why = qmp_fails(rig->daemon->qmp, "vmtier-report", "%s", bad[i]);

        g_assert_true(g_str_has_prefix(why, "GenericError: "));
    }
    json_node_unref(qmp_ok(rig->daemon->qmp, "vmtier-report",
                           "{\"vm\":\"vm\",\"space\":\"gpa\",\"accesses\":[1099511627776,5368709120]}"));
    for (int i = 0; i < 50 && number(rig, "missed") < 2; i++)
        lab_sleep(0.1);
    g_assert_cmpint(number(rig, "missed"), ==, 2);
    g_assert_cmpint(number(rig, "events"), ==, 0);
    g_assert_cmpint(rig_daemon_int(rig, "moves.promoted"), ==, before);
}

/* The command takes lines on its standard input. */
static void test_command(void)
{
    g_autoptr(Rig) rig = start("command");
    g_autofree char *vmtier = lab_built("vmtier");
    g_autofree char *line = g_strdup_printf(
        "printf '# hot\\n0x2000000 7\\n0x2200000 5 1.5\\n' | %s report vm --socket %s", vmtier,
        rig->daemon->qmp_socket);
    const char *argv[] = { "sh", "-c", line, NULL };
    g_autofree char *out = NULL, *err = NULL;
    int status = -1;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
                               NULL));
    g_test_message("%s%s", out, err);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpstr(out, ==, "vm: 2 reports taken\n");
    for (int i = 0; i < 50 && number(rig, "events") < 2; i++)
        lab_sleep(0.1);
    g_assert_cmpint(number(rig, "events"), ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/report/follow/gpa", GUINT_TO_POINTER(GPA), test_follow);
    g_test_add_data_func("/report/follow/hva", GUINT_TO_POINTER(HVA), test_follow);
    g_test_add_data_func("/report/follow/hpa", GUINT_TO_POINTER(HPA), test_follow);
    g_test_add_func("/report/refused", test_refused);
    g_test_add_func("/report/command", test_command);
    return g_test_run();
}
