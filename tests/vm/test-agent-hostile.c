// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An agent that lies, floods, replays and talks nonsense: the test is the agent, at the socket where the
 * daemon expects QEMU's. Two VMs are tiered; one has that agent, the other is an ordinary one, and nothing of
 * it may change.
 *
 * timeout: 120
 */
#include "rig.h"

#include "common/agent-frame.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RAM   (64 * MIB)
#define QUOTA (16 * MIB)

static const char *const arguments[] = { "--rate", "1G", "--quota", "16M", NULL };

struct liar {
    struct rig *rig;
    struct vm *other;
    int listener, fd;
    guint32 seq;
    struct vta_decoder in;
    struct vta_frame f;         /* the last one that came */
    GBytes *placement;          /* of the other VM, at the start */
};

/* --- the channel ------------------------------------------------------------------------------------ */

static int listen_at(struct lab *lab)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autofree char *path = lab_path(lab, "vm.agent");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static void write_config(struct lab *lab)
{
    g_autofree char *path = lab_path(lab, "vmtierd.conf"), *pattern = lab_path(lab, "%n.agent");
    g_autofree char *absolute = g_canonicalize_filename(pattern, NULL);
    g_autofree char *text = g_strdup_printf("[vm default]\nagent=%s\n", absolute);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static GBytes *placement_of(struct rig *rig, const char *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(rig->daemon->qmp, "query-vmtier-heatmap", "{\"vm\":\"%s\"}", vm);
    JsonArray *tier = json_object_get_array_member(json_node_get_object(node), "tier");
    guint8 tiers[RAM / GRANULE];

    g_assert_cmpuint(json_array_get_length(tier), ==, sizeof(tiers));
    for (guint i = 0; i < sizeof(tiers); i++)
        tiers[i] = (guint8)json_array_get_int_element(tier, i);
    return g_bytes_new(tiers, sizeof(tiers));
}

/* Bytes as they are; how many went before it took no more for half a second. */
static gsize push(struct liar *l, const void *data, gsize n)
{
    const struct timeval patience = { .tv_usec = 500000 };
    gsize done = 0;

    setsockopt(l->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    while (done < n) {
        gssize sent = send(l->fd, (const guint8 *)data + done, n - done, MSG_NOSIGNAL);

        if (sent <= 0)
            break;
        done += (gsize)sent;
    }
    return done;
}

static bool say(struct liar *l, enum vta_type type, struct vta_frame *f, gsize length)
{
    gsize n = vta_seal(f, type, ++l->seq, length);

    return push(l, f, n) == n;
}

/* The next frame of this type, others are passed over; false: none came. */
static bool hear(struct liar *l, enum vta_type type, double timeout)
{
    double end = lab_deadline(timeout);
    guint8 bytes[512];

    while (lab_now() < end) {
        gssize n;

        while (vta_next(&l->in, &l->f))
            if (l->f.h.type == type)
                return true;
        n = recv(l->fd, bytes, MIN(sizeof(bytes), vta_room(&l->in)), MSG_DONTWAIT);
        if (n > 0)
            g_assert_cmpuint(vta_feed(&l->in, bytes, (size_t)n), ==, n);
        else
            lab_sleep(0.02);
    }
    return false;
}

static void greet(struct liar *l, guint16 least, guint16 most)
{
    struct vta_frame f = { .hello = { most, least, VTA_F_ALL, 4096, 0, "liar" } };

    g_assert_true(say(l, VTA_HELLO, &f, sizeof(f.hello)));
}

static struct liar *liar_new(const char *name)
{
    struct liar *l = g_new0(struct liar, 1);

    l->rig = rig_new(name);
    write_config(l->rig->lab);
    l->listener = listen_at(l->rig->lab);
    rig_start_daemon(l->rig, arguments);
    rig_start_vm(l->rig, (struct vm_options){ 0 });
    l->other = rig_another_vm(l->rig, "other", (struct vm_options){ 0 });
    rom_wait_alive(l->rig->vm, 20);
    rom_wait_alive(l->other, 20);
    rig_wait_state(l->rig, "tiering");
    daemon_wait_vm_state(l->rig->daemon, "other", "tiering", 15);
    l->fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(l->fd, >=, 0);
    g_assert_true(hear(l, VTA_ASK, 10));
    lab_sleep(0.5);
    l->placement = placement_of(l->rig, "other");
    return l;
}

/* The other VM is as it was, and the liar's has no more than is its. */
static void liar_free(struct liar *l)
{
    g_autoptr(GBytes) now = placement_of(l->rig, "other");

    g_assert_true(g_bytes_equal(now, l->placement));
    g_assert_cmpint(rig_daemon_int(l->rig, "dram_bytes_peak"), <=, QUOTA);
    g_assert_cmpint(rig_daemon_int(l->rig, "tiers.0.ledger_bytes"), <=, QUOTA);
    g_assert_cmpint(rig_daemon_int(l->rig, "ledger_mismatches"), ==, 0);
    g_bytes_unref(l->placement);
    vm_free(l->other);
    close(l->fd);
    close(l->listener);
    rig_free(l->rig);
    g_free(l);
}

static gint64 agent_int(struct liar *l, const char *name)
{
    g_autofree char *path = g_strconcat("agent.", name, NULL);

    return rig_daemon_int(l->rig, path);
}

static void wait_int(struct liar *l, const char *name, gint64 least)
{
    g_autofree char *path = g_strconcat("agent.", name, NULL);

    if (!rig_reaches(l->rig, path, least, 10))
        g_error("%s is %" G_GINT64_FORMAT ", not %" G_GINT64_FORMAT, path, agent_int(l, name), least);
}

static bool hint(struct liar *l, enum vta_kind kind, guint64 gpa, guint64 length, guint32 report)
{
    struct vta_frame f = { .hints = { report, 1 } };

    f.hints.range[0] = (struct vta_range){ gpa, length, (guint8)kind, VTA_SHARE, 255, 0, 0 };
    return say(l, VTA_HINTS, &f, sizeof(f.hints) + sizeof(struct vta_range));
}

static void meet(struct liar *l)
{
    greet(l, VTA_VERSION_MIN, VTA_VERSION);
    g_assert_true(hear(l, VTA_WELCOME, 10));
    g_assert_cmpuint(l->f.welcome.version, ==, VTA_VERSION);
    g_assert_cmpuint(l->f.welcome.granule, ==, GRANULE);
    g_assert_true(hear(l, VTA_CREDIT, 10));
}

/* CPU time of the daemon so far, all threads. */
static double daemon_cpu_s(struct liar *l)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)l->rig->daemon->process->pid);
    g_autofree char *text = NULL;
    unsigned long user, system;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpint(sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                           &user, &system), ==, 2);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* --- versions --------------------------------------------------------------------------------------- */

