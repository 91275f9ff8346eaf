// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The link thread: connects to the daemon, does what it asks, connects again when it is gone.
 *
 * Nothing in QEMU waits for this thread, with one exception: link_start() lets the main thread wait,
 * for a bounded time, until the first placement is done and before the guest runs. When the daemon
 * dies the message under way is finished (a move is complete or undone by then), placement stays as
 * it is, and the thread tries to connect again, ever less often, up to RETRY_MAX.
 */
#include "vmm/link.h"
#include "common/clock.h"
#include "common/fault.h"
#include "common/thread.h"
#include "vmm/announce.h"
#include "vmm/backing.h"
#include "vmm/bql.h"
#include "vmm/dirty.h"
#include "vmm/handover.h"
#include "vmm/letgo.h"
#include "vmm/memslots.h"
#include "vmm/mover.h"
#include "vmm/plugin.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"
#include "vmm/refault.h"
#include "vmm/sample.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RETRY_MIN   100         /* ms */
#define RETRY_MAX   2000
#define ANSWER      750         /* ms for a daemon to answer at all, while the guest's start waits */
#define PATIENCE    5000        /* ms for the daemon to answer while attaching */
#define RECHECK     30000       /* ms until a machine that cannot be tiered is looked at again */

static struct qemu_info info;
const struct qemu_info *const link_info = &info;

static int wakeup = -1;             /* eventfd: link_notify() */
static atomic_uint active_sources;
static bool first_answer;           /* the daemon lives; or first_done */
static bool first_done;             /* link_start() may return */
static char tier_names[VT_TIERS][16];
static struct wire_msg msg;         /* the link thread's one message buffer */

static pthread_mutex_t status_lock = PTHREAD_MUTEX_INITIALIZER;
static struct link_status status;

/* --- status ----------------------------------------------------------------------------------- */

void link_get_status(struct link_status *out)
{
    pthread_mutex_lock(&status_lock);
    *out = status;
    pthread_mutex_unlock(&status_lock);
}

static void set_status(bool connected, bool attached, const char *error)
{
    pthread_mutex_lock(&status_lock);
    status.connects += connected && !status.connected;
    status.connected = connected;
    status.attached = attached;
    snprintf(status.error, sizeof(status.error), "%s", error);
    pthread_mutex_unlock(&status_lock);
}

const char *link_tier_name(unsigned tier)
{
    return tier < VT_TIERS ? tier_names[tier] : "";
}

int link_tier_number(const char *name)
{
    for (int t = 0; t < VT_TIERS; t++)
        if (tier_names[t][0] && !strcmp(tier_names[t], name))
            return t;
    return -1;
}

uint32_t link_sources(void)
{
    return atomic_load(&active_sources);
}

void link_notify(void)
{
    uint64_t one = 1;

    if (wakeup >= 0 && write(wakeup, &one, sizeof(one)) < 0)
        return;     /* the counter is full: it is set, which is all we want */
}

/* --- events in QEMU's monitor ------------------------------------------------------------------- */

struct event {
    enum announce_about about;
    const char *name, *reason;
};

static void emit_event(void *opaque)
{
    const struct event *e = opaque;

    announce(e->about, e->name, e->reason);
}

static void tell_monitors(enum announce_about about, const char *name, const char *reason)
{
    struct event e = { about, name, reason };

    bql_call(emit_event, &e);
}

/* link_start() need not wait any longer. */
static void settle_start(void)
{
    bql_done(&first_answer);
    bql_done(&first_done);
}

/* --- connecting --------------------------------------------------------------------------------- */

static int connect_daemon(struct vt_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return vt_fail(err, errno, "socket: %s", strerror(errno));
    memcpy(a.sun_path, plugin_options.socket, sizeof(a.sun_path));
    if (fault_at(FAULT_CONNECT) || connect(fd, (struct sockaddr *)&a, sizeof(a))) {
        int code = errno;

        close(fd);
        return vt_fail(err, code, "no vmtierd at %s: %s", plugin_options.socket, strerror(code));
    }
    return fd;
}

