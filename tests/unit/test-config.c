// SPDX-License-Identifier: GPL-2.0-or-later
/* Unit tests of the daemon's configuration: what it takes, and what each error names. */
#include "host/config.h"
#include "host/policy/policy.h"
#include "host/source/id.h"

#include <glib/gstdio.h>
#include <string.h>

static struct config *load(const char *text, char **path, GError **error)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp("vmtier-config-XXXXXX", &name, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(name, text, -1, NULL));
    struct config *c = config_load(name, error);

    if (c && !config_check(c, error))
        g_clear_pointer(&c, config_free);
    g_unlink(name);
    if (path)
        *path = g_steal_pointer(&name);
    return c;
}

static struct config *loads(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct config *c = load(text, NULL, &error);

    g_assert_no_error(error);
    return c;
}

static const struct tier_config *tier(const struct config *c, guint i)
{
    return g_ptr_array_index(c->tiers, i);
}

static void test_defaults(void)
{
    g_autoptr(Config) c = loads("");
    const struct vm_config *vm = config_for_vm(c, "any");

    g_assert_cmpstr(c->vmm_socket, ==, "/run/vmtier/vmm.sock");
    g_assert_cmpstr(c->qmp_socket, ==, "/run/vmtier/qmp.sock");
    g_assert_cmpuint(c->tiers->len, ==, 2);
    g_assert_cmpstr(tier(c, 0)->name, ==, "dram");
    g_assert_cmpstr(tier(c, 1)->name, ==, "cxl");
    g_assert_cmpfloat(vm->quota.share, ==, 0.25);
    g_assert_cmpint(vm->mode, ==, VM_ON);
    g_assert_cmpuint(vm->rate, ==, 256 << 20);
    g_assert_cmpuint(vm->granule, ==, 2 << 20);
    g_assert_cmpuint(vm->sources, ==, SOURCES_BY_DEFAULT);
    g_assert_cmpuint(vm->sample_period, ==, 64);
    g_assert_cmpuint(vm->probe_budget_us, ==, 2500);
    g_assert_true(vm->sample_places);
    g_assert_true(vm->policy == &policy_cbx);
}

static void test_all_keys(void)
{
    g_autoptr(Config) c = loads(
        "# comment\n[daemon]\nvmm-socket=/a/b\nqmp-socket = /c/d \nlog-level=debug\n"
        "[tier cxl]\nnodes=0\nfile=memfd\npath= /a/shared file \n[tier dram]\nnodes= 0 \n"
        "[host]\ndram=3G\nreserve=1G\nsharing=fair\nquota-rate=5M\n"
        "[vm one]\nquota-min=10%\nweight=7\nquota=100%\nmode=observe\nrate=10M/s\ngranule=64K\n"
        "sources=dirty, sample\nsample-period=16\nsample-use=measure\nprobe-budget-us=100\n"
        "policy=lru\n");
    const struct vm_config *vm = config_for_vm(c, "one");

    g_assert_cmpstr(c->vmm_socket, ==, "/a/b");
    g_assert_cmpstr(c->qmp_socket, ==, "/c/d");
    g_assert_cmpint(c->log_level, ==, G_LOG_LEVEL_DEBUG);
    g_assert_cmpstr(tier(c, 0)->name, ==, "dram");
    g_assert_cmpstr(tier(c, 0)->nodes, ==, "0");
    g_assert_cmpstr(tier(c, 1)->name, ==, "cxl");
    g_assert_cmpuint(c->host.dram, ==, 3ull << 30);
    g_assert_cmpuint(c->host.reserve, ==, 1 << 30);
    g_assert_cmpint(c->host.arbiter, ==, ARBITER_FAIR);
    g_assert_cmpuint(c->host.rate, ==, 5 << 20);
    g_assert_cmpfloat(vm->min.share, ==, 0.1);
    g_assert_cmpuint(vm->weight, ==, 7);
    g_assert_cmpfloat(vm->quota.share, ==, 1.0);
    g_assert_cmpint(vm->mode, ==, VM_OBSERVE);
    g_assert_cmpuint(vm->rate, ==, 10 << 20);
    g_assert_cmpuint(vm->granule, ==, 64 << 10);
    g_assert_cmpuint(vm->sources, ==, 6);
    g_assert_cmpuint(vm->sample_period, ==, 16);
    g_assert_cmpuint(vm->probe_budget_us, ==, 100);
    g_assert_false(vm->sample_places);
    g_assert_true(vm->policy == &policy_lru);
    g_assert_cmpint(config_for_vm(c, "other")->mode, ==, VM_ON);
}

