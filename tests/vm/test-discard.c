// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory that the guest gives back while its memory is moved: balloon, free page reporting,
 * virtio-mem. It is really freed, in the tier it is in, it comes back when it is wanted again, and no
 * other page suffers. Moves go on all the time: with the pusher both ways, with the daemon as it decides,
 * and against it.
 *
 * VMTIER_DISCARD_CYCLES makes balloon and virtio-mem go up and down so many times (1), with moves as fast as
 * they go, and runs all tests with both QEMUs.
 *
 * timeout: 400
 */
#include "pusher.h"
#include "rig.h"
#include "tiered.h"

#include <fcntl.h>
#include <unistd.h>

#define RAM     (384 * MIB)
#define FOOT    "vmt.foot=280M vmt.hot=32M"
#define GIVEN   (192 * MIB)         /* half of it */
#define LEFT    (16 * MIB)          /* free in the guest: a balloon gets no more pages where hardly any are left */
#define SLACK   (24 * MIB)          /* what the guest itself uses, and what is being moved */
#define SPARE   (64 * MIB)          /* what the daemon lets the slow tier keep for the next moves */
#define RATE    (64 * MIB)          /* of moves, a second: a balloon may have to wait for one with each page */

static const char *const names[] = { "7.2", "10.0" };

static unsigned mib(uint64_t bytes)
{
    return (unsigned)(bytes / MIB);
}

static char *qemu_of(gconstpointer version)
{
    return version == names[1] ? vm_qemu10() : NULL;
}

static bool is_long(void)
{
    return g_getenv("VMTIER_DISCARD_CYCLES") != NULL;
}

/* --- a guest whose memory is pushed around -------------------------------------------------- */

struct pushed {
    struct lab *lab;
    struct pusher *pusher;
    struct vm *vm;
};

static void start_pushed(struct pushed *p, const char *qemu, const char *balloon)
{
    const char *extra[] = { "-device", balloon, NULL };

    p->lab = lab_new("discard");
    g_autofree char *socket = lab_path(p->lab, "vmm"), *so = lab_built("vmtier-qemu.so");
    g_autofree char *plugin = g_strdup_printf("%s,socket=%s,vm=vm", so, socket);

    p->pusher = pusher_start(socket, GRANULE);
    p->vm = vm_start(p->lab, "vm", &(struct vm_options){ .qemu = qemu, .ram = "384M",
                                                         .plugin = plugin, .append = FOOT,
                                                         .extra = extra });
    g_free(guest_expect(p->vm->guest, "VMT READY", BOOT_TIMEOUT));
    pusher_set_rate(p->pusher, is_long() ? 0 : RATE);
    pusher_go(p->pusher);
}

static bool half_is_there(void *arg)
{
    struct pushed *p = arg;

    return memfd_bytes(p->vm->qemu->pid, "pusher-cxl") > 100 * MIB &&
           memfd_bytes(p->vm->qemu->pid, "memory-backend") > 100 * MIB;
}

static void end_pushed(struct pushed *p)
{
    struct pusher_count count = pusher_get_count(p->pusher);

    g_test_message("%" PRIu64 " granules moved, %" PRIu64 " pages", count.moved, count.pages);
    g_assert_cmpuint(count.moved, >, 100);
    pusher_end(p->pusher);
    vm_free(p->vm);
    lab_free(p->lab);
}

static uint64_t host_bytes(struct vm *vm, const char *cxl)
{
    return memfd_bytes(vm->qemu->pid, "memory-backend") + memfd_bytes(vm->qemu->pid, cxl);
}

struct target {
    struct vm *vm;
    const char *cxl;
    uint64_t bytes;
};

static bool is_free(void *arg)
{
    const struct target *t = arg;

    return host_bytes(t->vm, t->cxl) <= t->bytes;
}

/* The host's memory falls to `bytes`, and stays there although moves go on. */
static void wait_free(struct vm *vm, const char *cxl, uint64_t bytes)
{
    struct target t = { vm, cxl, bytes };

    if (!lab_wait(is_free, &t, 60))
        g_error("%u MiB in the files, no more than %u MiB are wanted", mib(host_bytes(vm, cxl)),
                mib(bytes));
    lab_sleep(0.5);
    g_assert_cmpuint(host_bytes(vm, cxl), <=, bytes + SLACK);
}

static void give_up(struct guest *guest, uint64_t bytes)
{
    g_autofree char *command = g_strdup_printf("free %uM", mib(bytes));

    guest_command(guest, command);
    g_free(guest_expect(guest, "VMT FREED", 60));
}

static void take_back(struct guest *guest, uint64_t bytes)
{
    g_autofree char *command = g_strdup_printf("grow %uM", mib(bytes));

    guest_command(guest, command);
    g_autofree char *grew = guest_expect(guest, "VMT GREW", 60);

    g_assert_cmpuint(guest_number(grew, "bytes"), ==, bytes);
}