int link_probe(struct vt_err *err)
{
    int fd = connect_daemon(err);

    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

/* --- attaching ---------------------------------------------------------------------------------- */

static int take_userfault(struct vt_err *err)
{
    int device = wire_take_fd(&msg, 0), rc;

    if (device < 0)
        return vt_fail(err, ENODEV, "the daemon has no /dev/userfaultfd to lend");
    rc = uffd_open(device, err);
    close(device);
    return rc;
}

static int take_welcome(int fd, struct vt_err *err)
{
    int rc = wire_recv(fd, &msg, PATIENCE, err);

    if (rc)
        return rc;
    bql_done(&first_answer);
    if (msg.h.type == VT_REFUSE)
        rc = vt_fail(err, ECONNREFUSED, "the daemon refuses this VM: %s", msg.text.text);
    else if (msg.h.type != VT_WELCOME)
        rc = vt_fail(err, EPROTO, "the daemon answered HELLO with %s",
                     wire_type_name(msg.h.type));
    else
        rc = take_userfault(err);
    wire_drop_fds(&msg);
    return rc;
}

/* What a source costs the guest ends with it. */
static void set_sources(uint32_t sources, uint32_t sample_period)
{
    atomic_store(&active_sources, sources);
    sample_set_period(sources & (1u << VT_SRC_SAMPLE) ? sample_period : 0);
    if (!(sources & (1u << VT_SRC_DIRTY)))
        dirty_stop();
}

static int take_terms(const struct vt_welcome *w, struct vt_err *err)
{
    uint64_t g = w->granule;

    if (g < VT_GRANULE_MIN || g > VT_GRANULE_MAX || (g & (g - 1)))
        return vt_fail(err, EPROTO, "the daemon wants granules of %llu bytes",
                       (unsigned long long)g);
    if (ram_granule() && ram_granule() != g)
        return vt_fail(err, EPROTO, "the daemon wants granules of %llu bytes, this VM has %llu",
                       (unsigned long long)g, (unsigned long long)ram_granule());
    if (!ram_granule())
        ram_set_granule(g);
    memcpy(tier_names, w->tier, sizeof(tier_names));
    set_sources(w->sources, w->sample_period);
    return 0;
}

/* What has to be looked at with the BQL: layout and devices. */
struct survey {
    struct vt_err err;
    int rc;
};

static void survey_machine(void *opaque)
{
    struct survey *s = opaque;

    (void)fault_at(FAULT_SURVEY);
    memslots_refresh();
    s->rc = memslots_usable(&s->err);
    if (s->rc)
        return;
    s->rc = memslots_check_devices(&s->err);
    if (!s->rc)
        s->rc = handover_check(&s->err);
    if (!s->rc && qemu_forbid_pinning())
        s->rc = vt_fail(&s->err, EBUSY, "a device has pinned the guest's RAM: remove it or run this "
                        "VM untiered");
    if (s->rc)
        mover_retreat();        /* from before the daemon was gone */
}

static int watch(struct ram_block *b, struct vt_err *why)
{
    int rc = fault_at(FAULT_WATCH);

    return rc ? vt_fail(why, -rc, "block %s: UFFDIO_REGISTER: %s", b->name, strerror(-rc)) :
                mover_watch(b, why);
}

/*
 * Puts all blocks under userfaultfd. One that QEMU itself has there is lent to it; one that the kernel
 * refuses is left out. Fails if none is left.
 */
static int watch_blocks(struct vt_err *err)
{
    struct vt_err why = { 0 };
    unsigned n = 0;

    ram_find_flags();
    ram_lock();
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++) {
        int rc = b->used && b->present ? watch(b, &why) : 0;

        if (rc == -EBUSY) {
            letgo_lend(b);
        } else if (rc) {
            qemu_say("%s: this block is left out and stays in dram; RAM in a memfd, on tmpfs or on "
                     "hugetlbfs can be tiered", why.text);
            memslots_leave_out(b);
        }
        n += b->used && b->present;
    }
    ram_unlock();
    if (n || !why.code)
        return 0;
    *err = why;
    return -why.code;
}

/* Keeps the link, so that the daemon can show the reason, until something may have changed. */
static void stay_refused(int fd, const struct vt_err *err)
{
    struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = wakeup, .events = POLLIN } };
    uint64_t drain;

    set_status(true, false, err->text);
    settle_start();
    if (poll(p, 2, RECHECK) > 0 && p[1].revents && read(wakeup, &drain, sizeof(drain)) < 0)
        return;
}

/*
 * What the daemon has been told. One layout at most is on its way: the daemon reads news once a round,
 * and layouts that change faster than that would fill the socket. What changed meanwhile is told when
 * the daemon has spoken again.
 */
