// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the daemon makes of what libvirt tells: whose settings count, what outlives a restart, who may start.
 *
 * The commands are run as the control socket would run them; there is no libvirt and no VM's QEMU.
 */
#include "host/libvirt-internal.h"
#include "host/sharing.h"
#include "tests/unit/vm-fixture.h"

#include <glib/gstdio.h>

#define MIB (1024 * 1024ull)
#define UUID "f4e2e487-49a8-4d8c-80f6-27b170b66f77"
#define TIERING(attributes, children) \
    "<t:tiering xmlns:t='urn:vmtier:libvirt:1' " attributes ">" children "</t:tiering>"

static const guint8 uuid_bytes[16] = {
    0xf4, 0xe2, 0xe4, 0x87, 0x49, 0xa8, 0x4d, 0x8c, 0x80, 0xf6, 0x27, 0xb1, 0x70, 0xb6, 0x6f, 0x77,
};

static struct daemon *start_with(const char *dir, const char *uri)
{
    struct daemon *d = fixture_daemon();

    g_free(d->config->qmp_socket);
    d->config->qmp_socket = g_build_filename(dir, "qmp.sock", NULL);
    d->config->libvirt = g_strdup(uri);
    d->userfault = open("/dev/null", O_RDWR | O_CLOEXEC);
    libvirt_start(d);
    return d;
}

static struct daemon *start(const char *dir)
{
    return start_with(dir, NULL);
}

static void end(struct daemon *d)
{
    libvirt_stop(d);
    close(d->userfault);
    fixture_daemon_free(d);
}

static char *make_dir(void)
{
    return g_dir_make_tmp("vmtier-libvirt-XXXXXX", NULL);
}

static void remove_dir(const char *dir)
{
    g_autofree char *domains = g_build_filename(dir, "domains", NULL);

    g_rmdir(domains);
    g_assert_cmpint(g_rmdir(dir), ==, 0);      /* nothing is left in it */
}

/* Gives the hook's command; why the domain is refused, or NULL. */
static char *hook(struct daemon *d, const char *operation, const char *uuid, const char *memory,
                  const char *metadata)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain><name>toy</name><uuid>%s</uuid><memory unit='MiB'>%s</memory><metadata>%s</metadata>"
        "<q:commandline xmlns:q='" XML_NS_QEMU "'><q:arg value='/vmtier-qemu.so,socket=/x'/></q:commandline>"
        "</domain>", uuid, memory, metadata);
    g_autoptr(JsonObject) args = json_object_new();
    const struct qmp_command *c = libvirt_commands;
    g_autoptr(JsonNode) reply = NULL;
    JsonObject *o;

    while (strcmp(c->name, "vmtier-libvirt-hook"))
        c++;
    json_object_set_string_member(args, "domain", "toy");
    json_object_set_string_member(args, "operation", operation);
    json_object_set_string_member(args, "xml", xml);
    reply = c->run(args, d, NULL);
    o = reply ? json_node_get_object(reply) : NULL;
    if (!o || !json_object_has_member(o, "refuse") || json_object_get_null_member(o, "refuse"))
        return NULL;
    return g_strdup(json_object_get_string_member(o, "refuse"));
}

static void tell(struct daemon *d, const char *operation, const char *metadata)
{
    g_assert_null(hook(d, operation, UUID, "1024", metadata));
}

/* --- whose settings count ------------------------------------------------------------------------------------ */

static void test_config(void)
{
    g_autofree char *dir = make_dir();
    struct daemon *d = start(dir);
    struct vm_config c = libvirt_vm_config(d, "toy", uuid_bytes);
    static const guint8 other[16] = { 1 };

    g_assert_cmpfloat(c.quota.share, ==, 0.25);
    tell(d, "prepare", TIERING("mode='observe'", "<dram min='8M' max='64M' weight='7'/><granule>4M</granule>"));
    c = libvirt_vm_config(d, "toy", uuid_bytes);
    g_assert_cmpuint(c.quota.bytes, ==, 64 * MIB);
    g_assert_cmpint(c.mode, ==, VM_OBSERVE);
    g_assert_cmpuint(c.granule, ==, 4 * MIB);
    g_assert_cmpuint(c.min.bytes, ==, 8 * MIB);
    g_assert_cmpuint(c.weight, ==, 7);
    c = libvirt_vm_config(d, "toy", other);         /* a namesake */
    g_assert_cmpuint(c.quota.bytes, ==, 0);
    tell(d, "release", "");
    c = libvirt_vm_config(d, "toy", uuid_bytes);
    g_assert_cmpuint(c.quota.bytes, ==, 0);
    end(d);
    remove_dir(dir);
}

