// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The protocol's side in the guest.
 *
 * Everything is said again: HELLO every few seconds until a WELCOME comes, and after HELLO_AGAIN without
 * a word from the host, so that a daemon that was restarted, or the one of the host that the guest was
 * migrated to, hears of us without our having to notice. A host that counts its frames from the start again is
 * noticed, and greeted at once. Frames go through one buffer: a frame is made when the one before is gone, so
 * nothing piles up when the host does not read.
 *
 * Without a WELCOME no hint is sent, and none without a credit or while the host does not listen.
 */
#include "guest-agent/agent.h"

#include "common/version.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define HELLO_EVERY 2000        /* ms, until there is an answer */
#define HELLO_MOST  30000
#define HELLO_AGAIN 20000       /* ms without a word from the host */

struct session session;

static struct vta_decoder decoder;
static struct {
    uint8_t bytes[VTA_FRAME_MAX];
    size_t at, length;
} out;
static uint32_t seq, host_seq;
static uint64_t hello_pause = HELLO_EVERY;

static bool send_frame(struct vta_frame *f, enum vta_type type, size_t length)
{
    if (out.length)
        return false;
    out.length = vta_seal(f, type, ++seq, length);
    memcpy(out.bytes, f, out.length);
    out.at = 0;
    session.frames_out++;
    return true;
}

static void say_hello(uint64_t now)
{
    struct vta_frame f = { .hello = { VTA_VERSION, VTA_VERSION_MIN, VTA_F_ALL, PAGE, 0, "" } };
    struct utsname u;

    if (uname(&u))
        u.release[0] = 0;
    text_to(f.hello.name, sizeof(f.hello.name), "vmtier-agent %s, Linux %.40s", VMTIER_VERSION,
            u.release);
    session.hello_ms = now;
    hello_pause = hello_pause * 2 < HELLO_MOST ? hello_pause * 2 : HELLO_MOST;
    send_frame(&f, VTA_HELLO, sizeof(f.hello));
}

/* The host knows nothing of us. */
static void begin_anew(void)
{
    session.reconnects += session.welcome;
    session.welcome = session.muted = false;
    session.credits = 0;
    session.hello_ms = 0;
    hello_pause = HELLO_EVERY;
}

void session_lost(void)
{
    vta_restart(&decoder);
    out.length = 0;
    begin_anew();
}

void session_tick(uint64_t now)
{
    if (!port_may_read(now))
        return;
    if (session.muted && now >= session.muted_until + HELLO_MOST)
        session.muted = session.welcome = false;        /* it forgot us */
    if (session.welcome && !session.muted && now - session.heard_ms > HELLO_AGAIN) {
        session.welcome = false;
        hello_pause = HELLO_EVERY;
    }
    if (!session.welcome && (!session.hello_ms || now - session.hello_ms >= hello_pause))
        say_hello(now);
}

/* --- in ------------------------------------------------------------------------------------- */

static void complain(const char *what, const struct vta_notice *n, uint64_t now)
{
    char text[VTA_TEXT];

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = n->text[i] && (n->text[i] < ' ' || n->text[i] > '~') ? '?' : n->text[i];
    text_to(session.notice, sizeof(session.notice), "%s: %s", what, text);
    session.notice_ms = now;
    note("the host: %s", session.notice);
}

static void take_welcome(const struct vta_welcome *w, uint64_t now)
{
    struct vta_notice n = { VTA_E_VERSION, 0, "" };

    if (w->version < VTA_VERSION_MIN || w->version > VTA_VERSION) {
        text_to(n.text, sizeof(n.text), "the host speaks version %u, the agent %u to %u", w->version,
                VTA_VERSION_MIN, VTA_VERSION);
        complain("not understood", &n, now);
        return;
    }
    session.welcome = true;
    session.muted = false;
    session.credits = 0;
    session.life_ms = w->life_ms;
    session.ranges_per_s = w->ranges_per_s;
    session.granule = w->granule;
    hello_pause = HELLO_EVERY;
    port_works();
    scan_hurry();
    rules_hurry();
}

