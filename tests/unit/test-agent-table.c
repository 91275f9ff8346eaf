// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of what an agent has said of granules, and of where its channel is looked for. */
#include "host/source/agent-link.h"
#include "host/source/agent-table.h"

#include <glib/gstdio.h>
#include <string.h>

#define GRANULE (2ull << 20)

static struct agent_table *table_new(void)
{
    struct agent_table *t = g_new0(struct agent_table, 1);

    t->granule = GRANULE;
    t->life_s = 100;
    agent_table_resize(t, 4);
    return t;
}

static void table_free(struct agent_table *t)
{
    agent_table_free(t);
    g_free(t);
}

static void say(struct agent_table *t, enum vta_kind kind, guint8 weight, guint64 bytes, guint32 report,
                guint32 now)
{
    const struct vta_range r = { 0, bytes, (guint8)kind, VTA_SHARE, weight, 0, 0 };

    agent_table_say(t, 1, &r, bytes, report, now);
}

static enum vta_kind kind_at(struct agent_table *t, guint32 now)
{
    return agent_table_judge(t, 1, now).kind;
}

/* Nothing is free that was not free all the time between two reports. */
static void test_free(void)
{
    struct agent_table *t = table_new();

    say(t, VTA_FREE, 255, GRANULE, 1, 10);
    g_assert_cmpint(kind_at(t, 10), ==, VTA_NONE);
    say(t, VTA_FREE, 255, GRANULE, 2, 20);
    g_assert_cmpint(kind_at(t, 20), ==, VTA_FREE);
    g_assert_cmpint(kind_at(t, 120), ==, VTA_FREE);
    g_assert_cmpint(kind_at(t, 121), ==, VTA_NONE);
    table_free(t);
}

static void test_half_free(void)
{
    struct agent_table *t = table_new();

    for (guint32 report = 1; report < 9; report++)
        say(t, VTA_FREE, 255, GRANULE / 2, report, report);
    g_assert_cmpint(kind_at(t, 9), ==, VTA_NONE);
    say(t, VTA_FREE, 255, GRANULE / 2, 8, 9);           /* its other half */
    g_assert_cmpint(kind_at(t, 9), ==, VTA_FREE);
    table_free(t);
}

/* One page in use, and there is no hole: cold at most. */
static void test_nearly_free(void)
{
    struct agent_table *t = table_new();

    for (guint32 report = 1; report < 3; report++)
        say(t, VTA_FREE, 255, GRANULE - 4096, report, report);
    g_assert_cmpint(kind_at(t, 3), ==, VTA_COLD);
    table_free(t);
}

static void test_hot(void)
{
    struct agent_table *t = table_new();

    say(t, VTA_HOT, 100, GRANULE / 2, 1, 10);
    g_assert_cmpint(kind_at(t, 10), ==, VTA_HOT);
    g_assert_cmpfloat_with_epsilon(agent_table_judge(t, 1, 10).heat, 100 / 255.0 / 2, 0.001);
    say(t, VTA_HOT, AGENT_SURE, 4096, 2, 11);           /* a page that somebody knows of */
    g_assert_cmpfloat_with_epsilon(agent_table_judge(t, 1, 11).heat, 1, 0.001);
    say(t, VTA_HOT, 100, GRANULE, 3, 12);               /* less sure, and not heard */
    g_assert_cmpfloat_with_epsilon(agent_table_judge(t, 1, 12).heat, 1, 0.001);
    say(t, VTA_HOT, 100, GRANULE, 4, 90);               /* later it is */
    g_assert_cmpfloat_with_epsilon(agent_table_judge(t, 1, 90).heat, 100 / 255.0, 0.001);
    table_free(t);
}

static void test_contradictions(void)
{
    struct agent_table *t = table_new();

    say(t, VTA_HOT, 100, GRANULE, 1, 10);
    say(t, VTA_COLD, 100, GRANULE, 2, 20);
    g_assert_cmpint(kind_at(t, 20), ==, VTA_COLD);
    say(t, VTA_HOT, 200, 4096, 3, 20);
    g_assert_cmpint(kind_at(t, 20), ==, VTA_HOT);
    say(t, VTA_PIN, 255, 4096, 4, 21);
    g_assert_cmpint(kind_at(t, 21), ==, VTA_PIN);
    say(t, VTA_NONE, 255, GRANULE, 5, 22);
    g_assert_cmpint(kind_at(t, 22), ==, VTA_NONE);
    table_free(t);
}

/* A replayed range adds up to no more than the granule, and an old one is old. */
static void test_replay(void)
{
    struct agent_table *t = table_new();
    struct vta_range old = { 0, GRANULE, VTA_PIN, VTA_SHARE, 255, 0, 200000 };

    for (int i = 0; i < 100000; i++)
        say(t, VTA_COLD, 100, GRANULE, 1, 10);
    g_assert_cmpuint(t->cell[1].said[VTA_COLD - 1].level, ==, AGENT_WHOLE);
    agent_table_say(t, 2, &old, GRANULE, 1, 300);
    g_assert_cmpint(agent_table_judge(t, 2, 301).kind, ==, VTA_NONE);
    table_free(t);
}

static void test_channel(void)
{
    g_autofree char *dir = g_dir_make_tmp("agent-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "domain-7-a-name-of-exactly-20", NULL);
    g_autofree char *patterns = g_strdup_printf("%s/%%n.sock:%s/domain-*-%%s", dir, dir);
    char reason[256] = "";

    g_assert_null(agent_find_channel(patterns, "a-name-of-exactly-20-and-more", NULL, reason, 256));
    g_assert_nonnull(strstr(reason, "no channel"));
    g_assert_true(g_file_set_contents(file, "", 0, NULL));
    g_autofree char *found = agent_find_channel(patterns, "a-name-of-exactly-20-and-more", NULL,
                                                reason, 256);

    g_assert_cmpstr(found, ==, file);
    g_assert_null(agent_find_channel(patterns, "..", NULL, reason, 256));
    g_unlink(file);
    g_rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent-table/free", test_free);
    g_test_add_func("/agent-table/half-free", test_half_free);
    g_test_add_func("/agent-table/nearly-free", test_nearly_free);
    g_test_add_func("/agent-table/hot", test_hot);
    g_test_add_func("/agent-table/contradictions", test_contradictions);
    g_test_add_func("/agent-table/replay", test_replay);
    g_test_add_func("/agent-table/channel", test_channel);
    return g_test_run();
}