/* A VM that is attached gets what changes, and keeps what an operator has set where nothing does. */
static void test_live(void)
{
    g_autofree char *dir = make_dir();
    struct daemon *d = start(dir);
    struct vt_hello hello = { .pid = 1, .accel = VT_ACCEL_TCG, .page_size = 4096, .name = "toy" };
    struct vm *vm;

    memcpy(hello.uuid, uuid_bytes, sizeof(hello.uuid));
    tell(d, "prepare", TIERING("", "<dram max='64M'/>"));
    vm = vm_new(d, &hello, open("/dev/null", O_RDWR | O_CLOEXEC));
    g_ptr_array_add(d->vms, vm);
    vm->shown.ram_bytes = 1024 * MIB;
    g_assert_cmpuint(vm_quota(vm, &vm->want, 1024 * MIB), ==, 64 * MIB);
    tell(d, "reconnect", TIERING("", "<dram max='32M' min='4M' weight='9'/>"));
    g_assert_cmpuint(vm->want.quota_bytes, ==, 32 * MIB);
    g_assert_cmpuint(vm->want.min.bytes, ==, 4 * MIB);
    g_assert_cmpuint(vm->want.weight, ==, 9);
    vm->want.quota_bytes = 100 * MIB;               /* by hand */
    tell(d, "reconnect", TIERING("", "<dram max='32M' min='4M' weight='9'/>"));
    g_assert_cmpuint(vm->want.quota_bytes, ==, 100 * MIB);
    tell(d, "reconnect", TIERING("", "<dramm max='32M'/>"));
    g_assert_cmpuint(vm->want.quota_bytes, ==, 100 * MIB);
    vm->shown.ram_bytes = 0;                        /* QEMU has not told yet */
    tell(d, "reconnect", TIERING("", "<dram max='75%'/>"));
    g_assert_cmpuint(vm->want.quota_bytes, ==, 768 * MIB);
    vm->shown.ram_bytes = 1024 * MIB;
    tell(d, "reconnect", TIERING("mode='off'", "<dram max='50%'/>"));
    g_assert_cmpuint(vm->want.quota_bytes, ==, 512 * MIB);
    g_assert_cmpint(vm->want.mode, ==, VM_OFF);
    tell(d, "reconnect", "");
    g_assert_cmpint(vm->want.mode, ==, VM_ON);
    g_assert_cmpuint(vm->want.quota_bytes, ==, 256 * MIB);
    g_ptr_array_remove_fast(d->vms, vm);
    vm_unref(vm);
    tell(d, "release", "");
    end(d);
    remove_dir(dir);
}

