// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of host/astray.c: a VM whose RAM is this program's, on the only node there is; the ledger says that some
 * of it is in a tier that has this node, and some in one that has another.
 */
#include "tests/unit/vm-fixture.h"

#include <numa.h>

#define GRANULE  (2ull << 20)
#define GRANULES 8u

struct bed {
    struct daemon *daemon;
    struct vm *vm;
    char *ram;
};

static void set_nodes(struct tier *t, unsigned node)
{
    t->mask = numa_allocate_nodemask();
    numa_bitmask_setbit(t->mask, node);
    t->nodes = g_strdup_printf("%u", node);
}

static struct bed *bed_new(void)
{
    struct bed *b = g_new0(struct bed, 1);

    b->daemon = fixture_daemon();
    set_nodes(&b->daemon->tiers->tier[0], 0);
    set_nodes(&b->daemon->tiers->tier[1], 1);
    b->vm = fixture_vm(b->daemon);
    b->vm->pid = (guint32)getpid();
    b->ram = mmap(NULL, GRANULES * GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(b->ram != MAP_FAILED);
    vm_resize(b->vm, GRANULES);
    b->vm->block[0].present = true;
    b->vm->block[0].host = (guintptr)b->ram;
    b->vm->block[0].count = GRANULES;
    b->vm->block[0].length = GRANULES * GRANULE - 4096;     /* the last one is shorter */
    for (guint32 g = 0; g < GRANULES; g++)
        ledger_put(&b->vm->ledger, g, 0);
    fixture_told = NULL;
    return b;
}

static void bed_free(struct bed *b)
{
    munmap(b->ram, GRANULES * GRANULE);
    vm_unref(b->vm);
    fixture_daemon_free(b->daemon);
    g_free(b);
}

static const struct vm_astray *look(struct bed *b, guint tier)
{
    b->vm->clock += 10;
    vm_look_astray(b->vm);
    return &b->vm->stats.astray[tier];
}

/* All where it should be; nothing is said of a tier without granules, or of pages that are not there. */
static void test_at_home(void)
{
    struct bed *b = bed_new();

    g_assert_cmpuint(look(b, 0)->seen, ==, 0);
    memset(b->ram, 1, GRANULES * GRANULE);
    g_assert_cmpuint(look(b, 0)->seen, ==, 512);
    g_assert_cmpuint(look(b, 0)->astray, ==, 0);
    g_assert_cmpuint(look(b, 1)->seen, ==, 0);
    bed_free(b);
}

/* Two of eight granules are in a tier whose node is another: all of theirs is astray, nothing of the others'. */
static void test_elsewhere(void)
{
    struct bed *b = bed_new();

    memset(b->ram, 1, GRANULES * GRANULE);
    ledger_put(&b->vm->ledger, 2, 1);
    ledger_put(&b->vm->ledger, 7, 1);
    g_assert_cmpuint(look(b, 1)->seen, ==, 512);
    g_assert_cmpuint(b->vm->stats.astray[1].astray, ==, 512);
    g_assert_cmpuint(b->vm->stats.astray[0].astray, ==, 0);
    bed_free(b);
}

/* A look costs little, but not nothing: there is one in ten seconds. */
static void test_seldom(void)
{
    struct bed *b = bed_new();

    memset(b->ram, 1, GRANULES * GRANULE);
    look(b, 0);
    b->vm->stats.astray[0] = (struct vm_astray){ 0 };
    b->vm->clock += 9;
    vm_look_astray(b->vm);
    g_assert_cmpuint(b->vm->stats.astray[0].seen, ==, 0);
    b->vm->clock += 1;
    vm_look_astray(b->vm);
    g_assert_cmpuint(b->vm->stats.astray[0].seen, ==, 512);
    bed_free(b);
}

/* It is told once, and again after it was over. */
static void test_told(void)
{
    struct bed *b = bed_new();

    memset(b->ram, 1, GRANULES * GRANULE);
    ledger_put(&b->vm->ledger, 0, 1);
    for (int i = 0; i < 3; i++) {
        look(b, 1);
        g_assert_true(b->vm->astray_told[1]);
    }
    g_assert_false(b->vm->astray_told[0]);
    numa_bitmask_setbit(b->daemon->tiers->tier[1].mask, 0);
    g_assert_cmpuint(look(b, 1)->astray, ==, 0);
    g_assert_false(b->vm->astray_told[1]);
    bed_free(b);
}

/* The process has ended: what is known is nothing, rather than what was. */
static void test_ended(void)
{
    struct bed *b = bed_new();

    memset(b->ram, 1, GRANULES * GRANULE);
    look(b, 0);
    b->vm->pid = 4194400;               /* above pid_max */
    g_assert_cmpuint(look(b, 0)->seen, ==, 0);
    bed_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/astray/at-home", test_at_home);
    g_test_add_func("/astray/elsewhere", test_elsewhere);
    g_test_add_func("/astray/seldom", test_seldom);
    g_test_add_func("/astray/told", test_told);
    g_test_add_func("/astray/ended", test_ended);
    return g_test_run();
}
