// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon dies, or stops to answer, at random moments while memory is being moved: the guest does
 * not notice, and the next daemon knows at once where everything is.
 *
 * timeout: 300
 */
#include "tiered.h"

#include <signal.h>

#define KILLS 20
#define SMALL_QUOTA (64 * MIB)
#define GUEST "vmt.foot=300M vmt.hot=96M"

static void set_quota(struct tiered *t, uint64_t bytes)
{
    json_node_unref(qmp_ok(t->daemon->qmp, "vmtier-set-quota",
                           "{\"vm\":\"%s\",\"max\":%" PRIu64 "}", t->name, bytes));
}

/* Granules this daemon has moved. */
static uint64_t daemon_moves(struct tiered *t)
{
    g_autoptr(JsonObject) vm = daemon_vm(t->daemon, t->name);
    JsonObject *moves = json_object_get_object_member(vm, "moves");

    return (uint64_t)(json_object_get_int_member(moves, "promoted") +
                      json_object_get_int_member(moves, "demoted"));
}

static bool has_moved(void *t)
{
    return daemon_moves(t) > 0;
}

/* Moves are asked for, and some time while they are carried out the daemon dies. */
static uint64_t kill_amid_moves(struct tiered *t)
{
    if (g_test_rand_bit())
        g_array_unref(guest_shift(t->vm->guest, 10));
    set_quota(t, g_test_rand_bit() ? SMALL_QUOTA : t->quota);
    if (g_test_rand_bit())                      /* at any time, but half of them have begun */
        lab_wait(has_moved, t, 10);
    lab_sleep(g_test_rand_double_range(0.05, 1.0));
    uint64_t moves = daemon_moves(t);

    daemon_kill(t->daemon);
    lab_sleep(g_test_rand_double_range(0, 0.3));
    return moves;
}

static void check_gap(struct vm *vm, int turn)
{
    double arrival = guest_longest_gap(vm->guest);
    uint64_t own = tiered_guest_gap(vm);

    g_test_message("kill %d: the guest stood still for %" PRIu64 " ms, its port for %.0f ms", turn,
                   own, arrival);
    g_assert_cmpuint(own, <=, GAP_MS);
    g_assert_cmpfloat(arrival, <=, GAP_MS);
}

static uint64_t kill_once(struct tiered *t, int turn)
{
    tiered_guest_gap(t->vm);
    guest_reset_gap(t->vm->guest);
    struct stir *stir = stir_start(t);
    uint64_t moves = kill_amid_moves(t);

    daemon_restart(t->daemon);
    stir_end(stir);
    tiered_check(t, 5);
    check_gap(t->vm, turn);
    return moves;
}

static void test_killed(void)
{
    g_autoptr(Tiered) t = tiered_new(&(struct tiered_options){
        .lab = "kill", .ram = "512M", .append = GUEST, .quota = "128M" });
    uint64_t moves = 0;

    for (int i = 1; i <= KILLS; i++)
        moves += kill_once(t, i);
    g_test_message("%" PRIu64 " pages moved; %" PRIu64 " granules by daemons that were killed",
                   tiered_pages(t->vm), moves);
    g_assert_cmpuint(tiered_pages(t->vm), >=, 20000);
    g_assert_cmpuint(moves, >=, KILLS);
    tiered_check_guest(t->vm);
}

/* The longest of QEMU's answers, in seconds, while memory is asked to move. */
static double slowest_answer(struct vm *vm, double end)
{
    double slowest = 0;

    for (unsigned i = 0; lab_now() < end; i++) {
        double start = lab_now();

        json_node_unref(qmp_ok(vm->qmp, "query-status", NULL));
        json_node_unref(qmp_ok(vm->qmp, "x-vmtier-query", NULL));
        json_node_unref(qmp_ok(vm->qmp, "x-vmtier-move", "{\"block\":\"ram0\",\"offset\":%u,"
                               "\"length\":%u,\"tier\":\"cxl\"}", i % 64 << 21, 1u << 21));
        slowest = MAX(slowest, lab_now() - start);
        lab_sleep(0.01);
    }
    return slowest;
}

/* The layout that each move makes QEMU's part send fills the daemon's socket meanwhile. */
static void test_stopped(void)
{
    g_autoptr(Tiered) t = tiered_new(&(struct tiered_options){
        .lab = "stopped", .ram = "512M", .append = GUEST, .quota = "128M" });

    tiered_guest_gap(t->vm);
    guest_reset_gap(t->vm->guest);
    child_kill(t->daemon->process, SIGSTOP);
    double slowest = slowest_answer(t->vm, lab_now() + 3);

    child_kill(t->daemon->process, SIGCONT);
    g_test_message("the slowest answer took %.0f ms", slowest * 1000);
    /* Three questions, each in a thread of QEMU's and one of ours; who waited for the daemon waited all the time. */
    g_assert_cmpfloat(slowest, <=, 0.5 + 6 * lab_longest_delay() / 1000);
    tiered_check(t, 10);
    tiered_check_guest(t->vm);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kill/daemon-killed", test_killed);
    g_test_add_func("/kill/daemon-stopped", test_stopped);
    return g_test_run();
}
