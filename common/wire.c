// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMM link's messages on the wire: see wire.h.
 *
 * Shapes are a table: the size of each type's body, the array behind it, how many descriptors it may
 * carry, where its strings are. A new message type is a new row.
 */
#include "common/wire.h"
#include "common/fault.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct shape {
    const char *name;
    uint16_t body;              /* bytes, header included */
    uint16_t element;           /* bytes of an array element; 0: no array */
    uint16_t count;             /* offset of the uint32_t that counts elements */
    uint16_t string, strings;   /* offset of the first string and how many follow each other ... */
    uint16_t string_size;       /* ... each so long */
    uint8_t max_fds;
};

#define BODY(n, t) .name = (n), .body = sizeof(struct t)
#define ARRAY(t, member, counter) \
    .element = sizeof(((struct t *)0)->member[0]), .count = offsetof(struct t, counter)
#define STRING(t, member, size, n) \
    .string = offsetof(struct t, member), .string_size = (size), .strings = (n)

static const struct shape shapes[] = {
    [VT_HELLO] = { BODY("HELLO", vt_hello), STRING(vt_hello, name, VT_NAME, 1 + VT_SRC_END) },
    [VT_WELCOME] = { BODY("WELCOME", vt_welcome), STRING(vt_welcome, tier, 16, VT_TIERS),
                     .max_fds = 1 },
    [VT_REFUSE] = { BODY("REFUSE", vt_text), STRING(vt_text, text, VT_TEXT, 1) },
    [VT_BLOCK] = { BODY("BLOCK", vt_block), STRING(vt_block, name, VT_NAME, 1),
                   .max_fds = VT_TIERS },
    [VT_BLOCK_GONE] = { BODY("BLOCK_GONE", vt_block_gone) },
    [VT_SLOTS] = { BODY("SLOTS", vt_slots), ARRAY(vt_slots, slot, count) },
    [VT_PLACEMENT] = { BODY("PLACEMENT", vt_placement), ARRAY(vt_placement, tier, count) },
    [VT_LAYOUT_END] = { BODY("LAYOUT_END", vt_layout_end) },
    [VT_TIER_FILE] = { BODY("TIER_FILE", vt_tier_file), .max_fds = 1 },
    [VT_READY] = { BODY("READY", vt_ready) },
    [VT_HARVEST] = { BODY("HARVEST", vt_harvest) },
    [VT_OBS] = { BODY("OBS", vt_obs_list), ARRAY(vt_obs_list, obs, count) },
    [VT_HARVEST_END] = { BODY("HARVEST_END", vt_harvest_end) },
    [VT_MOVE] = { BODY("MOVE", vt_move_list), ARRAY(vt_move_list, move, count) },
    [VT_MOVED] = { BODY("MOVED", vt_move_list), ARRAY(vt_move_list, move, count) },
    [VT_SET] = { BODY("SET", vt_set) },
    [VT_FROZEN] = { BODY("FROZEN", vt_text), STRING(vt_text, text, VT_TEXT, 1) },
    [VT_BACKING] = { BODY("BACKING", vt_backing), STRING(vt_backing, hint, VT_HINT, 1) },
};
static_assert(ARRAY_SIZE(shapes) == VT_TYPE_END, "a message type has no shape");
static_assert(offsetof(struct vt_hello, no_source) == offsetof(struct vt_hello, name) + VT_NAME,
              "strings of HELLO follow each other");

static const char *const source_names[] = { "refault", "dirty", "sample" };
static_assert(ARRAY_SIZE(source_names) == VT_SRC_END, "a source has no name");

static const char *const status_names[] = {
    "ok", "busy", "no memory", "again", "map limit", "frozen", "invalid", "error",
};
static_assert(ARRAY_SIZE(status_names) == VT_ST_END, "a status has no name");

const char *wire_type_name(unsigned type)
{
    return type < VT_TYPE_END && shapes[type].name ? shapes[type].name : "unknown";
}

const char *wire_source_name(unsigned source)
{
    return source < VT_SRC_END ? source_names[source] : "unknown";
}

const char *wire_status_name(unsigned status)
{
    return status < VT_ST_END ? status_names[status] : "unknown";
}

void wire_start(struct wire_msg *msg, enum vt_type type, uint32_t seq, size_t length)
{
    msg->h = (struct vt_hdr){
        .magic = VT_WIRE_MAGIC,
        .version = VT_WIRE_VERSION,
        .type = (uint16_t)type,
        .length = (uint32_t)length,
        .seq = seq,
    };
    msg->n_fds = 0;
}

static int check_header(const struct vt_hdr *h, size_t got, struct vt_err *err)
{
    if (got < sizeof(*h))
        return vt_fail(err, EPROTO, "message of %zu bytes is shorter than a header", got);
    if (h->magic != VT_WIRE_MAGIC)
        return vt_fail(err, EPROTO, "bad magic %#x: the peer does not speak vmtier", h->magic);
    if (h->version != VT_WIRE_VERSION)
        return vt_fail(err, EPROTO, "protocol version %u, this side speaks %u: "
                       "use the plugin and the daemon of one release", h->version, VT_WIRE_VERSION);
    if (h->type >= VT_TYPE_END || !shapes[h->type].name)
        return vt_fail(err, EPROTO, "unknown message type %u", h->type);
    if (h->length != got)
        return vt_fail(err, EPROTO, "%s says it has %u bytes but has %zu",
                       shapes[h->type].name, h->length, got);
    return 0;
}

