// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of the source "report": what the command takes and refuses, what reaches heat, and that a
 * refused batch changes nothing.
 */
// link: -Wl,--wrap=heat_add
#include "host/source/report.h"
#include "host/source/source.h"
#include "tests/unit/heard.h"
#include "tests/unit/vm-fixture.h"

#include <errno.h>
#include <math.h>

#define GRANULE (2ull << 20)
#define HVA     0x7f0000000000ull
#define GPA     0x100000000ull

struct bed {
    struct daemon *daemon;
    struct vm *vm;
    struct vt_err err;
};

static struct vm *the_vm;

struct vm *daemon_find_vm(struct daemon *d, const char *name)
{
    (void)d;
    return the_vm && !strcmp(name, the_vm->name) ? the_vm : NULL;
}

/* One block of eight granules, at GPA and HVA. */
static struct bed *bed_new(void)
{
    struct bed *b = g_new0(struct bed, 1);

    heard_forget();
    b->daemon = fixture_daemon();
    b->vm = the_vm = fixture_vm(b->daemon);
    vm_resize(b->vm, 8);
    b->vm->block[0].present = true;
    b->vm->block[0].host = HVA;
    b->vm->block[0].length = 8 * GRANULE;
    b->vm->block[0].count = 8;
    b->vm->block[0].page_size = 4096;
    for (guint32 g = 0; g < 8; g++)
        ledger_put(&b->vm->ledger, g, 0);
    b->vm->stats.slot[0] = (struct vt_slot){ .gpa = GPA, .length = 8 * GRANULE };
    b->vm->stats.n_slots = 1;
    b->vm->config.sources = 1u << SRC_REPORT;
    b->vm->config.sample_period = 1;
    b->vm->now.mode = VM_ON;
    g_assert_cmpint(sources_switch(b->vm, &b->err), ==, 0);
    return b;
}

static void bed_free(struct bed *b)
{
    vm_unref(b->vm);
    the_vm = NULL;
    fixture_daemon_free(b->daemon);
    g_free(b);
}

/* The command with these arguments; quotes are single ones. NULL, or what it says. */
static char *give(struct bed *b, const char *quoted)
{
    g_autofree char *text = g_strdelimit(g_strdup(quoted), "'", '"');
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) args = json_from_string(text, &error), reply = NULL;

    g_assert_no_error(error);
    if (qmp_args_check(report_commands[0].args, json_node_get_object(args), &error))
        reply = report_commands[0].run(json_node_get_object(args), b->daemon, &error);
    g_assert_true(!reply == !!error);
    return error ? g_strdup(error->message) : NULL;
}

static void taken(struct bed *b, const char *quoted)
{
    g_autofree char *why = give(b, quoted);

    g_assert_cmpstr(why, ==, NULL);
}

static void round_of(struct bed *b)
{
    g_assert_cmpint(sources_switch(b->vm, &b->err), ==, 0);
    g_assert_cmpint(sources_harvest(b->vm, 0.25, &b->err), ==, 0);
    b->vm->clock += 0.25;
}

static double heat(struct bed *b, guint32 granule)
{
    (void)b;
    return heard[HEAT_SAMPLES][granule].events;
}

static void assert_near(double is, double should)
{
    if (fabs(is - should) > 0.02 * should + 1e-9)
        g_error("%g is not about %g", is, should);
}

static void test_spaces(void)
{
    struct bed *b = bed_new();

    g_assert_false(b->vm->stats.source[SRC_REPORT].drives);
    taken(b, "{'vm':'toy','space':'gpa','accesses':[4294967296,4297064448,{'address':4294967300,'weight':9}]}");
    taken(b, "{'vm':'toy','space':'hva','accesses':[{'address':139637983281152,'weight':3}]}");
    round_of(b);
    assert_near(heat(b, 0), 10);
    assert_near(heat(b, 1), 1);
    assert_near(heat(b, 3), 3);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].events, ==, 4);
    g_assert_true(b->vm->stats.source[SRC_REPORT].drives);
    b->vm->clock += 30;         /* nobody says anything: that is no sign of coldness */
    round_of(b);
    g_assert_false(b->vm->stats.source[SRC_REPORT].drives);
    bed_free(b);
}

/* A range spreads by bytes; what is beside the VM's memory is lost, and counted when all of it is. */
static void test_ranges(void)
{
    struct bed *b = bed_new();

    taken(b, "{'vm':'toy','space':'gpa','accesses':[{'address':4296015872,'size':2097152,'weight':8}]}");
    taken(b, "{'vm':'toy','space':'gpa','accesses':[{'address':4309647360,'size':4194304,'weight':8}]}");
    taken(b, "{'vm':'toy','space':'gpa','accesses':[0,{'address':4311744512,'size':4096}]}");
    round_of(b);
    assert_near(heat(b, 0), 4);
    assert_near(heat(b, 1), 4);
    assert_near(heat(b, 7), 4);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].events, ==, 2);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].missed, ==, 2);
    bed_free(b);
}