static struct {
    uint32_t generation;
    bool unread;                /* it may not have read the last layout yet */
    bool frozen;
} told;

static int send_layout(int fd, struct vt_err *err)
{
    told.generation = ram_generation();
    told.unread = true;
    return link_send_layout(fd, err);
}

static int attach(int fd, struct vt_err *err)
{
    struct survey s = { .rc = 0 };
    int rc = link_send_hello(fd, err);

    if (!rc)
        rc = take_welcome(fd, err);
    if (!rc)
        rc = take_terms(&msg.welcome, err);
    if (rc)
        return rc;
    bql_call(survey_machine, &s);
    *err = s.err;
    rc = s.rc;
    if (!rc)
        rc = watch_blocks(err);
    if (rc) {
        if (!link_send_frozen(fd, -rc, err->text, NULL))
            stay_refused(fd, err);
        return rc;
    }
    told.frozen = false;
    return send_layout(fd, err);
}

/* --- what the daemon asks for --------------------------------------------------------------------- */

static int on_tier_file(int fd, struct wire_msg *m, struct vt_err *err)
{
    uint32_t block = m->tier_file.block, tier = m->tier_file.tier;
    int file = wire_take_fd(m, 0), rc;

    (void)fd;
    if (file < 0 || block >= VT_BLOCKS || tier == 0 || tier >= VT_TIERS) {
        close(file);
        return vt_fail(err, EPROTO, "TIER_FILE for block %u, tier %u", block, tier);
    }
    ram_lock();
    struct ram_block *b = &ram_blocks()[block];
    if (!b->used || b->file[tier] >= 0)
        rc = -EEXIST;               /* gone meanwhile, or the daemon has forgotten: not ours to lose */
    else
        rc = ram_set_file(b, tier, file, m->tier_file.offset, err);
    ram_unlock();
    if (rc)
        close(file);
    return rc == -EEXIST ? 0 : rc;
}

static int on_ready(int fd, struct wire_msg *m, struct vt_err *err)
{
    (void)m;
    set_status(true, true, "");
    settle_start();
    tell_monitors(ANNOUNCE_LINK, "X_VMTIER_ATTACHED", "");
    backing_refresh();          /* there are more files now */
    return link_send_backings(fd, err);
}

/* There is no memory for this VM on some tier, say. */
static int on_refuse(int fd, struct wire_msg *m, struct vt_err *err)
{
    vt_fail(err, ECONNREFUSED, "the daemon refuses this VM: %s", m->text.text);
    stay_refused(fd, err);
    return -ECONNREFUSED;
}

static void look_again(void *unused)
{
    (void)unused;
    if (memslots_refresh())
        link_notify();
}