static int check_strings(const struct wire_msg *msg, const struct shape *s, struct vt_err *err)
{
    for (unsigned i = 0; i < s->strings; i++)
        if (!memchr(msg->bytes + s->string + (size_t)i * s->string_size, 0, s->string_size))
            return vt_fail(err, EPROTO, "%s has a string without an end", s->name);
    return 0;
}

int wire_check(const struct wire_msg *msg, size_t got, struct vt_err *err)
{
    const struct shape *s;
    uint32_t count = 0;
    int rc = check_header(&msg->h, got, err);

    if (rc)
        return rc;
    s = &shapes[msg->h.type];
    if (got < s->body)
        return vt_fail(err, EPROTO, "%s of %zu bytes, its body has %u", s->name, got, s->body);
    if (s->element)
        memcpy(&count, msg->bytes + s->count, sizeof(count));
    if (got - s->body != (uint64_t)count * s->element)
        return vt_fail(err, EPROTO, "%s of %zu bytes cannot hold %u elements", s->name, got, count);
    if (msg->n_fds > s->max_fds)
        return vt_fail(err, EPROTO, "%s with %d descriptors, at most %u",
                       s->name, msg->n_fds, s->max_fds);
    return check_strings(msg, s, err);
}

/* Waits until the socket is ready for `events`: 0, -EAGAIN on time-out, -ECONNRESET. */
static int wait_for(int fd, short events, int timeout_ms, struct vt_err *err)
{
    struct pollfd p = { .fd = fd, .events = events };
    int rc;

    do
        rc = poll(&p, 1, timeout_ms);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return vt_fail(err, errno, "poll: %s", strerror(errno));
    if (rc == 0)
        return vt_fail(err, EAGAIN, "the peer is silent for %d ms", timeout_ms);
    if (!(p.revents & events))
        return vt_fail(err, ECONNRESET, "the peer has closed the link");
    return 0;
}

union fd_buffer {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS)];
};

static void attach_fds(struct msghdr *m, union fd_buffer *buf, const struct wire_msg *msg)
{
    struct cmsghdr *c;
    size_t size = sizeof(int) * (size_t)msg->n_fds;

    if (!msg->n_fds)
        return;
    memset(buf, 0, sizeof(*buf));
    m->msg_control = buf->bytes;
    m->msg_controllen = CMSG_SPACE(size);
    c = CMSG_FIRSTHDR(m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), msg->fd, size);
}

static int send_whole(int fd, const struct wire_msg *msg, int timeout_ms, struct vt_err *err)
{
    struct iovec iov = { (void *)msg->bytes, msg->h.length };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    union fd_buffer buf;
    ssize_t n;
    int rc;

    attach_fds(&m, &buf, msg);
    for (;;) {
        rc = wait_for(fd, POLLOUT, timeout_ms, err);
        if (rc)
            return rc;
        n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n == (ssize_t)iov.iov_len)
            return 0;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return vt_fail(err, errno == EPIPE ? ECONNRESET : errno, "sending %s: %s",
                           wire_type_name(msg->h.type), strerror(errno));
    }
}

/* One of the three points that a message passes. */
static int fault_at_message(unsigned family, const struct wire_msg *msg, struct vt_err *err)
{
    int rc = fault_at(family + msg->h.type % VT_TYPE_END);

    return rc ? vt_fail(err, -rc, "%s: %s", wire_type_name(msg->h.type), strerror(-rc)) : 0;
}

int wire_send(int fd, const struct wire_msg *msg, int timeout_ms, struct vt_err *err)
{
    int rc = fault_at_message(FAULT_SEND, msg, err);

    if (!rc)
        rc = send_whole(fd, msg, timeout_ms, err);
    return rc ? rc : fault_at_message(FAULT_SENT, msg, err);
}

static void collect_fds(struct msghdr *m, struct wire_msg *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            int one;

            memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (msg->n_fds < WIRE_FDS)
                msg->fd[msg->n_fds++] = one;
            else
                close(one);
        }
    }
}

int wire_recv(int fd, struct wire_msg *msg, int timeout_ms, struct vt_err *err)
{
    struct iovec iov = { msg->bytes, sizeof(msg->bytes) };
    union fd_buffer buf;
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
                        .msg_control = buf.bytes, .msg_controllen = sizeof(buf) };
    ssize_t n;
    int rc = wait_for(fd, POLLIN, timeout_ms, err);

    msg->n_fds = 0;
    if (rc)
        return rc;
    do
        n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return vt_fail(err, errno, "receiving: %s", strerror(errno));
    if (n == 0)
        return vt_fail(err, ECONNRESET, "the peer has closed the link");
    collect_fds(&m, msg);
    if (m.msg_flags & MSG_CTRUNC)
        rc = vt_fail(err, EPROTO, "a message has more than %d descriptors", WIRE_FDS);
    else if (m.msg_flags & MSG_TRUNC)
        rc = vt_fail(err, EPROTO, "a message is longer than %u bytes", VT_WIRE_MAX);
    else
        rc = wire_check(msg, (size_t)n, err);
    if (!rc)
        rc = fault_at_message(FAULT_RECEIVED, msg, err);
    if (rc)
        wire_drop_fds(msg);
    return rc;
}

int wire_take_fd(struct wire_msg *msg, int i)
{
    int fd;

    if (i < 0 || i >= msg->n_fds)
        return -1;
    fd = msg->fd[i];
    msg->fd[i] = -1;
    return fd;
}

void wire_drop_fds(struct wire_msg *msg)
{
    for (int i = 0; i < msg->n_fds; i++)
        if (msg->fd[i] >= 0)
            close(msg->fd[i]);
    msg->n_fds = 0;
}
