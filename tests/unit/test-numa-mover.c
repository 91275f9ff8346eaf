// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the mover "numa": a VM of the daemon's whose QEMU is this process, with memory on made-up
 * nodes (numa-model.h), and its rounds.
 */
// link: -Wl,--wrap=move_pages,--wrap=ioctl,--wrap=numa_node_size64
#include "host/mover/mover.h"
#include "host/order.h"
#include "host/process.h"
#include "numa-model.h"
#include "vm-fixture.h"

#include <errno.h>

#define GRANULES 32u
#define EACH     512u           /* pages of a granule */
#define RAM      (GRANULES * EACH * PAGE_BYTES)

struct vm *daemon_find_vm(struct daemon *d, const char *name)
{
    struct vm *vm = d->vms->len ? g_ptr_array_index(d->vms, 0) : NULL;

    return vm && !strcmp(vm->name, name) ? vm : NULL;
}

struct fixture {
    struct daemon *daemon;
    struct vm *vm;
    char *memory;               /* between two inaccessible pages */
    struct vt_err err;
};

/* This process, with the command line of a QEMU. */
static struct process *pretend(void)
{
    static const char *const argv[] = { "qemu", "-m", "64M", "-name", "toy" };
    struct process *p = process_open(getpid(), NULL);

    g_assert_nonnull(p);
    g_ptr_array_set_size(p->argv, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(argv); i++)
        g_ptr_array_add(p->argv, g_strdup(argv[i]));
    return p;
}

static void set_up(struct fixture *f, gconstpointer nodes)
{
    char *room = mmap(NULL, RAM + 2 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(room != MAP_FAILED);
    f->memory = room + PAGE_BYTES;
    g_assert_cmpint(mprotect(f->memory, RAM, PROT_READ | PROT_WRITE), ==, 0);
    model_set_up((uintptr_t)f->memory, GRANULES * EACH, 1 << 20);
    f->daemon = fixture_daemon();
    tiers_free(f->daemon->tiers);
    f->daemon->tiers = model_tiers("0", nodes ? nodes : "1");
    f->daemon->config->defaults.quota.bytes = 16 << 20;
    f->daemon->config->defaults.rate = 1 << 30;
    f->vm = fixture_vm(f->daemon);
    close(f->vm->link);
    f->vm->link = -1;
    f->vm->can_sources = f->vm->sources = 0;
    numa_take(f->vm, pretend(), NULL);
    g_ptr_array_add(f->daemon->vms, f->vm);
}

static void tear_down(struct fixture *f, gconstpointer nodes)
{
    (void)nodes;
    vm_unref(f->vm);
    fixture_daemon_free(f->daemon);
    model_tear_down();
    munmap(f->memory - PAGE_BYTES, RAM + 2 * PAGE_BYTES);
}

static void attach(struct fixture *f)
{
    g_assert_cmpint(f->vm->mover->attach(f->vm, &f->err), ==, 0);
    g_assert_true(f->vm->placed);
}

/* A round, so many seconds after the last one. */
static int round_after(struct fixture *f, double seconds)
{
    f->vm->last_us = g_get_monotonic_time() - (gint64)(seconds * 1e6);
    return vm_round(f->vm, &f->err);
}

static void rounds(struct fixture *f, int n)
{
    while (n-- > 0)
        g_assert_cmpint(round_after(f, 0.25), ==, 0);
    fixture_check_counts(f->vm);
}

static struct vm_stats *stats(struct fixture *f)
{
    return &f->vm->stats;
}

static guint pages_on(int node)
{
    return model_count(0, GRANULES * EACH, node);
}

/* --- the ledger ---------------------------------------------------------------------------------------- */

static void test_attach(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, 4 * EACH, 1, 0);
    model_put(4 * EACH, 2 * EACH, EACH, 1);
    model_put(7 * EACH, 1, 1, 0);
    model_put(8 * EACH, 300, 1, 1);
    model_put(8 * EACH + 300, 200, 1, 0);
    model_put(9 * EACH, 10, 1, 3);
    model_put(10 * EACH, 200, 1, 1);
    model_put(10 * EACH + 300, 201, 1, 0);
    attach(f);
    g_assert_cmpuint(f->vm->ledger.n, ==, GRANULES);
    g_assert_cmpuint(f->vm->ledger.count[0], ==, 4 + 1 + 1 + 1);
    g_assert_cmpuint(f->vm->ledger.count[1], ==, 2 + 1);
    g_assert_cmpuint(f->vm->ledger.tier[6], ==, LEDGER_NONE);
    g_assert_cmpuint(f->vm->ledger.tier[8], ==, 1);     /* most of it */
    g_assert_cmpuint(f->vm->ledger.tier[10], ==, 0);
    g_assert_cmpuint(f->vm->mover->bytes(f->vm, 0), ==, (4 * EACH + 402) * PAGE_BYTES);
    g_assert_cmpuint(f->vm->mover->bytes(f->vm, 1), ==, (2 * EACH + 500) * PAGE_BYTES);
    g_assert_cmpuint(stats(f)->ram_bytes, ==, RAM);
    g_assert_cmpuint(stats(f)->n_slots, ==, 1);
    g_assert_cmpstr(stats(f)->backing, ==, "private memory, pages of 4 KiB");
    g_assert_cmpuint(model.moves, ==, 0);
}