/* A block that was unplugged may be deleted at any time, and its memory is to go then. */
static void look_after_absent(void)
{
    bool absent = false;

    ram_lock();
    for (struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        absent |= b->used && !b->present;
    ram_unlock();
    if (absent)
        qemu_bh(look_again, NULL);
}

static int on_harvest(int fd, struct wire_msg *m, struct vt_err *err)
{
    static uint32_t looked;

    look_after_absent();
    if (clock_ms() - looked > 1000) {
        looked = clock_ms();
        plugin_look_at_devices();
    }
    if (backing_look()) {
        int rc = link_send_backings(fd, err);

        if (rc)
            return rc;
    }
    return link_send_harvest(fd, m, err);
}

static int on_move(int fd, struct wire_msg *m, struct vt_err *err)
{
    char before[VT_TEXT], after[VT_TEXT];
    bool was = mover_frozen(before), is;
    int rc = link_send_moved(fd, m, err);

    is = mover_frozen(after);
    if (!was && is) {
        tell_monitors(ANNOUNCE_FREEZE, "X_VMTIER_FROZEN", after);
        link_notify();
    }
    return rc;
}

static int on_set(int fd, struct wire_msg *m, struct vt_err *err)
{
    (void)fd;
    (void)err;
    if (m->set.freeze)
        letgo_freeze("frozen by the daemon");
    set_sources(m->set.sources, m->set.sample_period);
    return 0;
}

static int (*const handlers[VT_TYPE_END])(int fd, struct wire_msg *m, struct vt_err *err) = {
    [VT_TIER_FILE] = on_tier_file,
    [VT_READY] = on_ready,
    [VT_REFUSE] = on_refuse,
    [VT_HARVEST] = on_harvest,
    [VT_MOVE] = on_move,
    [VT_SET] = on_set,
};

static int handle(int fd, struct vt_err *err)
{
    int rc;

    fault_refresh();
    rc = wire_recv(fd, &msg, 0, err);
    if (rc == -EAGAIN)
        return 0;
    if (rc)
        return rc;
    told.unread = false;
    if (!handlers[msg.h.type])
        rc = vt_fail(err, EPROTO, "unexpected %s", wire_type_name(msg.h.type));
    else
        rc = handlers[msg.h.type](fd, &msg, err);
    wire_drop_fds(&msg);
    return rc;
}

/* --- telling the daemon what changed ---------------------------------------------------------------- */

static int tell_layout(int fd, struct vt_err *err)
{
    int rc;

    if (told.unread || told.generation == ram_generation())
        return 0;
    rc = watch_blocks(err);
    return rc ? rc : send_layout(fd, err);
}

static int tell_frozen(int fd, struct vt_err *err)
{
    char reason[VT_TEXT];
    bool frozen = mover_frozen(reason);

    if (frozen == told.frozen)
        return 0;
    told.frozen = frozen;
    return link_send_frozen(fd, frozen ? EBUSY : 0, frozen ? reason : "", err);
}

static int serve(int fd, struct vt_err *err)
{
    struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = wakeup, .events = POLLIN } };
    uint64_t drain;
    int rc;

    for (;;) {
        rc = tell_layout(fd, err);
        if (!rc)
            rc = tell_frozen(fd, err);
        if (rc)
            return rc;
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return vt_fail(err, errno, "poll: %s", strerror(errno));
        if (p[1].revents & POLLIN && read(wakeup, &drain, sizeof(drain)) < 0)
            return vt_fail(err, errno, "eventfd: %s", strerror(errno));
        rc = p[0].revents ? handle(fd, err) : 0;
        if (rc)
            return rc;
    }
}

/* --- the thread ------------------------------------------------------------------------------------- */

/* One life of the link. Returns whether it was attached. */
static bool session(void)
{
    struct vt_err err = { 0 };
    struct link_status s;
    int fd;

    fault_refresh();
    fd = connect_daemon(&err);
    if (fd >= 0) {
        set_status(true, false, "attaching");
        if (!attach(fd, &err))
            serve(fd, &err);
        close(fd);
        dirty_stop();
        mover_give_back();
    }
    link_get_status(&s);
    set_status(false, false, err.text);
    if (s.attached)
        tell_monitors(ANNOUNCE_LINK, "X_VMTIER_DETACHED", err.text);
    else
        settle_start();      /* refused, or nobody there: the machine need not wait */
    return s.attached;
}

static void *run(void *unused)
{
    unsigned wait_ms = RETRY_MIN;
    struct link_status s;
    char said[sizeof(s.error)] = "";

    (void)unused;
    for (;;) {
        wait_ms = session() ? RETRY_MIN : wait_ms * 2 < RETRY_MAX ? wait_ms * 2 : RETRY_MAX;
        link_get_status(&s);
        if (strcmp(said, s.error)) {
            memcpy(said, s.error, sizeof(said));
            qemu_say("%s: %s; the VM goes on, trying again", plugin_options.id, s.error);
        }
        usleep(wait_ms * 1000);
    }
    return NULL;
}

int link_start(int timeout_ms, struct vt_err *err)
{
    struct link_status s;
    int rc;

    qemu_get_info(&info);
    if (plugin_options.id[0])
        memcpy(info.name, plugin_options.id, sizeof(info.name));
    if (!info.name[0])
        snprintf(info.name, sizeof(info.name), "qemu-%d", (int)getpid());
    memcpy(plugin_options.id, info.name, sizeof(plugin_options.id));
    wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wakeup < 0)
        return vt_fail(err, errno, "eventfd: %s", strerror(errno));
    rc = thread_start("vmtier", run, NULL);
    if (rc)
        return vt_fail(err, rc, "the link thread: %s", strerror(rc));
    /* One that hangs is not waited for as long as one that is at work. */
    if (bql_serve(&first_answer, plugin_options.required ? timeout_ms : ANSWER))
        bql_serve(&first_done, timeout_ms);
    ram_guest_runs();
    link_get_status(&s);
    return s.attached ? 0 : vt_fail(err, EAGAIN, "%s", s.error);
}