/* Weights and pins follow the metadata; what does not fit this host is named, and changes nothing. */
static void test_spread(void)
{
    g_autofree char *dir = make_dir();
    struct daemon *d = start(dir);
    struct vt_hello hello = { .pid = 1, .accel = VT_ACCEL_TCG, .page_size = 4096, .name = "toy" };
    const struct known *k;
    struct vm *vm;
    static const struct {
        const char *metadata, *names;
    } bad[] = {
        { TIERING("", "<interleave dram='3' cxl7='1'/>"),
          "<interleave>: there is no tier 'cxl7'; there are dram, cxl" },
        { TIERING("", "<pin tier='cxl0' gpa='0' size='2M'/>"), "<pin>: there is no tier 'cxl0'" },
        { TIERING("", "<pin tier='cxl' gpa='0' size='64K'/>"), "<pin> at 0x0 is not of whole granules of 2097152" },
        { TIERING("", "<dram max='4M'/><pin tier='dram' gpa='0' size='8M'/>"), "pins to dram of 8388608 bytes" },
        { TIERING("", "<dram max='0.5%'/><pin tier='dram' gpa='0' size='8M'/>"), "pins to dram of 8388608 bytes" },
    };

    memcpy(hello.uuid, uuid_bytes, sizeof(hello.uuid));
    tell(d, "prepare", TIERING("", "<pin tier='dram' gpa='0x200000' size='4M'/><interleave dram='3' cxl='1'/>"));
    vm = vm_new(d, &hello, open("/dev/null", O_RDWR | O_CLOEXEC));
    g_ptr_array_add(d->vms, vm);
    vm->shown.ram_bytes = 1024 * MIB;
    g_assert_cmpuint(vm->want.pins.n, ==, 1);
    g_assert_cmpuint(vm->want.pins.pin[0].gpa, ==, 2 * MIB);
    g_assert_cmpuint(vm->want.pins.pin[0].tier, ==, 0);
    g_assert_cmpuint(vm->want.interleave.of[0], ==, 3);
    g_assert_cmpuint(vm->want.interleave.of[1], ==, 1);
    g_assert_cmpuint(vm_guarantee(vm, &vm->want, 1024 * MIB), ==, 4 * MIB);
    tell(d, "reconnect", TIERING("", "<interleave dram='1' cxl='1'/>"));
    g_assert_cmpuint(vm->want.interleave.of[0], ==, 1);
    g_assert_cmpuint(vm->want.pins.n, ==, 0);
    k = g_hash_table_lookup(d->libvirt->domains, UUID);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        tell(d, "reconnect", bad[i].metadata);
        g_test_message("%s", k->problem);
        g_assert_nonnull(strstr(k->problem, bad[i].names));
        g_assert_cmpuint(vm->want.interleave.of[0], ==, 1);
        g_assert_cmpuint(vm->want.pins.n, ==, 0);
    }
    tell(d, "reconnect", "");
    g_assert_cmpuint(weights_sum(&vm->want.interleave), ==, 0);
    g_ptr_array_remove_fast(d->vms, vm);
    vm_unref(vm);
    tell(d, "release", "");
    end(d);
    remove_dir(dir);
}

static void test_restart(void)
{
    g_autofree char *dir = make_dir(), *strange = NULL;
    struct daemon *d = start(dir);

    tell(d, "prepare", TIERING("", "<dram max='64M'/><pin tier='dram' gpa='0' size='2M'/>"));
    end(d);
    strange = g_build_filename(dir, "domains", "strange.xml", NULL);
    g_assert_true(g_file_set_contents(strange, "<domain><uuid>../../etc/passwd</uuid></domain>", -1, NULL));
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*strange.xml: it has no UUID*");
    d = start(dir);
    g_test_assert_expected_messages();
    g_assert_cmpuint(libvirt_vm_config(d, "toy", uuid_bytes).quota.bytes, ==, 64 * MIB);
    g_assert_cmpuint(g_hash_table_size(d->libvirt->domains), ==, 1);
    d->pool = 1024 * MIB;
    d->started_us = g_get_monotonic_time();
    g_assert_cmpuint(libvirt_promised(d, NULL), ==, 2 * MIB);       /* what it pins, until its VM is back */
    g_assert_cmpuint(libvirt_promised(d, UUID), ==, 0);
    d->started_us -= 3600 * (gint64)G_USEC_PER_SEC;                 /* which it is not */
    g_assert_cmpuint(libvirt_promised(d, NULL), ==, 0);
    tell(d, "release", "");
    end(d);
    remove_dir(dir);
}

/* --- libvirtd, played by us --------------------------------------------------------------------------------- */

static struct libvirt_watcher watcher;
static gpointer watcher_of;

static struct libvirt_watch *watch(const char *uri, const struct libvirt_watcher *w, gpointer opaque)
{
    (void)uri;
    watcher = *w;
    watcher_of = opaque;
    return (void *)&watcher;
}

static void unwatch(struct libvirt_watch *w)
{
    g_assert_true(w == (void *)&watcher);
}

/* Instead of the one that loads the real module. */
const struct libvirt_module *libvirt_module(GError **error)
{
    static const struct libvirt_module module = { .version = LIBVIRT_MODULE_VERSION, .watch = watch,
                                                  .unwatch = unwatch };

    (void)error;
    return &module;
}