static unsigned cycles(void)
{
    const char *text = g_getenv("VMTIER_DISCARD_CYCLES");

    return text ? (unsigned)g_ascii_strtoull(text, NULL, 10) : 1;
}

static JsonObject *discards_of(struct vm *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "x-vmtier-query", NULL);

    return json_object_ref(json_object_get_object_member(json_node_get_object(node), "discards"));
}

/* So many bytes were asked for, and some of them where QEMU did not look for them. */
static void check_count(struct vm *vm, uint64_t bytes)
{
    g_autoptr(JsonObject) d = discards_of(vm);

    g_test_message("discards: %" G_GINT64_FORMAT " calls, %" G_GINT64_FORMAT " MiB, %"
                   G_GINT64_FORMAT " MiB elsewhere", json_object_get_int_member(d, "calls"),
                   json_object_get_int_member(d, "bytes") >> 20,
                   json_object_get_int_member(d, "elsewhere-bytes") >> 20);
    g_assert_cmpint(json_object_get_int_member(d, "bytes"), >=, (gint64)bytes);
    g_assert_cmpint(json_object_get_int_member(d, "elsewhere-bytes"), >, (gint64)(bytes / 8));
}

/* --- balloon -------------------------------------------------------------------------------- */

static void test_balloon(gconstpointer version)
{
    g_autofree char *qemu = qemu_of(version);
    struct pushed p;
    uint64_t before;

    start_pushed(&p, qemu, "virtio-balloon-pci");
    g_assert_true(lab_wait(half_is_there, &p, 60));
    before = host_bytes(p.vm, "pusher-cxl");
    for (unsigned i = 0; i < cycles(); i++) {
        give_up(p.vm->guest, GIVEN + LEFT);
        vm_set_balloon(p.vm, RAM - GIVEN);
        wait_free(p.vm, "pusher-cxl", before - GIVEN + SLACK);
        g_assert_cmpuint(guest_sweep(p.vm->guest, 90), ==, 0);
        vm_set_balloon(p.vm, RAM);
        take_back(p.vm->guest, GIVEN + LEFT);
        g_assert_cmpuint(guest_sweep(p.vm->guest, 90), ==, 0);
    }
    check_count(p.vm, GIVEN * cycles());
    end_pushed(&p);
}

/* --- free page reporting -------------------------------------------------------------------- */

static void test_reporting(gconstpointer version)
{
    g_autofree char *qemu = qemu_of(version);
    struct pushed p;
    uint64_t cxl, dram;

    start_pushed(&p, qemu, "virtio-balloon-pci,free-page-reporting=on");
    g_assert_true(lab_wait(half_is_there, &p, 60));
    cxl = memfd_bytes(p.vm->qemu->pid, "pusher-cxl");
    dram = memfd_bytes(p.vm->qemu->pid, "memory-backend");
    give_up(p.vm->guest, GIVEN);
    wait_free(p.vm, "pusher-cxl", cxl + dram - GIVEN + SLACK);
    take_back(p.vm->guest, GIVEN);
    g_assert_cmpuint(guest_sweep(p.vm->guest, 90), ==, 0);
    check_count(p.vm, GIVEN - SLACK);
    end_pushed(&p);
}

/* --- virtio-mem ----------------------------------------------------------------------------- */

static bool size_is(void *arg)
{
    struct target *t = arg;
    g_autoptr(JsonNode) node = qmp_ok(t->vm->qmp, "qom-get", "{\"path\":\"/machine/peripheral/vm0\","
                                      "\"property\":\"size\"}");

    return (uint64_t)json_node_get_int(node) == t->bytes;
}

static void set_size(struct vm *vm, uint64_t bytes)
{
    struct target t = { vm, NULL, bytes };

    json_node_unref(qmp_ok(vm->qmp, "qom-set", "{\"path\":\"/machine/peripheral/vm0\","
                           "\"property\":\"requested-size\",\"value\":%" PRIu64 "}", bytes));
    if (!lab_wait(size_is, &t, 90))
        g_error("the guest does not bring its virtio-mem device to %u MiB", mib(bytes));
}

static gint64 dram_granules_of(struct vm *vm, const char *block)
{
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "x-vmtier-query", NULL);
    JsonArray *blocks = json_object_get_array_member(json_node_get_object(node), "blocks");

    for (guint i = 0; i < json_array_get_length(blocks); i++) {
        JsonObject *b = json_array_get_object_element(blocks, i);

        if (json_object_get_boolean_member(b, "present") &&
            g_str_has_suffix(json_object_get_string_member(b, "name"), block))
            return json_object_get_int_member(json_object_get_object_member(b, "tiers"), "dram");
    }
    return -1;                          /* with dynamic memslots it is not there yet */
}

static bool is_placed(void *vm)
{
    return dram_granules_of(vm, "mem0") == 0;
}