/* Tiers, in the order of the file wherever VMs name them; weights of the slower ones. */
static void test_three_tiers(void)
{
    g_autoptr(Config) c = loads("[vm a]\ninterleave=dram=3 cxl1=1\npin=cxl1 0x40000000 64M; dram 0 4M\n"
                                "[tier cxl0]\nweight=2\n[tier cxl1]\npath=/dev/shm\nweight=0\n");
    const struct vm_config *vm = config_for_vm(c, "a");
    const struct weights cold = config_cold_weights(c);

    g_assert_cmpuint(c->tiers->len, ==, 3);
    g_assert_cmpstr(tier(c, 1)->name, ==, "cxl0");
    g_assert_cmpstr(tier(c, 2)->path, ==, "/dev/shm");
    g_assert_cmpuint(cold.of[0], ==, 0);
    g_assert_cmpuint(cold.of[1], ==, 2);
    g_assert_cmpuint(cold.of[2], ==, 0);
    g_assert_cmpuint(vm->interleave.of[0], ==, 3);
    g_assert_cmpuint(vm->interleave.of[1], ==, 0);
    g_assert_cmpuint(vm->interleave.of[2], ==, 1);
    g_assert_cmpuint(vm->pins.n, ==, 2);
    g_assert_cmpuint(vm->pins.pin[0].tier, ==, 2);
    g_assert_cmpuint(vm->pins.pin[0].gpa, ==, 1 << 30);
    g_assert_cmpuint(vm->pins.pin[0].size, ==, 64 << 20);
    g_assert_cmpuint(pins_bytes(&vm->pins, 0), ==, 4 << 20);
    g_assert_cmpuint(config_for_vm(c, "b")->pins.n, ==, 0);
}

/* [vm default] counts for all VMs, wherever in the file it stands. */
static void test_inherit(void)
{
    g_autoptr(Config) c = loads("[vm a]\nmode=off\n[vm default]\nquota=64M\nrate=0\n"
                                "[vm b]\nquota=2M\n");
    const struct vm_config *a = config_for_vm(c, "a"), *b = config_for_vm(c, "b");

    g_assert_cmpuint(a->quota.bytes, ==, 64 << 20);
    g_assert_cmpint(a->mode, ==, VM_OFF);
    g_assert_cmpuint(b->quota.bytes, ==, 2 << 20);
    g_assert_cmpuint(b->rate, ==, 0);
    g_assert_cmpuint(config_for_vm(c, "c")->quota.bytes, ==, 64 << 20);
}

