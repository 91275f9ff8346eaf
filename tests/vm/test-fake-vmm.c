// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A QEMU that talks nonsense to the daemon: REFUSE or the log names the cause, the daemon goes on,
 * and so does the tiering of an honest VM.
 *
 * timeout: 90
 */
#include "peer.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int knock(struct rig *rig)
{
    struct sockaddr_un a = peer_address(rig);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&a, sizeof(a)), ==, 0);
    return fd;
}

static void make_hello(struct wire_msg *m, const char *name)
{
    memset(&m->hello, 0, sizeof(m->hello));
    wire_start(m, VT_HELLO, 0, sizeof(m->hello));
    m->hello.accel = 77;
    m->hello.sources = G_MAXUINT32;
    g_strlcpy(m->hello.name, name, sizeof(m->hello.name));
}

static void greet(int fd, struct wire_msg *m)
{
    struct vt_err err;

    make_hello(m, "fake");
    peer_send(fd, m);
    g_assert_cmpint(wire_recv(fd, m, PEER_MS, &err), ==, 0);
    g_assert_cmpint(m->h.type, ==, VT_WELCOME);
    wire_drop_fds(m);
}

static void send_block(int fd, struct wire_msg *m, struct vt_block b)
{
    const bool with_file = b.files & 1;

    wire_start(m, VT_BLOCK, 0, sizeof(b));
    b.h = m->h;
    m->block = b;
    if (with_file) {
        m->fd[0] = memfd_create("fake-ram", MFD_CLOEXEC);
        m->n_fds = 1;
        g_assert_cmpint(ftruncate(m->fd[0], 64 * MIB), ==, 0);
    }
    peer_send(fd, m);
    wire_drop_fds(m);
}

static const struct vt_block good = {
    .length = 64 * MIB, .count = 32, .page_size = 4096, .files = 1, .fresh = 1, .name = "ram0",
};

static void vmm_magic(int fd, struct wire_msg *m)
{
    make_hello(m, "fake");
    m->h.magic = 1;
    peer_send_raw(fd, m, m->h.length);
}

static void vmm_version(int fd, struct wire_msg *m)
{
    make_hello(m, "fake");
    m->h.version = 9;
    peer_send_raw(fd, m, m->h.length);
}

static void vmm_truncated(int fd, struct wire_msg *m)
{
    make_hello(m, "fake");
    peer_send_raw(fd, m, 200);
}

static void vmm_type(int fd, struct wire_msg *m)
{
    make_hello(m, "fake");
    m->h.type = 4711;
    peer_send_raw(fd, m, m->h.length);
}

static void vmm_nameless(int fd, struct wire_msg *m)
{
    make_hello(m, "");
    peer_send(fd, m);
}

static void vmm_endless_name(int fd, struct wire_msg *m)
{
    make_hello(m, "fake");
    memset(m->hello.name, 'x', sizeof(m->hello.name));
    peer_send_raw(fd, m, m->h.length);
}

static void vmm_same_name(int fd, struct wire_msg *m)
{
    make_hello(m, "vm");
    peer_send(fd, m);
}

static void vmm_granules(int fd, struct wire_msg *m)
{
    make_hello(m, "fake");
    m->hello.granule = 3 * MIB;
    peer_send(fd, m);
}

static void vmm_block_id(int fd, struct wire_msg *m)
{
    struct vt_block b = good;

    greet(fd, m);
    b.id = VT_BLOCKS;
    send_block(fd, m, b);
}

static void vmm_block_count(int fd, struct wire_msg *m)
{
    struct vt_block b = good;

    greet(fd, m);
    b.count = 33;
    send_block(fd, m, b);
}

static void vmm_block_first(int fd, struct wire_msg *m)
{
    struct vt_block b = good;

    greet(fd, m);
    b.first = VT_GRANULES_MAX - 1;
    send_block(fd, m, b);
}

static void vmm_block_pages(int fd, struct wire_msg *m)
{
    struct vt_block b = good;

    greet(fd, m);
    b.page_size = 5000;
    send_block(fd, m, b);
}

static void vmm_block_no_file(int fd, struct wire_msg *m)
{
    struct vt_block b = good;

    greet(fd, m);
    b.files = 0;
    send_block(fd, m, b);
}

static void vmm_block_overlap(int fd, struct wire_msg *m)
{
    struct vt_block b = good;

    greet(fd, m);
    send_block(fd, m, b);
    b.id = 1;
    b.first = 31;
    send_block(fd, m, b);
}

static void send_placement(int fd, struct wire_msg *m, uint32_t first, uint8_t tier)
{
    greet(fd, m);
    send_block(fd, m, good);
    wire_start(m, VT_PLACEMENT, 0, sizeof(m->placement) + 4);
    m->placement.first = first;
    m->placement.count = 4;
    memset(m->placement.tier, tier, 4);
    peer_send(fd, m);
}

static void vmm_placement_range(int fd, struct wire_msg *m)
{
    send_placement(fd, m, 30, 0);
}

static void vmm_placement_tier(int fd, struct wire_msg *m)
{
    send_placement(fd, m, 0, 7);
}

