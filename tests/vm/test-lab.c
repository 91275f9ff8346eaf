// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The lab itself, without plugin and daemon: the guest boots and says what it should, its checks
 * find a page that was changed behind its back, and the test ROM obeys under TCG and KVM.
 */
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define PIECE (2 * MIB)
#define BOOT_TIMEOUT 90.0

/* A guest that is smaller than the demo's, so that a sweep takes no time. */
#define SMALL "vmt.foot=256M vmt.hot=64M"
#define SMALL_PIECES 128
#define SMALL_HOT 32

/* --- the guest ------------------------------------------------------------------------------ */

static struct vm *boot(struct lab *lab, const struct vm_options *options)
{
    double start = lab_now();
    struct vm *vm = vm_start(lab, "vm", options);
    g_autofree char *ready = guest_expect(vm->guest, "VMT READY", BOOT_TIMEOUT);

    g_test_message("%.1f s to %s", lab_now() - start, ready);
    return vm;
}

static const struct extent *extent(GArray *hot, guint i)
{
    return &g_array_index(hot, struct extent, i);
}

static gint by_address(gconstpointer a, gconstpointer b)
{
    const struct extent *x = a, *y = b;

    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static void check_extents(GArray *hot, guint count, uint64_t ram)
{
    g_assert_cmpuint(hot->len, ==, count);
    g_array_sort(hot, by_address);
    for (guint i = 0; i < hot->len; i++) {
        g_assert_cmpuint(extent(hot, i)->length, ==, PIECE);
        g_assert_cmpuint(extent(hot, i)->gpa % PIECE, ==, 0);
        g_assert_cmpuint(extent(hot, i)->gpa + PIECE, <=, ram);
        if (i)
            g_assert_cmpuint(extent(hot, i)->gpa, >, extent(hot, i - 1)->gpa);
    }
}

static guint in_both(GArray *a, GArray *b)
{
    guint n = 0;

    for (guint i = 0; i < a->len; i++)
        for (guint j = 0; j < b->len; j++)
            n += extent(a, i)->gpa == extent(b, j)->gpa;
    return n;
}

static void check_beats(struct vm *vm)
{
    g_autofree char *first = guest_beat(vm->guest, 5);

    guest_reset_gap(vm->guest);
    lab_sleep(2);
    double gap = guest_longest_gap(vm->guest);
    g_autofree char *last = guest_beat(vm->guest, 5);
    uint64_t ms = guest_number(last, "t") - guest_number(first, "t");
    uint64_t visits = guest_number(last, "ops") - guest_number(first, "ops");

    g_test_message("%" PRIu64 " visits/s, longest gap %.0f ms here, %" PRIu64 " ms in the guest",
                   visits * 1000 / ms, gap, guest_number(last, "maxgap_ms"));
    g_assert_cmpuint(visits, >, 1000);
    g_assert_cmpuint(guest_number(last, "verified"), >, guest_number(first, "verified"));
    g_assert_cmpuint(guest_number(last, "bad"), ==, 0);
    g_assert_cmpfloat(gap, >, 50);
}

/* What the guest's settings are when none are given is what the demo runs. */
static void test_demo_guest(void)
{
    g_autoptr(Lab) lab = lab_new("demo-guest");
    g_autoptr(Vm) vm = boot(lab, &(struct vm_options){ 0 });
    g_autoptr(GArray) first = guest_hot(vm->guest, 1, 10);

    check_extents(first, 80, 1024 * MIB);
    check_beats(vm);
    g_autoptr(GArray) second = guest_shift(vm->guest, 10);
    g_autoptr(GArray) again = guest_hot_now(vm->guest, 10);

    check_extents(second, 80, 1024 * MIB);
    g_assert_cmpuint(in_both(second, again), ==, 80);
    g_assert_cmpuint(in_both(first, second), ==, 0);
    g_assert_cmpuint(guest_sweep(vm->guest, 60), ==, 0);
    g_assert_cmpuint(memfd_bytes(vm->qemu->pid, "memory-backend-memfd"), >=, 700 * MIB);
}

static void test_commands(void)
{
    g_autoptr(Lab) lab = lab_new("commands");
    g_autoptr(Vm) vm = boot(lab, &(struct vm_options){ .append = SMALL " vmt.shift=1" });
    g_autoptr(GArray) hot = guest_hot(vm->guest, 2, 20);

    check_extents(hot, SMALL_HOT, 1024 * MIB);
    guest_command(vm->guest, "free 32M");
    g_autofree char *freed = guest_expect(vm->guest, "VMT FREED", 10);

    g_assert_cmpuint(guest_number(freed, "pieces"), ==, SMALL_PIECES - 16);
    guest_command(vm->guest, "stop");
    g_autofree char *sweep = guest_expect(vm->guest, "VMT SWEEP", 30);

    g_assert_cmpuint(guest_number(sweep, "bad"), ==, 0);
    g_assert_cmpuint(guest_number(sweep, "pages"), ==, (SMALL_PIECES - 16ull) * 512);
    guest_command(vm->guest, "nonsense");
    g_free(guest_expect(vm->guest, "VMT UNKNOWN nonsense", 10));
    guest_command(vm->guest, "quit");
    g_assert_true(child_wait(vm->qemu, 20));
    g_assert_cmpint(vm->qemu->status, ==, 0);
}

static void flip_word(pid_t pid, uint64_t offset)
{
    int fd = memfd_open(pid, "memory-backend-memfd");
    uint64_t word;

    g_assert_cmpint(pread(fd, &word, sizeof(word), (off_t)offset), ==, sizeof(word));
    word ^= 1;
    g_assert_cmpint(pwrite(fd, &word, sizeof(word), (off_t)offset), ==, sizeof(word));
    close(fd);
}

/* One bit of a hot page is changed from outside; paused, so that no visit undoes it. */
static void test_corruption_is_found(void)
{
    g_autoptr(Lab) lab = lab_new("corruption");
    g_autoptr(Vm) vm = boot(lab, &(struct vm_options){ .append = SMALL });
    g_autoptr(GArray) hot = guest_hot(vm->guest, 1, 10);
    uint64_t page = extent(hot, 5)->gpa + 77 * 4096ull;

    guest_command(vm->guest, "pause");
    g_free(guest_expect(vm->guest, "VMT PAUSED", 10));
    flip_word(vm->qemu->pid, page + 1000);
    guest_command(vm->guest, "run");
    g_autofree char *bad = guest_expect(vm->guest, "VMT BAD", 30);

    g_test_message("%s", bad);
    g_assert_cmpuint(guest_number(bad, "gpa"), ==, page);
    g_assert_cmpuint(guest_sweep(vm->guest, 30), ==, 1);
    g_autofree char *beat = guest_beat(vm->guest, 5);

    g_assert_cmpuint(guest_number(beat, "bad"), ==, 1);
}

static void test_reset(void)
{
    g_autoptr(Lab) lab = lab_new("reset");
    g_autoptr(Vm) vm = boot(lab, &(struct vm_options){ .append = SMALL });

    json_node_unref(qmp_ok(vm->qmp, "system_reset", NULL));
    g_autoptr(JsonObject) event = qmp_wait_event(vm->qmp, "RESET", 10);

    g_assert_nonnull(event);
    g_free(guest_expect(vm->guest, "VMT READY", BOOT_TIMEOUT));
    g_array_unref(guest_hot(vm->guest, 1, 10));
    g_assert_cmpuint(guest_sweep(vm->guest, 30), ==, 0);
}

/* What the guest grows by does not fit into the RAM it has booted with. */
static void test_hotplug(void)
{
    g_autoptr(Lab) lab = lab_new("hotplug");
    g_autoptr(Vm) vm = boot(lab, &(struct vm_options){
        .ram = "512M", .memory = "slots=2,maxmem=2G", .append = "vmt.foot=300M vmt.hot=64M" });

    json_node_unref(qmp_ok(vm->qmp, "object-add", "{\"qom-type\":\"memory-backend-memfd\","
                           "\"id\":\"dimm0\",\"size\":%u,\"share\":true}", 512u << 20));
    json_node_unref(qmp_ok(vm->qmp, "device_add",
                           "{\"driver\":\"pc-dimm\",\"id\":\"d0\",\"memdev\":\"dimm0\"}"));
    lab_sleep(1);
    guest_command(vm->guest, "grow 300M");
    g_autofree char *grew = guest_expect(vm->guest, "VMT GREW", 30);

    g_assert_cmpuint(guest_number(grew, "pieces"), ==, 300);
    g_assert_cmpuint(guest_sweep(vm->guest, 30), ==, 0);
    g_assert_cmpuint(memfd_bytes(vm->qemu->pid, "memory-backend-memfd"), >, 600 * MIB);
}

static void test_qemu10(void)
{
    g_autoptr(Lab) lab = lab_new("qemu10");
    g_autofree char *qemu = vm_qemu10();
    g_autoptr(Vm) vm = boot(lab, &(struct vm_options){ .qemu = qemu, .append = SMALL });
    g_autoptr(JsonNode) version = qmp_ok(vm->qmp, "query-version", NULL);
    JsonObject *numbers = json_object_get_object_member(json_node_get_object(version), "qemu");
    g_autoptr(GArray) hot = guest_hot(vm->guest, 1, 10);

    g_assert_cmpint(json_object_get_int_member(numbers, "major"), ==, 10);
    check_extents(hot, SMALL_HOT, 1024 * MIB);
    check_beats(vm);
    g_assert_cmpuint(guest_sweep(vm->guest, 30), ==, 0);
}

/* --- the ROM -------------------------------------------------------------------------------- */

static void check_write(struct vm *vm, struct rom_range range)
{
    uint32_t word;

    rom_run(vm, ROM_WRITE, range, 500, 30);
    vm_peek(vm, range.base + 7ull * range.stride, &word, sizeof(word));
    g_assert_cmpuint(word, ==, 507);
    g_assert_cmpuint(rom_run(vm, ROM_CHECK, range, 500, 30).result, ==, 0);
    g_assert_cmpuint(rom_run(vm, ROM_ADD, range, 3, 30).done, ==, 3);
    g_assert_cmpuint(rom_run(vm, ROM_READ, range, 0, 30).result, ==, 50 * 503 + 49 * 50 / 2);
}

static void check_wrong_word(struct vm *vm, struct rom_range range)
{
    uint32_t at = range.base + 9 * range.stride, word = 1;

    vm_poke(vm, at, &word, sizeof(word));
    struct rom_mailbox box = rom_run(vm, ROM_CHECK, range, 503, 30);

    g_assert_cmpuint(box.result, ==, 1);
    g_assert_cmpuint(box.first_bad, ==, at);
}

static void check_spin(struct vm *vm, struct rom_range range)
{
    rom_give(vm, ROM_SPIN, range, 0);
    lab_sleep(0.3);
    uint32_t before = rom_mailbox(vm).rounds;

    lab_sleep(0.3);
    rom_stop_spin(vm, 30);
    g_test_message("%u rounds, then %u", before, rom_mailbox(vm).rounds);
    g_assert_cmpuint(before, >, 0);
    g_assert_cmpuint(rom_mailbox(vm).rounds, >, before);
}

static void test_rom(gconstpointer accel)
{
    static const struct rom_range range = { .base = 16 * MIB, .stride = 3 * 4096, .count = 50 };
    g_autoptr(Lab) lab = lab_new("rom");
    g_autofree char *rom = lab_built("tests/rom.bin");
    g_autoptr(Vm) vm = vm_start(lab, "rom", &(struct vm_options){
        .rom = rom, .accel = accel, .ram = "64M", .machine = "pc" });

    rom_wait_alive(vm, 20);
    check_write(vm, range);
    check_wrong_word(vm, range);
    check_spin(vm, range);
}

static void test_rom_kvm(void)
{
    if (vm_kvm_usable())
        test_rom("kvm");
    else
        g_test_skip("/dev/kvm cannot be opened");
}

/* --- failures of the lab's own parts -------------------------------------------------------- */

static void test_refused_start(void)
{
    static const char *const nonsense[] = { "-device", "no-such-device", NULL };
    g_autoptr(Lab) lab = lab_new("refused");
    g_autoptr(Vm) vm = vm_spawn(lab, "vm", &(struct vm_options){ .extra = nonsense });

    g_assert_true(child_wait(vm->qemu, 20));
    g_autofree char *said = child_output(vm->qemu);

    g_assert_true(WIFEXITED(vm->qemu->status));
    g_assert_cmpint(WEXITSTATUS(vm->qemu->status), ==, 1);
    g_assert_nonnull(strstr(said, "no-such-device"));
}

static void test_qmp_errors(void)
{
    g_autoptr(Lab) lab = lab_new("qmp");
    g_autofree char *rom = lab_built("tests/rom.bin");
    g_autoptr(Vm) vm = vm_start(lab, "vm", &(struct vm_options){ .rom = rom, .ram = "64M" });
    g_autofree char *error = qmp_fails(vm->qmp, "no-such-command", NULL);

    g_assert_true(g_str_has_prefix(error, "CommandNotFound: "));
    g_autoptr(JsonObject) reply = qmp_raw(vm->qmp, "{\"execute\":", 1);
    g_autoptr(JsonObject) second = reply ? NULL : qmp_raw(vm->qmp, "]", 5);

    g_assert_true(json_object_has_member(reply ? reply : second, "error"));
    g_assert_null(qmp_wait_event(vm->qmp, "SHUTDOWN", 0.1));
}

static const char *self;

static bool is_gone(void *pid)
{
    return kill(*(pid_t *)pid, 0) < 0 && errno == ESRCH;
}

/* What the program does when it is started as "test-lab doomed DIR": fail while a VM runs. */
static void be_doomed(char *dir)
{
    static const char *const loud[] = { "-monitor", "stdio", NULL };
    struct lab lab = { dir };
    g_autofree char *rom = lab_built("tests/rom.bin");
    struct vm *vm = vm_start(&lab, "doomed", &(struct vm_options){ .rom = rom, .extra = loud });

    g_print("%d\n", (int)vm->qemu->pid);
    g_error("as intended");
}

/* A test that fails prints its VM's log, and the VM does not outlive it. */
static void test_failing(void)
{
    g_autoptr(Lab) lab = lab_new("failing");
    const char *argv[] = { self, "doomed", lab->dir, NULL };
    g_autofree char *out = NULL, *err = NULL;
    int status = 0;

    g_spawn_sync(NULL, (char **)(gpointer)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err,
                 &status, NULL);
    g_assert_true(WIFSIGNALED(status));
    g_assert_true(g_pattern_match_simple("*as intended*doomed.log*QEMU * monitor*", err));
    pid_t pid = (pid_t)g_ascii_strtoll(out, NULL, 10);

    g_assert_cmpint(pid, >, 0);
    g_assert_true(lab_wait(is_gone, &pid, 10));
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "doomed") == 0)
        be_doomed(argv[2]);
    self = argv[0];
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lab/refused-start", test_refused_start);
    g_test_add_func("/lab/qmp-errors", test_qmp_errors);
    g_test_add_func("/lab/failing", test_failing);
    g_test_add_data_func("/lab/rom/tcg", "tcg", test_rom);
    g_test_add_func("/lab/rom/kvm", test_rom_kvm);
    g_test_add_func("/lab/guest/demo", test_demo_guest);
    g_test_add_func("/lab/guest/commands", test_commands);
    g_test_add_func("/lab/guest/corruption-is-found", test_corruption_is_found);
    g_test_add_func("/lab/guest/reset", test_reset);
    g_test_add_func("/lab/guest/hotplug", test_hotplug);
    g_test_add_func("/lab/guest/qemu10", test_qemu10);
    return g_test_run();
}