static const struct {
    const char *text, *names;       /* what the message has to say, as a pattern */
} bad[] = {
    { "[daemon]\nvmm-sokcet=/x\n", "[daemon]: unknown key 'vmm-sokcet'" },
    { "[daemon]\nlog-level=loud\n", "[daemon]: log level 'loud': it is *" },
    { "[deamon]\n", "[deamon]: unknown group" },
    { "[tier a]\n[tier b]\n[tier c]\n[tier d]\n[tier e]\n[tier f]\n[tier g]\n[tier h]\n",
      "[tier h]: dram and seven slower tiers are the most*" },
    { "[tier averyveryverylongname]\n", "[tier averyvery*]: *1 to 15 letters*" },
    { "[tier ]\n", "[tier ]: *1 to 15 letters*" },
    { "[tier c=1]\n", "[tier c=1]: *1 to 15 letters*" },
    { "[tier cxl]\nweight=101\n", "[tier cxl]: weight=101: it is 0 to 100*" },
    { "[tier cxl]\nweight=-1\n", "[tier cxl]: weight=-1: it is 0 to 100*" },
    { "[tier dram]\nweight=1\n", "[tier dram]: weight=: *its quota" },
    { "[vm a]\ninterleave=dram=3\n", "[vm a]: interleave: 'dram=3': weights of two tiers at least*" },
    { "[vm a]\ninterleave=dram=3 cxl0=1\n", "[vm a]: interleave: there is no tier 'cxl0'; there are dram, cxl" },
    { "[vm a]\npin=dram 1G\n", "[vm a]: pin: 'dram 1G': it is TIER GPA SIZE*" },
    { "[vm a]\npin=slow 0 2M\n", "[vm a]: pin: there is no tier 'slow'; there are dram, cxl" },
    { "[vm a]\npin=cxl 1G 2M\n", "[vm a]: pin: '1G' is no guest-physical address*" },
    { "[vm a]\npin=cxl 0 much\n", "[vm a]: pin: 'much' is no size*" },
    { "[vm a]\npin=cxl 0 0\n", "[vm a]: pin: a pin of 0 bytes*" },
    { "[vm a]\npin=cxl 0 4M; cxl 0x200000 2M\n", "[vm a]: pin: the pin at 0x200000 overlaps the one at 0x0" },
    { "[vm default]\npin=dram 0 8M\n", "[vm default]: a pin is of one VM" },
    { "[tier cxl]\nnode=1\n", "[tier cxl]: unknown key 'node'*nodes=LIST*" },
    { "[tier cxl]\nfile=/dev/dax0.0\n", "[tier cxl]: file=/dev/dax0.0: *there is path=" },
    { "[tier cxl]\npath=dev/shm\n", "[tier cxl]: path=dev/shm: it begins with a '/'" },
    { "[tier dram]\npath=/dev/shm\n", "[tier dram]: path=: QEMU itself*mem-path=*" },
    { "[host]\nram=1G\n", "[host]: unknown key 'ram'*dram=SIZE*" },
    { "[host]\ndram=lots\n", "[host]: 'lots' is no size*" },
    { "[host]\nsharing=equal\n", "[host]: sharing 'equal': it is off, throughput or fair" },
    { "[vm a]\nweight=0\n", "[vm a]: weight: '0': it is 1 to 10000*" },
    { "[vm a]\nweight=1.5\n", "[vm a]: weight: '1.5': *" },
    { "[vm a]\nquota-min=some\n", "[vm a]: quota-min: quota: 'some' is no size*" },
    { "[vm default]\nquotta=1G\n", "[vm default]: unknown key 'quotta'" },
    { "[vm a]\nquota=0\n", "[vm a]: quota: quota '0': a VM needs some dram*" },
    { "[vm a]\nquota=0%\n", "[vm a]: quota: quota '0%': *" },
    { "[vm a]\nquota=101%\n", "[vm a]: quota: quota '101%': *up to 100%" },
    { "[vm a]\nquota=nan%\n", "[vm a]: quota: quota 'nan%': *" },
    { "[vm a]\nquota=%\n", "[vm a]: quota: quota '%': *" },
    { "[vm a]\nquota=-1\n", "[vm a]: quota: quota: '-1' is no size*" },
    { "[vm a]\nquota=much\n", "[vm a]: quota: quota: 'much' is no size*" },
    { "[vm a]\nquota=\n", "[vm a]: quota: quota: '' is no size*" },
    { "[vm a]\nmode=perhaps\n", "[vm a]: mode: mode 'perhaps': it is on, observe or off" },
    { "[vm a]\nrate=fast\n", "[vm a]: rate: 'fast' is no size*" },
    { "[vm a]\nrate=/s\n", "[vm a]: rate: '' is no size*" },
    { "[vm a]\ngranule=3M\n", "[vm a]: granule: granule '3M': a power of two*" },
    { "[vm a]\ngranule=2K\n", "[vm a]: granule: granule '2K': *from 4K to 1G*" },
    { "[vm a]\ngranule=2G\n", "[vm a]: granule: granule '2G': *" },
    { "[vm a]\nsources=refault,luck\n", "[vm a]: sources: sources: there is no 'luck'*" },
    { "[vm a]\nsample-period=0\n", "[vm a]: sample-period: *0*" },
    { "[vm a]\nsample-period=-4\n", "[vm a]: sample-period: *-4*" },
    { "[vm a]\nprobe-budget-us=1\n", "[vm a]: probe-budget-us: *1*" },
    { "[vm a]\npolicy=best\n", "[vm a]: policy: there is no 'best'; there are cbx, lru" },
    { "[vm a]\nsample-use=both\n", "[vm a]: sample-use: sample-use 'both': *" },
    { "quota=1G\n", "*" },
    { "[vm a\n", "*" },
    { "[vm a]\nquota\n", "*quota*" },
};

