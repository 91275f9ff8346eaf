// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM's dirty log under nested paging, by both routes (kvm: the ioctl; qemu: QEMU's own client): no page
 * that was written is missing, also after moves, and none is told that was not written, as long as nothing
 * is unmapped. After a move KVM maps the moved pages anew, writable at the first read if it can, and logs
 * them then; that is KVM's doing, and the only thing that may be told too much.
 */
#include "nested.h"

#include <string.h>

#define RAM   (64 * MIB)
#define PAGES (RAM / 4096)

static const char config[] = "[vm default]\nquota=100%\nrate=1G\nmode=off\nsources=report\n";
static const struct rom_range all = { .base = MIB, .stride = 4096, .count = 63 * 256 };
static const struct rom_range few = { .base = 16 * MIB, .stride = 3 * 4096, .count = 50 };
static const struct rom_range odd = { .base = MIB + 4096, .stride = 7 * 4096 + 512, .count = 2000 };

struct log {
    bool written[PAGES];
};

static void read_log(struct rig *rig, struct log *log)
{
    g_autoptr(JsonObject) answer = nested_dirty_log(rig, RAM);
    const char *bitmap = json_text(answer, "bitmap");

    g_assert_cmpuint(strlen(bitmap), ==, PAGES / 4);
    for (guint p = 0; p < PAGES; p++)
        log->written[p] = g_ascii_xdigit_value(bitmap[p / 8 * 2 + (p % 8 < 4)]) >> p % 4 & 1;
}

/* Carries out a command, and compares the log: pages missing are none; how many there are too many. */
static guint check(struct rig *rig, uint32_t command, struct rom_range range)
{
    struct log wanted = { .written[ROM_MAILBOX / 4096] = true }, log;
    guint missed = 0, more = 0;

    for (guint i = 0; command != ROM_READ && i < range.count; i++)
        wanted.written[(range.base + (uint64_t)i * range.stride) / 4096] = true;
    rom_run(rig->vm, command, range, 1, TIMEOUT);
    read_log(rig, &log);
    for (guint p = 0; p < PAGES; p++) {
        missed += wanted.written[p] && !log.written[p];
        more += log.written[p] && !wanted.written[p];
    }
    g_assert_cmpuint(missed, ==, 0);
    return more;
}

static void test_route(gconstpointer route)
{
    g_setenv("VMTIER_TEST_DIRTY", route, TRUE);
    g_autoptr(Rig) rig = nested_rom("dirty-log", config, (struct vm_options){ 0 });
    struct log unused;
    guint more;

    read_log(rig, &unused);                         /* switches it on */
    g_autoptr(JsonObject) query = rig_query(rig);

    g_assert_cmpstr(json_text(query, "dirty.route"), ==, route);
    check(rig, ROM_WRITE, all);
    g_assert_cmpuint(check(rig, ROM_WRITE, few), ==, 0);
    g_assert_cmpuint(check(rig, ROM_READ, all), ==, 0);
    g_assert_cmpuint(check(rig, ROM_ADD, odd), ==, 0);
    rig_move(rig, 16 * MIB, 2 * MIB, "cxl");
    more = check(rig, ROM_READ, all);
    g_test_message("%s: %u of 512 moved pages are told as written when they are read again", (const char *)route,
                   more);
    g_assert_cmpuint(more, <=, 512);
    g_assert_cmpuint(check(rig, ROM_WRITE, few), ==, 0);
    rig_move(rig, 16 * MIB, 2 * MIB, "dram");
    g_assert_cmpuint(check(rig, ROM_WRITE, odd), <=, 512);
    g_assert_cmpuint(check(rig, ROM_READ, all), <=, 512);
    g_assert_cmpuint(check(rig, ROM_READ, all), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/nested/dirty-log/kvm", "kvm", test_route);
    g_test_add_data_func("/nested/dirty-log/qemu", "qemu", test_route);
    return nested_run();
}