static void test_versions(void)
{
    struct liar *l = liar_new("agent-versions");

    greet(l, 7, 9);                         /* of the future, and it does not know ours */
    g_assert_true(hear(l, VTA_ERROR, 10));
    g_assert_cmpuint(l->f.notice.code, ==, VTA_E_VERSION);
    wait_int(l, "version", 9);
    g_assert_false(rig_daemon_flag(l->rig, "agent.speaks"));
    greet(l, 1, 9);                         /* of the future, and it does */
    g_assert_true(hear(l, VTA_WELCOME, 10));
    g_assert_cmpuint(l->f.welcome.version, ==, VTA_VERSION);
    g_assert_true(hear(l, VTA_SHARES, 10));
    g_assert_cmpuint(l->f.shares.tiers, ==, 2);
    g_assert_cmpstr(l->f.shares.tier[0].name, ==, "dram");
    g_assert_cmpuint(l->f.shares.tier[0].bytes, ==, QUOTA);
    g_assert_cmpuint(l->f.shares.ram, ==, RAM);
    g_assert_true(rig_daemon_flag(l->rig, "agent.speaks"));
    liar_free(l);
}

/* --- lies ------------------------------------------------------------------------------------------- */

/* Everything hot changes nothing; everything pinned gets half of the quota, and is told so. */
static void test_everything(void)
{
    struct liar *l = liar_new("agent-everything");

    meet(l);
    g_assert_true(hint(l, VTA_HOT, 0, RAM, 1));
    wait_int(l, "hot_bytes", RAM);
    g_assert_true(hint(l, VTA_PIN, 0, G_MAXUINT64 / 2, 2));
    g_assert_true(hear(l, VTA_REFUSED, 10));
    g_assert_cmpuint(l->f.refused.asked, ==, RAM);
    g_assert_cmpuint(l->f.refused.most, ==, QUOTA / 2);
    says(l->f.refused.text, "pins of 64 MiB: 8 MiB may be, half of the DRAM quota");
    wait_int(l, "pinned_bytes", QUOTA / 2);
    wait_int(l, "pinned_dram_bytes", QUOTA / 2);
    g_assert_cmpint(agent_int(l, "pin_refused_bytes"), ==, RAM - QUOTA / 2);
    g_assert_true(hint(l, VTA_NONE, 0, RAM, 3));
    g_assert_true(rig_falls_to(l->rig, "agent.pinned_bytes", 0, 10));
    g_assert_cmpint(agent_int(l, "mutes"), ==, 0);
    liar_free(l);
}

static void fill_frame(struct vta_frame *f, guint64 from, guint32 report)
{
    f->hints = (struct vta_hints){ report, VTA_RANGES };
    for (guint i = 0; i < VTA_RANGES; i++)
        f->hints.range[i] = (struct vta_range){ from + i * 8192ull, 4096 * 3, VTA_HOT, VTA_SHARE,
                                                (guint8)(1 + i % 2), 0, 0 };
}

/* Credits or not, as fast as the socket takes them; for a while. Ranges that went. */
static guint64 flood(struct liar *l, guint64 from, double seconds)
{
    double end = lab_now() + seconds;
    struct vta_frame f = { 0 };
    guint64 n = 0;

    while (lab_now() < end) {
        fill_frame(&f, from, (guint32)n);
        if (!say(l, VTA_HINTS, &f, sizeof(f.hints) + VTA_RANGES * sizeof(struct vta_range)))
            break;
        n += VTA_RANGES;
    }
    return n;
}