static void test_no_ram(struct fixture *f, gconstpointer data)
{
    (void)data;
    munmap(f->memory, PAGE_BYTES);
    g_assert_cmpint(f->vm->mover->attach(f->vm, &f->err), ==, 0);
    g_assert_cmpint(stats(f)->state, ==, VM_REFUSED);
    g_assert_true(g_pattern_match_simple("*0 mappings of 67108864 bytes*monitor*", stats(f)->reason));
    g_assert_cmpint(f->vm->mover->attach(f->vm, &f->err), ==, 0);   /* it stays like that */
    g_atomic_int_set(&f->vm->leaving, VM_LEAVES);
    g_assert_cmpint(f->vm->mover->attach(f->vm, &f->err), ==, -ECANCELED);
}

/* --- rounds -------------------------------------------------------------------------------------------- */

/* What comes to be above the quota is moved out, and no faster than the rate. */
static void test_shrink(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->vm->want.rate = 16 << 20;
    model_put(0, 20 * EACH, 1, 0);
    attach(f);
    rounds(f, 1);
    g_assert_cmpuint(pages_on(1), <=, 2 * EACH);
    rounds(f, 20);
    g_assert_cmpuint(f->vm->ledger.count[0], ==, 8);
    g_assert_cmpuint(f->vm->ledger.count[1], ==, 12);
    g_assert_cmpuint(pages_on(0), ==, 8 * EACH);
    g_assert_cmpint(stats(f)->state, ==, VM_TIERING);
    g_assert_cmpuint(stats(f)->demoted, ==, 12);
    g_assert_cmpuint(stats(f)->moved_bytes, ==, 12 * EACH * PAGE_BYTES);
    g_assert_cmpuint(stats(f)->mismatches, ==, 0);
    model_put(20 * EACH, 12 * EACH, 1, 0);      /* the guest touches the rest */
    rounds(f, 40);
    g_assert_cmpuint(pages_on(0), ==, 8 * EACH);
    g_assert_cmpuint(f->vm->mover->bytes(f->vm, 1), ==, 24 * EACH * PAGE_BYTES);
}

/* A page of each granule is in use: the others move, and it comes after them when it can, not before
 * its time. */
