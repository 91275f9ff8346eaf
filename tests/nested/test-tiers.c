// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A daemon that is told nothing finds the two nodes, and the kernel has each VM's CXL file bound to its own: numa_maps
 * has the policy of every mapping of it.
 */
#include "nested.h"

#include <string.h>

#define RAM (64 * MIB)

static const char config[] = "[vm default]\nquota=100%\nmode=off\nsources=report\n";

/* Lines of RAM that are of the CXL file, and the pages in them. */
static struct nested_pages check_lines(struct vm *vm, guint *lines)
{
    g_auto(GStrv) all = nested_lines(vm, RAM);
    struct nested_pages pages = { 0 };

    for (char **line = all; *line; line++) {
        if (!strstr(*line, "vmtier-cxl"))
            continue;
        g_test_message("%s", *line);
        g_assert_nonnull(strstr(*line, " bind:1 "));
        nested_add_line(*line, &pages);
        ++*lines;
    }
    return pages;
}

static void test_bound(void)
{
    g_autoptr(Rig) rig = nested_rom("tiers", config, (struct vm_options){ 0 });
    struct nested_pages pages;
    guint lines = 0;

    g_assert_false(rig_daemon_flag(rig, "tiers.0.emulated"));
    g_assert_false(rig_daemon_flag(rig, "tiers.1.emulated"));
    nested_count(rig->vm);
    nested_move_ranges(rig, "cxl", "{\"first\":4,\"count\":3},{\"first\":20,\"count\":2}");
    nested_wait_counted(rig->vm, 2);
    pages = check_lines(rig->vm, &lines);
    g_assert_cmpuint(lines, >=, 2);
    g_assert_cmpuint(pages.on[0], ==, 0);
    g_assert_cmpuint(pages.on[1], ==, 5 * GRANULE / 4096);
    nested_check_counters(rig->vm);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nested/tiers/bound", test_bound);
    return nested_run();
}