static void libvirt_says(const char *metadata)
{
    g_autofree char *xml = g_strdup_printf("<domain><name>toy</name><uuid>" UUID "</uuid><memory unit='GiB'>1</memory>"
                                           "<metadata>%s</metadata></domain>", metadata);

    watcher.domain(watcher_of, UUID, xml);
}

static bool is_known(struct daemon *d)
{
    return libvirt_known(d->libvirt, UUID, NULL);
}

/* One that ended while libvirtd was away is forgotten, and so is one whose metadata have never been right. */
static void test_unseen(void)
{
    static const char *const metadata[] = { TIERING("", "<dram max='8M'/>"), TIERING("", "<dramm/>") };
    g_autofree char *dir = make_dir();
    struct daemon *d = start_with(dir, "toy:///");

    for (guint i = 0; i < G_N_ELEMENTS(metadata); i++) {
        libvirt_says(metadata[i]);
        watcher.connection(watcher_of, true, "toy:///");
        g_assert_true(is_known(d));
        watcher.connection(watcher_of, false, "gone");
        watcher.connection(watcher_of, true, "toy:///");
        g_assert_false(is_known(d));
        tell(d, "prepare", metadata[i]);        /* it may not be in libvirtd's list yet */
        watcher.connection(watcher_of, true, "toy:///");
        g_assert_true(is_known(d));
        tell(d, "release", metadata[i]);
    }
    end(d);
    remove_dir(dir);
}

/* libvirtd tells of a domain's end after the hook has told of its next start. */
static void test_late(void)
{
    g_autofree char *dir = make_dir();
    struct daemon *d = start_with(dir, "toy:///");

    watcher.connection(watcher_of, true, "toy:///");
    tell(d, "prepare", TIERING("", "<dram max='8M'/>"));
    watcher.lifecycle(watcher_of, UUID, "toy", "started");
    libvirt_says(TIERING("", "<dram max='8M'/>"));
    tell(d, "release", TIERING("", "<dram max='8M'/>"));
    tell(d, "prepare", TIERING("", "<dram max='16M'/>"));
    watcher.lifecycle(watcher_of, UUID, "toy", "stopped");
    g_assert_cmpuint(libvirt_vm_config(d, "toy", uuid_bytes).quota.bytes, ==, 16 * MIB);
    watcher.lifecycle(watcher_of, UUID, "toy", "started");
    watcher.lifecycle(watcher_of, UUID, "toy", "stopped");
    g_assert_false(is_known(d));
    end(d);
    remove_dir(dir);
}

/* --- who may start ------------------------------------------------------------------------------------------ */

static void refused(struct daemon *d, const char *uuid, const char *memory, const char *metadata,
                    const char *said)
{
    g_autofree char *why = hook(d, "prepare", uuid, memory, metadata);

    g_test_message("%s", why);
    g_assert_nonnull(why);
    g_assert_true(g_pattern_match_simple(said, why));
}

static void test_admission(void)
{
    g_autofree char *dir = make_dir();
    struct daemon *d = start(dir);
    static const char other[] = "00000000-0000-4000-8000-000000000001";
    guint64 all = (guint64)sysconf(_SC_PHYS_PAGES) * (guint64)sysconf(_SC_PAGESIZE) / MIB;
    g_autofree char *most = g_strdup_printf(TIERING("required='yes'", "<dram min='%" G_GUINT64_FORMAT "M'/>"),
                                            all * 3 / 4);
    g_autofree char *all_text = g_strdup_printf("%" G_GUINT64_FORMAT, all);

    refused(d, UUID, "1024", TIERING("required='yes'", "<ram/>"), "*<ram>: unknown element*");
    refused(d, UUID, "99999999999", TIERING("required='yes'", "<dram max='4096T'/>"), "*cannot be promised*");
    g_assert_null(hook(d, "prepare", UUID, all_text, most));
    refused(d, other, all_text, most, "*are not promised to others");
    g_assert_null(hook(d, "prepare", other, "1024", TIERING("required='no'", "<ram/>")));
    g_assert_null(hook(d, "release", other, "1024", ""));
    tell(d, "release", "");
    end(d);
    remove_dir(dir);
}