static void test_stragglers(struct fixture *f, gconstpointer data)
{
    guint tries;

    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    for (guint g = 0; g < GRANULES; g++)
        model.page[g * EACH + g].pinned = true;
    attach(f);
    rounds(f, 8);
    g_assert_cmpuint(f->vm->ledger.count[0], ==, 8);
    g_assert_cmpuint(pages_on(1), ==, 24 * (EACH - 1));
    g_assert_cmpuint(stats(f)->deferred, >=, 24);
    g_assert_true(strstr(stats(f)->last_error, "1 of its pages stay: in use") != NULL);
    for (int i = 0; i < 10; i++)                /* five minutes: back-off is at its longest */
        rounds(f, 1), round_after(f, 30);
    tries = model.tries;
    rounds(f, 40);
    g_assert_cmpuint(model.tries - tries, <=, 24);
    for (guint g = 0; g < GRANULES; g++)
        model.page[g * EACH + g].pinned = false;
    round_after(f, 70);
    rounds(f, 1);
    g_assert_cmpuint(pages_on(1), ==, 24 * EACH);
}

/* What moves in part is paid for as well. */
static void test_parts_are_paced(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->vm->want.rate = 16 << 20;
    model_put(0, GRANULES * EACH, 1, 0);
    for (guint g = 0; g < GRANULES; g++)
        model.page[g * EACH].pinned = true;
    attach(f);
    for (int i = 0; i < 20; i++)
        g_assert_cmpint(round_after(f, 0.05), ==, 0);
    g_assert_cmpuint(pages_on(1), >, 0);
    g_assert_cmpuint(pages_on(1), <=, (8 + 3) * EACH);
}

/* Granules of which nothing moves are left alone, and others go instead. */
static void test_pinned_granules(struct fixture *f, gconstpointer data)
{
    guint tries;

    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    for (guint i = 0; i < 6 * EACH; i++)
        model.page[i].pinned = true;
    attach(f);
    rounds(f, 10);
    g_assert_cmpuint(f->vm->ledger.count[0], ==, 8);
    for (guint g = 0; g < 6; g++)
        g_assert_cmpuint(f->vm->ledger.tier[g], ==, 0);
    tries = model.tries;
    rounds(f, 40);
    g_assert_cmpuint(model.tries, ==, tries);
}

static void test_no_memory(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    model.free[1] = 3 * EACH + 100;
    attach(f);
    rounds(f, 10);
    g_assert_cmpuint(pages_on(1), ==, 3 * EACH + 100);
    g_assert_cmpuint(stats(f)->failed, >, 0);
    g_assert_true(strstr(stats(f)->last_error, "no memory left") != NULL);
    g_assert_cmpint(stats(f)->state, ==, VM_TIERING);
    model.free[1] = 1 << 20;
    for (int i = 0; i < 5; i++)
        round_after(f, 65);
    rounds(f, 10);
    g_assert_cmpuint(pages_on(0), ==, 8 * EACH);
}

/* What no page can get past freezes the VM with the reason, and is tried again. */
static void test_freeze(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    attach(f);
    model.fail = EACCES;
    rounds(f, 1);
    g_assert_cmpint(stats(f)->state, ==, VM_FROZEN);
    g_assert_true(strstr(stats(f)->reason, "cpuset.mems") != NULL);
    rounds(f, 20);
    g_assert_cmpint(stats(f)->state, ==, VM_FROZEN);
    g_assert_cmpuint(pages_on(0), ==, GRANULES * EACH);
    model.fail = EACCES;
    round_after(f, 11);
    g_assert_cmpint(stats(f)->state, ==, VM_FROZEN);
    round_after(f, 11);                         /* twice as long this time */
    g_assert_cmpint(stats(f)->state, ==, VM_FROZEN);
    round_after(f, 11);
    rounds(f, 10);
    g_assert_cmpint(stats(f)->state, ==, VM_TIERING);
    g_assert_cmpuint(pages_on(0), ==, 8 * EACH);
}