static void take_mute(const struct vta_notice *n, uint64_t now)
{
    session.muted = true;
    session.muted_until = now + n->ms;
    session.mutes++;
    complain("muted", n, now);
    outbox_clear();
}

static void take_refused(const struct vta_refused *r, uint64_t now)
{
    struct vta_notice n = { 0, 0, "" };

    memcpy(n.text, r->text, sizeof(n.text));
    complain("refused", &n, now);
    text_to(session.refused, sizeof(session.refused), "%s", session.notice + strlen("refused: "));
}

/* Less is pinned than may be, so all is that was asked for: what was refused has been taken back. */
static void take_shares(const struct vta_shares *s, uint64_t now)
{
    session.shares = *s;
    session.shares_ms = now;
    if (s->pinned < s->pin_most)
        session.refused[0] = 0;
}

/* Another host than that of the frame before, or the same anew. */
static bool is_another(const struct vta_frame *f)
{
    bool another = session.welcome && (int32_t)(f->h.seq - host_seq) <= 0;

    host_seq = f->h.seq;
    return another;
}

static void take(const struct vta_frame *f, uint64_t now)
{
    if (is_another(f))
        begin_anew();
    session.heard_ms = now;
    session.frames_in++;
    if (!session.welcome && f->h.type != VTA_WELCOME && f->h.type != VTA_ERROR)
        session.hello_ms = 0;           /* it is there, and does not know us */
    switch (f->h.type) {
    case VTA_WELCOME:
        take_welcome(&f->welcome, now);
        break;
    case VTA_CREDIT:
        session.credits = f->credit.frames < 1024 - session.credits ? session.credits + f->credit.frames
                                                                     : 1024;
        break;
    case VTA_ASK:
        scan_hurry();
        rules_hurry();
        break;
    case VTA_SHARES:
        take_shares(&f->shares, now);
        break;
    case VTA_REFUSED:
        take_refused(&f->refused, now);
        break;
    case VTA_MUTE:
        take_mute(&f->notice, now);
        break;
    case VTA_UNMUTE:
        session.muted = false;
        scan_hurry();
        rules_hurry();
        break;
    case VTA_ERROR:
        complain("error", &f->notice, now);
        hello_pause = HELLO_MOST;
        break;
    default:
        break;
    }
}

void session_read(uint64_t now)
{
    static struct vta_frame f;
    uint8_t bytes[1024];
    ssize_t n = port_read(bytes, sizeof(bytes), now);

    for (size_t done = 0; n > 0 && done < (size_t)n;) {
        done += vta_feed(&decoder, bytes + done, (size_t)n - done);
        while (vta_next(&decoder, &f))
            take(&f, now);
    }
}

/* --- out ------------------------------------------------------------------------------------ */

bool session_wants_to_write(void)
{
    return out.length > 0;
}

void session_write(uint64_t now)
{
    while (out.length) {
        ssize_t n = write(port_fd, out.bytes + out.at, out.length - out.at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            session_lost();
            port_lost(now, "the port takes nothing any more");
            return;
        }
        out.at += (size_t)n;
        if (out.at == out.length)
            out.length = 0;
    }
}

bool session_can_send(uint64_t now)
{
    (void)now;
    return port_fd >= 0 && session.welcome && !session.muted && session.credits && !out.length;
}

void session_send_hints(struct vta_frame *f, uint64_t now)
{
    session.credits -= send_frame(f, VTA_HINTS, sizeof(f->hints) + f->hints.count *
                                                                  sizeof(struct vta_range));
    session_write(now);
}

void session_bye(void)
{
    static struct vta_frame f;

    if (port_fd < 0 || !session.welcome || out.length)
        return;
    f.notice = (struct vta_notice){ VTA_OK, 0, "the agent ends" };
    send_frame(&f, VTA_BYE, sizeof(f.notice));
    session_write(now_ms());
}