static void test_flood(void)
{
    struct liar *l = liar_new("agent-flood");
    double cpu, start;
    guint64 n;

    meet(l);
    cpu = daemon_cpu_s(l);
    start = lab_now();
    n = flood(l, 2 * MIB, 3);
    g_assert_true(hear(l, VTA_MUTE, 10));
    g_assert_cmpuint(l->f.notice.code, ==, VTA_E_RATE);
    g_assert_cmpuint(l->f.notice.ms, >=, 1000);
    lab_sleep(1);
    cpu = daemon_cpu_s(l) - cpu;
    g_test_message("%" G_GUINT64_FORMAT " ranges went in %.1f s; %" G_GINT64_FORMAT " were read; the "
                   "daemon took %.3f s of CPU time for both VMs", n, lab_now() - start,
                   agent_int(l, "ranges"), cpu);
    g_assert_cmpfloat(cpu, <, 0.25 * (lab_now() - start));
    g_assert_cmpint(agent_int(l, "mutes"), ==, 1);
    g_assert_true(rig_daemon_flag(l->rig, "agent.muted"));
    g_assert_cmpint(agent_int(l, "hot_bytes"), ==, 0);
    /* It goes on, and is muted for twice as long. */
    g_assert_true(hear(l, VTA_UNMUTE, 20));
    flood(l, 2 * MIB, 0.5);
    g_assert_true(hear(l, VTA_MUTE, 20));
    g_assert_cmpuint(l->f.notice.ms, >=, 9000);
    liar_free(l);
}

static void test_outside(void)
{
    struct liar *l = liar_new("agent-outside");

    meet(l);
    for (int i = 0; i < 3 && !agent_int(l, "mutes"); i++)
        flood(l, 1ull << 40, 0.1);
    wait_int(l, "mutes", 1);
    g_assert_cmpint(agent_int(l, "outside_ranges"), >, 0);
    g_assert_cmpint(agent_int(l, "hot_bytes"), ==, 0);
    liar_free(l);
}

/* --- nonsense --------------------------------------------------------------------------------------- */

static void test_garbage(void)
{
    struct liar *l = liar_new("agent-garbage");
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    guint8 bytes[16384];

    meet(l);
    for (gsize i = 0; i < sizeof(bytes); i++)
        bytes[i] = (guint8)g_rand_int(rand);
    push(l, bytes, sizeof(bytes));
    g_assert_true(hear(l, VTA_MUTE, 10));
    g_assert_cmpuint(l->f.notice.code, ==, VTA_E_GARBAGE);
    g_assert_cmpint(agent_int(l, "garbage_bytes"), >, 8000);
    liar_free(l);
}

/* Half a frame, then good ones; frames that were sent before; too many greetings. */
static void test_halves_and_replays(void)
{
    struct liar *l = liar_new("agent-replays");
    struct vta_frame f = { .hints = { 1, 1 } }, half = { .hints = { 1, 1 } };
    gsize n;

    meet(l);
    n = vta_seal(&half, VTA_HINTS, ++l->seq, sizeof(f.hints) + sizeof(struct vta_range));
    push(l, &half, n / 2);
    g_assert_true(hint(l, VTA_HOT, 0, 4 * MIB, 1));
    wait_int(l, "hot_bytes", 4 * MIB);
    g_assert_cmpint(agent_int(l, "bad_frames"), ==, 1);
    f.hints.range[0] = (struct vta_range){ 8 * MIB, MIB, VTA_HOT, VTA_SHARE, 9, 0, 0 };
    n = vta_seal(&f, VTA_HINTS, 1, sizeof(f.hints) + sizeof(struct vta_range));
    for (int i = 0; i < 10; i++)
        push(l, &f, n);
    wait_int(l, "replayed_frames", 10);
    g_assert_cmpint(agent_int(l, "hot_bytes"), ==, 4 * MIB);
    g_assert_cmpint(agent_int(l, "mutes"), ==, 0);
    for (int i = 0; i < 40; i++)
        push(l, &f, n);
    g_assert_true(hear(l, VTA_MUTE, 10));
    liar_free(l);
}

/* The channel ends and comes back, again and again, amid a frame. */
static void test_reconnects(void)
{
    struct liar *l = liar_new("agent-reconnects");

    for (int i = 0; i < 2; i++) {
        meet(l);
        g_assert_true(hint(l, VTA_HOT, 0, 2 * MIB, 1));
        push(l, "VMA1", 4);
        close(l->fd);
        l->fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);
        vta_restart(&l->in);
        l->seq = 0;
        g_assert_true(hear(l, VTA_ASK, 10));
    }
    meet(l);
    liar_free(l);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent-hostile/versions", test_versions);
    g_test_add_func("/agent-hostile/everything", test_everything);
    g_test_add_func("/agent-hostile/flood", test_flood);
    g_test_add_func("/agent-hostile/outside", test_outside);
    g_test_add_func("/agent-hostile/garbage", test_garbage);
    g_test_add_func("/agent-hostile/replays", test_halves_and_replays);
    g_test_add_func("/agent-hostile/reconnects", test_reconnects);
    return g_test_run();
}