/* The daemon's is in its main.c. */
struct vm *daemon_find_vm(struct daemon *d, const char *name)
{
    for (guint i = 0; i < d->vms->len; i++)
        if (!strcmp(((struct vm *)d->vms->pdata[i])->name, name))
            return d->vms->pdata[i];
    return NULL;
}

static const char *other_uuid(guint n)
{
    static char text[37];

    g_snprintf(text, sizeof(text), "00000000-0000-4000-8000-%012u", n);
    return text;
}

static struct vm *attach(struct daemon *d, const guint8 *uuid, const char *name)
{
    struct vt_hello hello = { .pid = 1, .accel = VT_ACCEL_TCG, .page_size = 4096 };
    struct vm *vm;

    memcpy(hello.uuid, uuid, sizeof(hello.uuid));
    g_strlcpy(hello.name, name, sizeof(hello.name));
    vm = vm_new(d, &hello, open("/dev/null", O_RDWR | O_CLOEXEC));
    g_ptr_array_add(d->vms, vm);
    vm->shown.ram_bytes = 1024 * MIB;
    vm->shown.state = VM_TIERING;
    return vm;
}

static void detach(struct daemon *d, struct vm *vm)
{
    g_ptr_array_remove_fast(d->vms, vm);
    vm_unref(vm);
}

/* What vmtier-set-quota says to a guarantee, or NULL. */
static char *set_min(struct daemon *d, const char *name, guint64 min)
{
    g_autoptr(JsonObject) args = json_object_new();
    g_autoptr(GError) error = NULL;

    json_object_set_string_member(args, "vm", name);
    json_object_set_int_member(args, "min", (gint64)min);
    g_assert_null(sharing_commands[0].run(args, d, &error));
    return error ? g_strdup(error->message) : NULL;
}

/*
 * 1 GiB is divided. Whoever asks, an operator, a domain that starts, a domain that changes: all see the same
 * promises, and are refused in the same words.
 */
static void test_one_notion(void)
{
    static const char no[] = "*cannot be promised: of the host's 1.0?GiB, 400.0?MiB are not promised to others";
    g_autofree char *dir = make_dir(), *said = NULL;
    struct daemon *d = start(dir);
    static const guint8 plain_uuid[16] = { 1 };
    struct vm *toy, *plain;

    d->pool = 1024 * MIB;
    plain = attach(d, plain_uuid, "plain");
    plain->want.quota_bytes = 1024 * MIB;
    plain->want.min.bytes = 512 * MIB;
    tell(d, "prepare", TIERING("required='yes'", "<dram min='112M' max='512M'/>"));
    toy = attach(d, uuid_bytes, "toy");
    toy->want.min.bytes = 112 * MIB;            /* now its domain does not count once more */
    refused(d, other_uuid(1), "1024", TIERING("required='yes'", "<dram min='401M' max='900M'/>"), no);
    g_assert_null(hook(d, "prepare", other_uuid(1), "1024", TIERING("required='yes'", "<dram min='400M'/>")));
    g_assert_null(hook(d, "prepare", other_uuid(2), "1024", TIERING("", "<dram min='0'/>")));
    refused(d, other_uuid(3), "1024", TIERING("required='yes'", "<dram max='1M'/>"), "*is less than one granule*");
    refused(d, other_uuid(3), "1024", TIERING("required='yes'", "<dram max='2M'/>"), "* 0 bytes are not promised*");
    g_assert_null(hook(d, "release", other_uuid(1), "1024", ""));
    said = set_min(d, "plain", 913 * MIB);
    g_assert_true(g_pattern_match_simple("*of the host's 1.0?GiB, 912.0?MiB are not promised to others", said));
    g_assert_null(set_min(d, "plain", 512 * MIB));
    tell(d, "reconnect", TIERING("", "<dram min='513M' max='900M'/>"));     /* by its metadata, live */
    g_assert_cmpuint(toy->want.min.bytes, ==, 112 * MIB);
    g_assert_true(g_pattern_match_simple("*512.0?MiB are not promised*",
                                         libvirt_known(d->libvirt, UUID, NULL)->problem));
    tell(d, "reconnect", TIERING("", "<dram min='512M' max='900M'/>"));
    g_assert_cmpuint(toy->want.min.bytes, ==, 512 * MIB);
    g_assert_null(libvirt_known(d->libvirt, UUID, NULL)->problem);
    plain->want.mode = VM_OFF;                  /* keeps what it holds instead */
    plain->shown.file_bytes[0] = 300 * MIB;
    g_assert_null(set_min(d, "toy", 724 * MIB));
    detach(d, toy);
    detach(d, plain);
    tell(d, "release", "");
    g_assert_null(hook(d, "release", other_uuid(2), "1024", ""));
    end(d);
    remove_dir(dir);
}