/* Plugged memory is used, moved, unplugged and gone; what never was plugged never takes memory. */
static void plug_and_unplug(struct tiered *t)
{
    uint64_t before = host_bytes(t->vm, "vmtier-cxl");
    struct stir *stir = stir_start(t);

    set_size(t->vm, 256 * MIB);
    take_back(t->vm->guest, 240 * MIB);
    g_assert_cmpuint(guest_sweep(t->vm->guest, 90), ==, 0);
    stir_end(stir);
    tiered_check(t, 5);
    g_assert_cmpuint(host_bytes(t->vm, "vmtier-cxl"), >, before + 240 * MIB - SPARE);
    stir = stir_start(t);
    give_up(t->vm->guest, 240 * MIB);
    set_size(t->vm, 0);
    wait_free(t->vm, "vmtier-cxl", before + SPARE + SLACK);
    g_assert_cmpuint(guest_sweep(t->vm->guest, 90), ==, 0);
    stir_end(stir);
    tiered_check(t, 5);
}

/* QEMU empties the whole device, and the guest finds it as it asks for it. */
static void reset_plugged(struct tiered *t)
{
    struct stir *stir = stir_start(t);

    set_size(t->vm, 128 * MIB);
    take_back(t->vm->guest, 100 * MIB);
    json_node_unref(qmp_ok(t->vm->qmp, "system_reset", NULL));
    g_free(guest_expect(t->vm->guest, "VMT READY", BOOT_TIMEOUT));
    set_size(t->vm, 128 * MIB);
    take_back(t->vm->guest, 100 * MIB);
    stir_end(stir);
    g_assert_cmpuint(guest_sweep(t->vm->guest, 90), ==, 0);
    tiered_check(t, 5);
}

/*
 * With dynamic memslots the block shows when the first of its memory is plugged, and what the guest
 * touches before the next round may be above the quota, as with a DIMM.
 */
static void plug_first(struct tiered *t)
{
    watch_end(t->watch);
    t->watch = NULL;
    set_size(t->vm, 32 * MIB);
    if (!lab_wait(is_placed, t->vm, 30))
        g_error("mem0 has %d granules in dram, and is to have none",
                (int)dram_granules_of(t->vm, "mem0"));
    t->watch = watch_start(t->vm->qemu->pid, t->quota);
}

static void test_virtio_mem(gconstpointer version)
{
    g_autofree char *qemu = qemu_of(version);
    const char *device = qemu ? "virtio-mem-pci,id=vm0,memdev=mem0,dynamic-memslots=on" :
                                "virtio-mem-pci,id=vm0,memdev=mem0";
    const char *extra[] = { "-object", "memory-backend-memfd,id=mem0,size=1G,share=on", "-device",
                            device, NULL };
    g_autoptr(Tiered) t = tiered_new(&(struct tiered_options){
        .lab = "virtio-mem", .qemu = qemu, .ram = "448M", .memory = "slots=1,maxmem=3G",
        .append = "vmt.foot=240M vmt.hot=32M", .quota = "192M", .extra = extra });

    /* What is empty takes no dram from what is in use. */
    g_assert_cmpint(dram_granules_of(t->vm, "mem0"), <=, 0);
    if (qemu)
        plug_first(t);
    for (unsigned i = 0; i < cycles(); i++)
        plug_and_unplug(t);
    if (!qemu || is_long())
        reset_plugged(t);
}

/* --- what nobody could tell where to punch -------------------------------------------------- */

static void test_amid_file(void)
{
    static const char *const small[] = { "--quota", "16M", NULL };
    g_autofree char *qemu = vm_qemu10(), *path = NULL, *backend = NULL;
    g_autoptr(Rig) rig = rig_new("amid-file");
    int fd;

    path = g_strdup_printf("/dev/shm/vmtier-test-%d", (int)getpid());
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(fd, 66 << 20), ==, 0);
    close(fd);
    backend = g_strdup_printf("memory-backend-file,id=ram0,size=%%s,share=on,mem-path=%s,offset=2M",
                              path);
    rig_start_daemon(rig, small);
    rig_start_vm(rig, (struct vm_options){ .qemu = qemu, .backend = backend });
    unlink(path);
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "refused");
    g_autoptr(JsonObject) vm = rig_status(rig);

    says(json_text(vm, "reason"), "*'ram0' is not at the beginning of its file (offset=)*");
}

/* -------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    GTestDataFunc run;
    bool run_by[2];                     /* in the short form */
} tests[] = {
    { "balloon", test_balloon, { true, false } },
    { "reporting", test_reporting, { false, true } },
    { "virtio-mem", test_virtio_mem, { true, true } },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(tests); i++)
        for (gsize v = 0; v < G_N_ELEMENTS(names); v++) {
            g_autofree char *path = g_strdup_printf("/discard/%s/%s", tests[i].name, names[v]);

            if (tests[i].run_by[v] || is_long())
                g_test_add_data_func(path, names[v], tests[i].run);
        }
    g_test_add_func("/discard/amid-file", test_amid_file);
    return g_test_run();
}