/* Old evidence counts as if it had been heard in time. */
static void test_age(void)
{
    struct bed *b = bed_new();

    taken(b, "{'vm':'toy','space':'gpa','age_s':8,'accesses':[{'address':4294967296,'weight':100},"
             "{'address':4297064448,'weight':100,'age_s':16},{'address':4299161600,'weight':100,'age_s':0},"
             "{'address':4301258752,'weight':100,'age_s':3600}]}");
    round_of(b);
    assert_near(heat(b, 0), 50);
    assert_near(heat(b, 1), 25);
    assert_near(heat(b, 2), 100);
    g_assert_cmpfloat(heat(b, 3), ==, 0);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].missed, ==, 1);
    bed_free(b);
}

static void test_bad(void)
{
    static const struct {
        const char *args, *error;
    } bad[] = {
        { "{'vm':'none','space':'gpa','accesses':[1]}", "VM 'none' not found" },
        { "{'vm':'toy','accesses':[1]}", "Parameter 'space' is missing" },
        { "{'vm':'toy','space':'spa','accesses':[1]}", "it is gpa, hva, hpa or dpa" },
        { "{'vm':'toy','space':'gpa','accesses':[]}", "1 to 16384 of them" },
        { "{'vm':'toy','space':'gpa','accesses':[4294967296,-1]}", "element 1 is neither" },
        { "{'vm':'toy','space':'gpa','accesses':[4294967296,'x']}", "element 1 is neither" },
        { "{'vm':'toy','space':'gpa','accesses':[1.5]}", "element 0 is neither" },
        { "{'vm':'toy','space':'gpa','accesses':[null]}", "element 0 is neither" },
        { "{'vm':'toy','space':'gpa','accesses':[[1]]}", "element 0 is neither" },
        { "{'vm':'toy','space':'gpa','accesses':[{}]}", "element 0 has no address" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'size':0}]}", "element 0: 'size'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'size':-1}]}", "element 0: 'size'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'size':9e18}]}", "element 0: 'size'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'size':8589934593}]}", "spans 8589934593" },
        { "{'vm':'toy','space':'hpa','accesses':[{'address':1,'size':2097153}]}", "spans 2097153" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':9223372036854775807}]}", "address space" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'weight':0}]}", "element 0: 'weight'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'weight':-3}]}", "element 0: 'weight'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'weight':1e10}]}", "element 0: 'weight'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'weight':'1'}]}", "element 0: 'weight'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'age_s':-1}]}", "element 0: 'age_s'" },
        { "{'vm':'toy','space':'gpa','accesses':[{'address':1,'age':1}]}", "element 0: 'age' is unknown" },
        { "{'vm':'toy','space':'gpa','age_s':1e9,'accesses':[1]}", "age_s: from 0 to 3600" },
        { "{'vm':'toy','space':'gpa','device':'mem0','accesses':[1]}", "only then" },
        { "{'vm':'toy','space':'dpa','accesses':[1]}", "a device is named" },
        { "{'vm':'toy','space':'dpa','device':'mem0','accesses':[1]}", "/nonexistent: this host shows no CXL" },
    };
    struct bed *b = bed_new();

    report_set_cxl_root("/nonexistent");
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *why = give(b, bad[i].args);

        if (!why || !strstr(why, bad[i].error))
            g_error("%s: '%s' does not say '%s'", bad[i].args, why, bad[i].error);
    }
    round_of(b);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].events, ==, 0);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].missed, ==, 0);
    for (guint32 g = 0; g < 8; g++)
        g_assert_cmpfloat(heat(b, g), ==, 0);
    bed_free(b);
}

/* What does not fit is refused whole; a round makes room. */
static void test_full(void)
{
    struct bed *b = bed_new();
    g_autofree struct report *many = g_new(struct report, REPORT_QUEUE);
    g_autoptr(GError) error = NULL;
    const struct source_stats *s = &b->vm->stats.source[SRC_REPORT];

    for (guint i = 0; i < REPORT_QUEUE; i++)
        many[i] = (struct report){ .address = GPA, .size = 1, .weight = 1,
                                   .at_us = g_get_monotonic_time() };
    g_assert_true(report_push(b->vm, many, REPORT_QUEUE - 2, &error));
    g_assert_false(report_push(b->vm, many, 3, &error));
    g_assert_cmpuint(report_waiting(b->vm), ==, REPORT_QUEUE - 2);
    g_assert_nonnull(strstr(error->message, "toy: 3 reports are more than fit: 65534 of 65536 wait"));
    g_clear_error(&error);
    g_assert_true(report_push(b->vm, many, 2, &error));
    b->vm->config.probe_budget_us = 0;      /* a little is taken each time, whatever the budget */
    round_of(b);
    g_assert_cmpuint(s->events, >, 0);
    g_assert_cmpuint(s->events, <, REPORT_QUEUE);
    g_assert_false(report_push(b->vm, many, REPORT_QUEUE, NULL));
    g_assert_true(report_push(b->vm, many, (guint)s->events, &error));
    b->vm->config.probe_budget_us = 10000000;
    for (int i = 0; i < 3; i++)
        round_of(b);
    g_assert_cmpuint(s->events, >, REPORT_QUEUE);
    g_test_message("%.0f ns per report", (double)s->cpu_ns / (double)s->events);
    g_assert_true(report_push(b->vm, many, REPORT_QUEUE, &error));
    bed_free(b);                            /* with a full queue */
}

