// SPDX-License-Identifier: GPL-2.0-or-later
/* Events in QEMU's monitors: the first at once, then one a second of a kind, and the latest wins. */
#include "vmm/announce.h"
#include "vmm/qemu.h"

#include <glib.h>

static GString *said;

/* Instead of QEMU's. */
void qemu_event(const char *name, const char *data)
{
    g_string_append_printf(said, "%s %s;", name, data);
}

static void expect(const char *what)
{
    g_assert_cmpstr(said->str, ==, what);
    g_string_truncate(said, 0);
}

static void test_limit(void)
{
    said = g_string_new(NULL);
    announce(ANNOUNCE_FREEZE, "FROZEN", "a \"b\" \\\n");
    expect("FROZEN {\"reason\": \"a 'b' / \"};");
    announce(ANNOUNCE_LINK, "ATTACHED", "");            /* another matter */
    expect("ATTACHED {\"reason\": \"\"};");
    for (int i = 0; i < 100; i++) {
        announce(ANNOUNCE_FREEZE, "THAWED", "");
        announce(ANNOUNCE_FREEZE, "FROZEN", "again");
        announce_waiting();
    }
    announce(ANNOUNCE_FREEZE, "THAWED", "at last");
    expect("");
    g_usleep(1050 * 1000);
    announce_waiting();
    expect("THAWED {\"reason\": \"at last\"};");
    announce_waiting();
    expect("");
    g_usleep(1050 * 1000);
    announce(ANNOUNCE_FREEZE, "FROZEN", "at once");
    expect("FROZEN {\"reason\": \"at once\"};");
    g_string_free(said, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vmm-announce/limit", test_limit);
    return g_test_run();
}