static void test_bad(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *path = NULL, *pattern = NULL;
        g_autoptr(GError) error = NULL;

        if (load(bad[i].text, &path, &error))
            g_error("was taken: %s", bad[i].text);
        pattern = g_strdup_printf("%s: %s", path, bad[i].names);
        if (!g_pattern_match_simple(pattern, error->message))
            g_error("'%s' does not look like '%s'", error->message, pattern);
        g_assert_null(strchr(error->message, '\n'));
    }
}

static void together(const char *text, const char *says)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(load(text, NULL, &error));
    g_assert_cmpstr(error->message, ==, says);
}

/* No single key is wrong here, and flags may have set either: no file is named. */
static void test_bad_together(void)
{
    together("[tier cxl]\nweight=0\n", "all slower tiers have weight=0: where is what is cold to go?");
    together("[vm a]\npin=cxl 0 1M\n", "[vm a]: pin: 0x0, 1048576 bytes: these are no whole granules of 2097152");
    together("[vm a]\nquota=4M\npin=dram 0 8M\n", "[vm a]: pin: 8388608 bytes are pinned to dram, and the "
             "quota is 4194304");
}

static void test_quota_together(void)
{
    g_autoptr(GError) one = NULL, all = NULL, least = NULL;

    g_assert_null(load("[vm a]\nquota=1M\n", NULL, &one));
    g_assert_cmpstr(one->message, ==, "[vm a]: quota of 1048576 bytes: less than one granule of "
                    "2097152");
    g_assert_null(load("[vm default]\ngranule=64M\nquota=32M\n", NULL, &all));
    g_assert_true(g_str_has_prefix(all->message, "[vm default]: quota of 33554432 bytes: "));
    g_assert_null(load("[vm a]\nquota=20%\nquota-min=21%\n", NULL, &least));
    g_assert_cmpstr(least->message, ==, "[vm a]: quota-min is above quota");
}

static void test_no_file(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(config_load("/nowhere/vmtierd.conf", &error));
    g_assert_nonnull(strstr(error->message, "/nowhere/vmtierd.conf: "));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/defaults", test_defaults);
    g_test_add_func("/config/all-keys", test_all_keys);
    g_test_add_func("/config/three-tiers", test_three_tiers);
    g_test_add_func("/config/inherit", test_inherit);
    g_test_add_func("/config/bad", test_bad);
    g_test_add_func("/config/bad-together", test_bad_together);
    g_test_add_func("/config/quota-together", test_quota_together);
    g_test_add_func("/config/no-file", test_no_file);
    return g_test_run();
}