/* The longest of reports, of nothing: still a matter of microseconds. */
static void test_long(void)
{
    struct bed *b = bed_new();
    struct report r = { .address = 0, .size = REPORT_SPAN * GRANULE, .weight = 1 };
    g_autoptr(GArray) many = g_array_new(FALSE, FALSE, sizeof(r));

    r.at_us = g_get_monotonic_time();
    r.address = GPA + 8 * GRANULE;
    for (int i = 0; i < 10000; i++)
        g_array_append_val(many, r);
    b->vm->config.probe_budget_us = 1000000;
    g_assert_true(report_push(b->vm, (struct report *)(void *)many->data, many->len, NULL));
    round_of(b);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].missed, ==, 10000);
    bed_free(b);
}

static void test_off(void)
{
    struct bed *b = bed_new();
    g_autofree char *why = NULL;

    taken(b, "{'vm':'toy','space':'gpa','accesses':[4294967296]}");
    b->vm->now.mode = VM_OFF;
    round_of(b);
    g_assert_false(b->vm->stats.source[SRC_REPORT].running);
    why = give(b, "{'vm':'toy','space':'gpa','accesses':[4294967296]}");
    g_assert_nonnull(strstr(why, "toy takes no reports"));
    b->vm->now.mode = VM_ON;
    round_of(b);
    g_assert_cmpfloat(heat(b, 0), ==, 0);   /* what waited is gone */
    taken(b, "{'vm':'toy','space':'gpa','accesses':[4294967296]}");
    round_of(b);
    assert_near(heat(b, 0), 1);
    bed_free(b);
}

/* --- physical addresses ------------------------------------------------------------------------- */

static guint64 frame_of(const void *page)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    guint64 entry = 0;

    g_assert_cmpint(pread(fd, &entry, 8, (off_t)((guintptr)page / 4096 * 8)), ==, 8);
    close(fd);
    return entry & ((1ull << 55) - 1);
}

/* This process' own memory is the VM's. */
static void test_hpa(void)
{
    struct bed *b = bed_new();
    guint8 *ram = mmap(NULL, 8 * GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                       -1, 0);
    guint64 hpa = frame_of(ram + 5 * GRANULE + 4096 * 7) * 4096 + 64;
    g_autofree char *text = g_strdup_printf("{'vm':'toy','space':'hpa','accesses':[{'address':%"
                                            G_GUINT64_FORMAT ",'weight':4},4096]}", hpa);

    if (hpa == 64) {
        g_test_skip("the kernel hides page frame numbers: run as root");
    } else {
        b->vm->pid = (guint32)getpid();
        b->vm->block[0].host = (guintptr)ram;
        b->vm->map_changed = true;
        taken(b, text);
        for (int i = 0; i < 200 && b->vm->stats.source[SRC_REPORT].events == 0; i++)
            round_of(b);
        assert_near(heat(b, 5), 4);
        g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].missed, ==, 1);
    }
    munmap(ram, 8 * GRANULE);
    bed_free(b);
}

/* Whose memory cannot be looked at: the reports are lost, and the reason is shown. */
static void test_hpa_gone(void)
{
    struct bed *b = bed_new();

    b->vm->pid = 1 << 22;       /* above pid_max */
    taken(b, "{'vm':'toy','space':'hpa','accesses':[4096]}");
    round_of(b);
    round_of(b);
    g_assert_cmpuint(b->vm->stats.source[SRC_REPORT].missed, ==, 1);
    g_assert_true(b->vm->stats.source[SRC_REPORT].error[0]);
    g_assert_true(b->vm->stats.source[SRC_REPORT].running);
    taken(b, "{'vm':'toy','space':'gpa','accesses':[4294967296]}");
    round_of(b);
    assert_near(heat(b, 0), 1);
    bed_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/report/spaces", test_spaces);
    g_test_add_func("/report/ranges", test_ranges);
    g_test_add_func("/report/age", test_age);
    g_test_add_func("/report/bad", test_bad);
    g_test_add_func("/report/full", test_full);
    g_test_add_func("/report/long", test_long);
    g_test_add_func("/report/off", test_off);
    g_test_add_func("/report/hpa", test_hpa);
    g_test_add_func("/report/hpa-gone", test_hpa_gone);
    return g_test_run();
}