static void vmm_early(int fd, struct wire_msg *m)
{
    greet(fd, m);
    wire_start(m, VT_HARVEST_END, 0, sizeof(m->harvest_end));
    memset(&m->harvest_end.interval_ms, 0, sizeof(m->harvest_end) - sizeof(m->h));
    peer_send(fd, m);
}

/* A layout, and the daemon's first MOVE of what does not fit the quota. */
static void await_move(int fd, struct wire_msg *m)
{
    struct vt_err err;

    send_placement(fd, m, 0, 0);
    wire_start(m, VT_LAYOUT_END, 0, sizeof(m->layout_end));
    peer_send(fd, m);
    do {
        g_assert_cmpint(wire_recv(fd, m, PEER_MS, &err), ==, 0);
        wire_drop_fds(m);
    } while (m->h.type != VT_MOVE);
    g_assert_cmpuint(m->move.count, ==, 24);
    m->h.type = VT_MOVED;
}

static void vmm_moved_count(int fd, struct wire_msg *m)
{
    await_move(fd, m);
    m->move.count--;
    m->h.length -= sizeof(m->move.move[0]);
    peer_send(fd, m);
}

static void vmm_moved_granule(int fd, struct wire_msg *m)
{
    await_move(fd, m);
    m->move.move[3].granule = 4000000;
    peer_send(fd, m);
}

static void vmm_moved_tier(int fd, struct wire_msg *m)
{
    await_move(fd, m);
    m->move.move[3].tier = 3;
    peer_send(fd, m);
}

static void vmm_moved_seq(int fd, struct wire_msg *m)
{
    await_move(fd, m);
    m->h.seq += 100;
    peer_send(fd, m);
}

static void vmm_other_answer(int fd, struct wire_msg *m)
{
    await_move(fd, m);
    peer_say_ready(fd, m);
}

/* Honest but for observations of granules, sources and tiers that do not exist: they do not count. */
static void vmm_observations(int fd, struct wire_msg *m)
{
    static const struct vt_obs obs[] = {
        { .granule = 32, .events = 1 }, { .granule = G_MAXUINT32, .events = 1 },
        { .granule = 0, .source = 3, .events = 1 }, { .granule = 0, .tier = 9, .events = 1 },
        { .granule = 0, .source = 2, .events = G_MAXUINT32, .exposure = G_MAXUINT32 },
    };
    struct vt_err err;

    await_move(fd, m);
    peer_send(fd, m);
    do
        g_assert_cmpint(wire_recv(fd, m, PEER_MS, &err), ==, 0);
    while (m->h.type != VT_HARVEST);
    wire_start(m, VT_OBS, m->h.seq, sizeof(m->obs) + sizeof(obs));
    m->obs.count = G_N_ELEMENTS(obs);
    memcpy(m->obs.obs, obs, sizeof(obs));
    peer_send(fd, m);
    peer_say_ready(fd, m);
}

static const struct fake_vmm {
    const char *name;
    peer_fn act;
    const char *error;
} vmms[] = {
    { "magic", vmm_magic, "bad magic 0x1" },
    { "version", vmm_version, "protocol version 9, this side speaks 3" },
    { "truncated", vmm_truncated, "HELLO says it has 320 bytes but has 200" },
    { "oversized", peer_say_too_much, "a message is longer than 65536 bytes" },
    { "type", vmm_type, "unknown message type 4711" },
    { "no-hello", peer_say_ready, "READY instead of HELLO" },
    { "nameless", vmm_nameless, "its name is empty" },
    { "endless-name", vmm_endless_name, "HELLO has a string without an end" },
    { "same-name", vmm_same_name, "a VM 'vm' is attached already" },
    { "granules", vmm_granules, "fake: granules of 3145728 bytes" },
    { "block-id", vmm_block_id, "BLOCK 64: 67108864 bytes, granules 0 + 32 do not fit" },
    { "block-count", vmm_block_count, "BLOCK 0: 67108864 bytes, granules 0 + 33 do not fit" },
    { "block-first", vmm_block_first, "granules 4194303 + 32 do not fit together" },
    { "block-pages", vmm_block_pages, "BLOCK 0: pages of 5000 bytes" },
    { "block-no-file", vmm_block_no_file, "BLOCK 0: files 0 with 0 descriptors" },
    { "block-overlap", vmm_block_overlap, "BLOCK 1 overlaps another one" },
    { "placement-range", vmm_placement_range, "PLACEMENT of granules 30 + 4, there are 32" },
    { "placement-tier", vmm_placement_tier, "PLACEMENT: granule 0 in tier 7" },
    { "early", vmm_early, "HARVEST_END before the layout" },
    { "moved-count", vmm_moved_count, "MOVED does not answer MOVE" },
    { "moved-granule", vmm_moved_granule, "MOVED does not answer MOVE" },
    { "moved-tier", vmm_moved_tier, "MOVED does not answer MOVE" },
    { "moved-seq", vmm_moved_seq, "MOVED does not answer MOVE" },
    { "other-answer", vmm_other_answer, "READY does not answer MOVE" },
    { "observations", vmm_observations, "READY out of turn" },
};

