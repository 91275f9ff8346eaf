// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The recorder: what is handed in is in the file; a reader that does not read costs rounds and no time;
 * one that goes away ends it.
 */
#include "host/trace-record.h"
#include "trace-fixture.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct pipe_end {
    struct recorder *recorder;
    int fd;
};

static struct pipe_end start(double seconds)
{
    const struct trace_header header = fixture_header();
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    return (struct pipe_end){ recorder_new(&header, pair[0], seconds), pair[1] };
}

static bool hand_in(struct recorder *r, guint round, guint n)
{
    const struct trace_layout layout = fixture_layout(60000);

    recorder_layout(r, &layout);
    recorder_round(r, 0.25, 7);
    for (guint i = 0; i < n; i++)
        recorder_observe(r, (guint8)(i % 3), (guint8)(i & 1), (i * 31 + round) % 60000, 64 * (1 + i % 9),
                         i % 3 ? 0.125 : 0);
    return recorder_commit(r);
}

/* Until the recorder hangs up. */
static GByteArray *read_rest(int fd)
{
    GByteArray *file = g_byte_array_new();
    guint8 bytes[4096];
    gssize n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        g_byte_array_append(file, bytes, (guint)n);
    close(fd);
    return file;
}

static void wait_ended(struct recorder *r, struct recorder_state *state)
{
    for (int i = 0; i < 6000; i++) {
        recorder_look(r, state);
        if (state->ended)
            return;
        g_usleep(5000);
    }
    g_error("the recorder goes on");
}

static void test_whole(void)
{
    struct pipe_end p = start(0);
    g_autoptr(GByteArray) file = NULL;
    struct recorder_state state;
    guint n[TRACE_GAP + 1] = { 0 };
    struct trace_item end;

    for (guint r = 0; r < 20; r++)
        g_assert_true(hand_in(p.recorder, r, 30 * r));
    recorder_end(p.recorder, TRACE_ASKED);
    recorder_end(p.recorder, TRACE_VM_GONE);        /* too late */
    g_assert_false(hand_in(p.recorder, 0, 1));
    file = read_rest(p.fd);
    wait_ended(p.recorder, &state);
    g_assert_cmpint(fixture_read(file, n, &end, NULL), ==, TRACE_END);
    g_assert_false(end.end.cut);
    g_assert_cmpuint(end.end.totals.reason, ==, TRACE_ASKED);
    g_assert_cmpuint(end.end.totals.rounds, ==, 20);
    g_assert_cmpuint(end.end.totals.observations, ==, 30 * 190);
    g_assert_cmpuint(n[TRACE_LAYOUT], ==, 1);
    g_assert_cmpuint(n[TRACE_GAP], ==, 0);
    g_assert_cmpuint(state.bytes, ==, file->len);
    g_assert_cmpstr(state.error, ==, "");
    recorder_unref(p.recorder);
}

static void test_time_is_over(void)
{
    struct pipe_end p = start(2);
    g_autoptr(GByteArray) file = NULL;
    struct trace_item end;
    guint rounds = 0;

    while (hand_in(p.recorder, rounds, 5))
        rounds++;
    g_assert_cmpuint(rounds, ==, 8);
    file = read_rest(p.fd);
    g_assert_cmpint(fixture_read(file, NULL, &end, NULL), ==, TRACE_END);
    g_assert_cmpuint(end.end.totals.reason, ==, TRACE_TIME_OVER);
    recorder_unref(p.recorder);
}

/*
 * Nobody reads, for longer than the queue is: every round comes back at once, the memory stays bounded,
 * and the file tells of all that was handed in, as kept or as lost.
 */
static void test_slow_reader(void)
{
    struct pipe_end p = start(0);
    const guint each = 20000;
    g_autoptr(GByteArray) file = NULL;
    guint n[TRACE_GAP + 1] = { 0 }, rounds = 0;
    struct recorder_state state = { 0 };
    struct trace_item end;

    /* How many fit depends on how far its thread has come with writing them. */
    for (; rounds < 2000 && state.lost_rounds <= 10; rounds++) {
        g_assert_true(hand_in(p.recorder, rounds, each));
        recorder_look(p.recorder, &state);
    }
    g_assert_cmpuint(state.lost_rounds, >, 10);
    recorder_end(p.recorder, TRACE_ASKED);
    file = read_rest(p.fd);
    g_assert_cmpint(fixture_read(file, n, &end, NULL), ==, TRACE_END);
    g_assert_false(end.end.cut);
    g_assert_cmpuint(n[TRACE_GAP], >=, 1);
    g_assert_cmpuint(end.end.totals.lost_rounds, ==, state.lost_rounds);
    g_assert_cmpuint(end.end.totals.rounds + end.end.totals.lost_rounds, ==, rounds);
    g_assert_cmpuint(end.end.totals.observations + end.end.totals.lost_observations, ==,
                     (guint64)rounds * each);
    g_assert_cmpuint(end.end.totals.duration_us, ==, rounds * 250000ull);
    recorder_unref(p.recorder);
}

static void test_reader_goes(void)
{
    struct pipe_end p = start(0);
    struct recorder_state state;
    guint r = 0;

    g_assert_true(hand_in(p.recorder, 0, 100));
    close(p.fd);
    while (hand_in(p.recorder, r++, 100) && r < 100000)
        g_usleep(100);
    wait_ended(p.recorder, &state);
    g_assert_nonnull(strstr(state.error, "writing the recording: Broken pipe"));
    recorder_end(p.recorder, TRACE_ASKED);
    recorder_unref(p.recorder);
}

/* A round of more than can be kept is cut, and the rest counted. */
static void test_huge_round(void)
{
    struct pipe_end p = start(0);
    g_autoptr(GByteArray) file = NULL;
    struct trace_item end;

    g_assert_true(hand_in(p.recorder, 0, RECORD_ROUND_MOST + 1000));
    g_assert_true(hand_in(p.recorder, 0, 10));
    recorder_end(p.recorder, TRACE_DAEMON_ENDS);
    file = read_rest(p.fd);
    g_assert_cmpint(fixture_read(file, NULL, &end, NULL), ==, TRACE_END);
    g_assert_cmpuint(end.end.totals.observations, ==, RECORD_ROUND_MOST + 10);
    g_assert_cmpuint(end.end.totals.lost_observations, ==, 1000);
    recorder_unref(p.recorder);
    recorders_wait(5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/trace-record/whole", test_whole);
    g_test_add_func("/trace-record/time-is-over", test_time_is_over);
    g_test_add_func("/trace-record/slow-reader", test_slow_reader);
    g_test_add_func("/trace-record/reader-goes", test_reader_goes);
    g_test_add_func("/trace-record/huge-round", test_huge_round);
    return g_test_run();
}