/* Both tiers on one node: nothing can be moved, which is said; what is there is shown. */
static void test_one_node(struct fixture *f, gconstpointer data)
{
    struct vt_move_one m = { .granule = 3, .tier = 1 };

    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    attach(f);
    rounds(f, 5);
    g_assert_cmpint(stats(f)->state, ==, VM_FROZEN);
    g_assert_true(strstr(stats(f)->reason, "node 0 is in the tiers") != NULL);
    g_assert_cmpuint(stats(f)->file_bytes[0], ==, RAM);
    g_assert_cmpint(f->vm->mover->carry_out(f->vm, &m, 1, false, &f->err), ==, 0);
    g_assert_cmpint(m.status, ==, VT_ST_FROZEN);
    g_assert_cmpuint(model.moves, ==, 0);
}

static void test_invalid(struct fixture *f, gconstpointer data)
{
    struct vt_move_one m[] = { { .granule = GRANULES, .tier = 1 }, { .granule = 1, .tier = 7 },
                               { .granule = 2, .tier = 1 } };

    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    attach(f);
    g_assert_cmpint(f->vm->mover->carry_out(f->vm, m, G_N_ELEMENTS(m), false, &f->err), ==, 0);
    g_assert_cmpint(m[0].status, ==, VT_ST_INVALID);
    g_assert_cmpint(m[1].status, ==, VT_ST_INVALID);
    g_assert_cmpint(m[2].status, ==, VT_ST_OK);
    g_assert_cmpuint(pages_on(1), ==, EACH);
}

/* --- the end ------------------------------------------------------------------------------------------- */

static void test_ended(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    attach(f);
    rounds(f, 1);
    model.no_process = true;
    g_assert_cmpint(round_after(f, 0.25), ==, -ESRCH);
}

static void test_unmapped(struct fixture *f, gconstpointer data)
{
    (void)data;
    model_put(0, GRANULES * EACH, 1, 0);
    attach(f);
    rounds(f, 2);
    munmap(f->memory, RAM / 2);
    g_assert_cmpint(round_after(f, 3), ==, -ENXIO);
    g_assert_cmpuint(f->vm->ledger.count[0] + f->vm->ledger.count[1], ==, 0);
    g_assert_cmpuint(f->vm->mover->bytes(f->vm, 0), ==, 0);
}

/* A page that is in use for a while is waited for, one that is for longer stays. */
static void goes_home(struct fixture *f, int rounds_in_use)
{
    guint pinned = 0;
    int n = 0;

    model_put(0, GRANULES * EACH, 1, 0);
    attach(f);
    rounds(f, 10);
    g_assert_cmpuint(pages_on(1), ==, 24 * EACH);
    while (model.page[pinned].node != 1)
        pinned++;
    model.page[pinned].pinned = true;
    g_atomic_int_set(&f->vm->leaving, VM_GOES_HOME);
    while (round_after(f, 0.25) == 0 && n < 40)
        model.page[pinned].pinned = ++n < rounds_in_use;
    g_assert_cmpint(n, <, 40);
    g_assert_cmpuint(pages_on(1), ==, n < rounds_in_use);
    g_assert_true(strstr(f->err.text, "detached") != NULL);
}

static void test_goes_home(struct fixture *f, gconstpointer data)
{
    (void)data;
    goes_home(f, 6);
    g_assert_cmpuint(pages_on(0), ==, GRANULES * EACH);
}

static void test_goes_home_in_part(struct fixture *f, gconstpointer data)
{
    (void)data;
    goes_home(f, 100);
    g_assert_cmpuint(pages_on(0), ==, GRANULES * EACH - 1);
}

/* --- orders -------------------------------------------------------------------------------------------- */

static JsonObject *parse(const char *text)
{
    g_autoptr(JsonNode) node = json_from_string(text, NULL);

    g_assert_nonnull(node);
    return json_node_dup_object(node);
}