/* Waits until the daemon hangs up; the text of REFUSE, if it sent one. */
static char *last_words(int fd, struct wire_msg *m)
{
    struct vt_err err;
    char *text = NULL;
    int rc;

    while (!(rc = wire_recv(fd, m, PEER_MS, &err))) {
        wire_drop_fds(m);
        if (m->h.type == VT_REFUSE)
            text = g_strdup(m->text.text);
    }
    g_assert_cmpint(rc, ==, -ECONNRESET);
    return text;
}

static struct rig *start_honest(const char *name)
{
    static const char *const args[] = { "--quota", "16M", NULL };
    struct rig *rig = rig_new(name);

    rig_start_daemon(rig, args);
    rig_start_vm(rig, (struct vm_options){ 0 });
    rom_wait_alive(rig->vm, 20);
    rig_wait_state(rig, "tiering");
    return rig;
}

static void still_tiers(struct rig *rig)
{
    gint64 rounds = rig_daemon_int(rig, "rounds");

    g_assert_true(child_alive(rig->daemon->process));
    g_assert_true(rig_reaches(rig, "rounds", rounds + 2, 2));
    rig_wait_state(rig, "tiering");
}

static guint descriptors_of(struct child *child)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)child->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint n = 0;

    while (dir && g_dir_read_name(dir))
        n++;
    return n;
}

static void misbehave(struct rig *rig, const struct fake_vmm *fake)
{
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    int fd = knock(rig);

    fake->act(fd, m);
    g_autofree char *refusal = last_words(fd, m);

    close(fd);
    g_test_message("%s: %s", fake->name, refusal ? refusal : "(in the log)");
    if (refusal ? !strstr(refusal, fake->error) : !log_says(rig->daemon->process, fake->error, 5))
        g_error("%s: nobody said '%s'", fake->name, fake->error);
}

static bool is_forgotten(void *rig)
{
    g_autoptr(JsonObject) fake = daemon_vm(((struct rig *)rig)->daemon, "fake");

    return !fake;
}

static void test_vmms(void)
{
    g_autoptr(Rig) rig = start_honest("vmms");
    guint before = descriptors_of(rig->daemon->process);

    for (gsize i = 0; i < G_N_ELEMENTS(vmms); i++) {
        misbehave(rig, &vmms[i]);
        g_assert_true(lab_wait(is_forgotten, rig, 5));
    }
    still_tiers(rig);
    g_assert_cmpuint(descriptors_of(rig->daemon->process), <=, before);
    g_assert_cmpint(rig_daemon_int(rig, "tiers.0.ledger_bytes"), ==, 16 * MIB);
    g_assert_cmpint(rig_daemon_int(rig, "moves.failed"), ==, 0);
}

/* Six that greet and say no more, more than the host has cores: rounds of the others go on. */
static void test_silence(void)
{
    g_autoptr(Rig) rig = start_honest("silence");
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    int quiet = knock(rig), fd[6];
    struct vt_err err;

    for (gsize i = 0; i < G_N_ELEMENTS(fd); i++) {
        g_autofree char *name = g_strdup_printf("silent-%u", (guint)i);

        fd[i] = knock(rig);
        make_hello(m, name);
        peer_send(fd[i], m);
    }
    for (int i = 0; i < 3; i++)
        still_tiers(rig);
    /* Who has not even greeted is shown out. */
    g_assert_cmpint(wire_recv(quiet, m, 2 * PEER_MS, &err), ==, -ECONNRESET);
    still_tiers(rig);
    for (gsize i = 0; i < G_N_ELEMENTS(fd); i++)
        close(fd[i]);
    close(quiet);
}

/* One process that takes all it can get is told why it gets no more. */
static void test_flood(void)
{
    g_autoptr(Rig) rig = start_honest("flood");
    g_autofree struct wire_msg *m = g_new0(struct wire_msg, 1);
    struct vt_err err;
    guint before = descriptors_of(rig->daemon->process), most = 0;
    static int fd[600];

    for (gsize i = 0; i < G_N_ELEMENTS(fd); i++) {
        fd[i] = knock(rig);
        most = MAX(most, descriptors_of(rig->daemon->process));
    }
    still_tiers(rig);
    g_assert_cmpint(wire_recv(fd[G_N_ELEMENTS(fd) - 1], m, PEER_MS, &err), ==, 0);
    g_assert_cmpint(m->h.type, ==, VT_REFUSE);
    says(m->text.text, "process * has 8 links already*");
    g_test_message("%u descriptors, at most %u", before, most);
    g_assert_cmpuint(most, <, before + 20);
    for (gsize i = 0; i < G_N_ELEMENTS(fd); i++)
        close(fd[i]);
    g_autoptr(Vm) other = rig_another_vm(rig, "other", (struct vm_options){ 0 });

    daemon_wait_vm_state(rig->daemon, "other", "tiering", 10);
    still_tiers(rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fake-vmm/misbehaves", test_vmms);
    g_test_add_func("/fake-vmm/silence", test_silence);
    g_test_add_func("/fake-vmm/flood", test_flood);
    return g_test_run();
}