/* What is pinned to dram is promised like a min, before its VM runs, when that is asked for live, and after. */
static void test_pins_are_promises(void)
{
    static const char pins[] = TIERING("required='yes'", "<dram min='8M' max='900M'/>"
                                       "<pin tier='dram' gpa='0' size='600M'/>");
    g_autofree char *dir = make_dir();
    struct daemon *d = start(dir);
    struct vm *toy;

    d->pool = 1024 * MIB;
    tell(d, "prepare", pins);
    g_assert_cmpuint(libvirt_promised(d, NULL), ==, 600 * MIB);
    refused(d, other_uuid(1), "1024", TIERING("required='yes'", "<dram min='425M' max='900M'/>"),
            "*424.0?MiB are not promised*");
    toy = attach(d, uuid_bytes, "toy");
    g_assert_cmpuint(vm_guarantee(toy, &toy->want, 1024 * MIB), ==, 600 * MIB);
    g_assert_null(hook(d, "prepare", other_uuid(1), "1024", TIERING("required='yes'", "<dram min='424M'/>")));
    tell(d, "reconnect", TIERING("", "<dram max='900M'/><pin tier='dram' gpa='0' size='602M'/>"));
    g_assert_cmpuint(pins_bytes(&toy->want.pins, 0), ==, 600 * MIB);
    g_assert_nonnull(libvirt_known(d->libvirt, UUID, NULL)->problem);
    detach(d, toy);
    tell(d, "release", pins);
    g_assert_null(hook(d, "release", other_uuid(1), "1024", ""));
    end(d);
    remove_dir(dir);
}

/* One that does not insist starts all the same; that its min is no promise is told. */
static void test_unpromised(void)
{
    g_autofree char *dir = make_dir();
    struct daemon *d = start(dir);

    d->pool = 1024 * MIB;
    tell(d, "prepare", TIERING("required='yes'", "<dram min='600M'/>"));
    g_assert_cmpstr(fixture_told, ==, "VMTIER_LIBVIRT_SETTINGS");
    g_assert_null(hook(d, "prepare", other_uuid(1), "1024", TIERING("", "<dram min='424M'/>")));
    g_assert_cmpstr(fixture_told, ==, "VMTIER_LIBVIRT_SETTINGS");
    g_assert_null(hook(d, "release", other_uuid(1), "1024", ""));
    g_assert_null(hook(d, "prepare", other_uuid(1), "1024", TIERING("", "<dram min='425M'/>")));
    g_assert_cmpstr(fixture_told, ==, "VMTIER_LIBVIRT_UNPROMISED");
    g_assert_null(hook(d, "release", other_uuid(1), "1024", ""));
    tell(d, "release", "");
    end(d);
    remove_dir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/config", test_config);
    g_test_add_func("/libvirt/live", test_live);
    g_test_add_func("/libvirt/spread", test_spread);
    g_test_add_func("/libvirt/restart", test_restart);
    g_test_add_func("/libvirt/unseen", test_unseen);
    g_test_add_func("/libvirt/late", test_late);
    g_test_add_func("/libvirt/admission", test_admission);
    g_test_add_func("/libvirt/one-notion", test_one_notion);
    g_test_add_func("/libvirt/pins-are-promises", test_pins_are_promises);
    g_test_add_func("/libvirt/unpromised", test_unpromised);
    return g_test_run();
}