static bool order(struct fixture *f, const char *text, char **why)
{
    g_autoptr(JsonObject) args = parse(text);
    g_autoptr(GError) error = NULL;
    JsonNode *reply = order_commands[0].run(args, f->daemon, &error);

    *why = error ? g_strdup(error->message) : NULL;
    if (reply)
        json_node_unref(reply);
    return reply != NULL;
}

static void must_order(struct fixture *f, const char *text)
{
    g_autofree char *why = NULL;

    if (!order(f, text, &why))
        g_error("%s: %s", text, why);
}

static void test_order(struct fixture *f, gconstpointer data)
{
    g_autofree char *why = NULL;

    (void)data;
    f->vm->want.mode = VM_OFF;
    model_put(0, GRANULES * EACH, 1, 0);
    attach(f);
    g_assert_false(order(f, "{\"vm\":\"toy\",\"tier\":\"cxl\"}", &why));     /* before the first round */
    rounds(f, 3);
    must_order(f, "{\"vm\":\"toy\",\"tier\":\"cxl\","
               "\"ranges\":[{\"first\":2,\"count\":3},{\"first\":30,\"count\":2}]}");
    g_clear_pointer(&why, g_free);
    g_assert_false(order(f, "{\"vm\":\"toy\",\"tier\":\"cxl\"}", &why));
    g_assert_true(why && strstr(why, "under way"));
    rounds(f, 3);
    g_assert_null(f->vm->order);
    g_assert_cmpuint(model_count(2 * EACH, 3 * EACH, 1), ==, 3 * EACH);
    g_assert_cmpuint(pages_on(1), ==, 5 * EACH);
    must_order(f, "{\"vm\":\"toy\",\"tier\":\"dram\"}");    /* 27 are there, the quota is 8 */
    rounds(f, 3);
    g_assert_cmpuint(pages_on(1), ==, 5 * EACH);
    f->vm->want.quota_bytes = RAM;
    must_order(f, "{\"vm\":\"toy\",\"tier\":\"dram\"}");
    rounds(f, 3);
    g_assert_cmpuint(pages_on(1), ==, 0);
}

static void test_bad_orders(struct fixture *f, gconstpointer data)
{
    static const char *const bad[] = {
        "{\"vm\":\"toy\",\"tier\":\"tape\"}",
        "{\"vm\":\"none\",\"tier\":\"cxl\"}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[5]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":0}]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":0,\"count\":0}]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":31,\"count\":2}]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":-1,\"count\":2}]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":4294967296,\"count\":1}]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":1,\"count\":4294967295}]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":\"1\",\"count\":1}]}",
        "{\"vm\":\"toy\",\"tier\":\"cxl\",\"ranges\":[{\"first\":1,\"count\":1,\"x\":1}]}",
    };

    (void)data;
    attach(f);
    rounds(f, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *why = NULL;

        if (order(f, bad[i], &why))
            g_error("taken: %s", bad[i]);
        g_assert_nonnull(why);
    }
    g_assert_null(f->vm->order);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*run)(struct fixture *f, gconstpointer data);
        const char *nodes;
    } tests[] = {
        { "attach", test_attach, NULL },
        { "no-ram", test_no_ram, NULL },
        { "shrink", test_shrink, NULL },
        { "stragglers", test_stragglers, NULL },
        { "parts-are-paced", test_parts_are_paced, NULL },
        { "pinned-granules", test_pinned_granules, NULL },
        { "no-memory", test_no_memory, NULL },
        { "freeze", test_freeze, NULL },
        { "one-node", test_one_node, "0" },
        { "invalid", test_invalid, NULL },
        { "ended", test_ended, NULL },
        { "unmapped", test_unmapped, NULL },
        { "goes-home", test_goes_home, NULL },
        { "goes-home-in-part", test_goes_home_in_part, NULL },
        { "order", test_order, NULL },
        { "bad-orders", test_bad_orders, NULL },
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/numa-mover/", tests[i].path, NULL);

        g_test_add(path, struct fixture, tests[i].nodes, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
