// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Source "agent": what a guest's agent says of its memory (vmtier/agent.h). Every word of it is a hint from
 * a stranger.
 *
 * How it works. In each round what has come is read, up to READ_MOST, and decoded; ranges go into a table
 * by granule (agent-table.c). Once a second each granule is judged: hot ones give heat its hints, as so many
 * accesses of a granule that is as hot as the VM's hot ones are (agent-heat.c); free, cold and pinned ones
 * become wishes (policy/wish.h), which placement respects. Back to the guest go credits, one for each frame,
 * and from time to time how much of it is in which tier.
 *
 * What a hint can do at worst. It changes which of the VM's own granules have the VM's dram; quota and rate
 * are not its business. Pins are taken up to PIN_SHARE of the quota, in the order of addresses, so that
 * whoever says the same keeps the same; the rest is refused, with the reason told to the guest.
 *
 * Why no hint takes memory away. A page that the guest has told is free may be in use by the time we hear
 * of it, and the guest does not wait for us. So VTA_FREE never makes a hole: it decides who leaves dram
 * first, and the mover copies what is there. An agent in user space could hold pages back while the host
 * punches them (allocate, tell, wait, free), but a page that is only allocated, even locked, is migrated by
 * the guest's kernel without a word, and if we die between our order and the answer nobody can say whether
 * the punch is still to come. The guest's kernel can hold pages: free page reporting takes them off its free
 * lists, QEMU punches them at once, wherever they are (vmm/discard.c), and only then they are free again. It
 * needs -device virtio-balloon-pci,free-page-reporting=on. What was punched is a hole, and the mover moves
 * holes without reading or writing anything. Hints and reporting together are what makes a guest's free
 * memory leave dram first and for nothing.
 *
 * Limits. READ_MOST bytes a round, and WORK granules a round, bound our time whatever comes; what is not
 * read stays in the guest's own queue. A guest that goes beyond what WELCOME allowed, sends garbage, replays
 * or ranges that are not RAM commits offences; too many in a second, and the port is muted: everything it
 * said is forgotten, and nothing is read for a while, twice as long each time, until it has behaved for
 * FORGIVE_S. Credits outlast that, as the frames that they were for are still on their way.
 */
#include "host/source/source.h"
#include "host/source/agent-heat.h"
#include "host/source/agent-link.h"
#include "host/source/agent-table.h"
#include "common/agent-ranges.h"
#include "host/daemon.h"

#include <string.h>

#define READ_MOST   (32u << 10) /* bytes in a round */
#define CREDITS     8           /* frames on their way */
#define RANGES_PER_S 20000
#define LIFE_S      120         /* of a hint */
#define PIN_SHARE   0.5         /* of the quota */
#define SHARES_S    5.0         /* between two SHARES */
#define JUDGE_S     1.0
#define JUDGE_SOON  0.2         /* once after that, if something new was said */
#define MUTE_FIRST  5.0
#define MUTE_MOST   320.0
#define FORGIVE_S   600.0

/*
 * Offences, and how many of them in a second are too many. A block that is left out of tiering is RAM for the
 * guest, and an honest agent says as much of it as of the rest, up to half of the rate.
 */
enum offence { OFF_GARBAGE, OFF_REPLAY, OFF_OUTSIDE, OFF_RATE, OFF_CREDIT, OFF_HELLO, OFF_END };
static const struct {
    guint32 most;
    guint32 code;
    const char *text;
} offences[] = {
    [OFF_GARBAGE] = { 8192, VTA_E_GARBAGE, "too much that is no frame" },
    [OFF_REPLAY] = { 16, VTA_E_GARBAGE, "too many frames that were sent before" },
    [OFF_OUTSIDE] = { RANGES_PER_S / 2, VTA_E_RANGES, "too many ranges that are not RAM" },
    [OFF_RATE] = { RANGES_PER_S, VTA_E_RATE, "too many ranges" },
    [OFF_CREDIT] = { 4, VTA_E_RATE, "frames without a credit" },
    [OFF_HELLO] = { 4, VTA_E_HELLO, "too many greetings" },
};
static_assert(G_N_ELEMENTS(offences) == OFF_END, "an offence has no limit");

struct agent {
    struct agent_link link;
    struct agent_table table;
    struct agent_stats *stats;  /* the VM's */
    guint32 offence[OFF_END];
    double offence_s;           /* the second they are counted of began */
    double muted_until, mute_s, muted_since, good_since;
    guint32 peer_seq;
    guint32 credits;            /* the peer has */
    guint32 work;               /* granules that may still be touched in this round */
    double judged_s, shares_s;
    bool news, was_soon;        /* hints have come since; the last judgement did not wait */
    guint64 was_quota, refused;
    struct agent_heat heat;
    GBytes *slots;              /* the memslots as of which all this is */
};

/* --- to the guest ----------------------------------------------------------------------------------- */

static bool both_know(const struct agent *a, guint32 feature)
{
    return a->stats->hello && (a->stats->features & feature);
}

static void tell(struct agent *a, enum vta_type type, struct vta_frame *f, gsize length)
{
    if (a->link.fd >= 0)
        (void)agent_link_send(&a->link, f, type, length);   /* what finds no room is said again later */
}

static void tell_notice(struct agent *a, enum vta_type type, guint32 code, double seconds,
                        const char *text)
{
    struct vta_frame f = { .notice = { code, (guint32)(seconds * 1000), "" } };

    g_strlcpy(f.notice.text, text, sizeof(f.notice.text));
    tell(a, type, &f, sizeof(f.notice));
}

/* Of one that we do not know, so that it says hello: it skips what it does not know. */
static void ask_for_report(struct agent *a)
{
    struct vta_frame f = { .ask = { (1u << VTA_KIND_END) - 2, 0 } };

    if (!a->stats->hello || both_know(a, VTA_F_ASK))
        tell(a, VTA_ASK, &f, sizeof(f.ask));
}

static void tell_shares(struct vm *vm, struct agent *a)
{
    struct vta_frame f = { 0 };
    struct vta_shares *s = &f.shares;

    s->tiers = MIN(vm->daemon->tiers->n, VTA_TIERS);
    s->hit_permille = vm->stats.hit_ratio >= 0 ? (gint32)(vm->stats.hit_ratio * 1000) : -1;
    s->ram = vm->stats.ram_bytes;
    s->quota = vm_quota(vm, &vm->now, vm->stats.ram_bytes);
    s->pinned = a->stats->pinned_bytes;
    s->pin_most = a->stats->pin_most_bytes;
    for (guint32 t = 0; t < s->tiers; t++) {
        g_strlcpy(s->tier[t].name, vm->daemon->tiers->tier[t].name, VTA_NAME);
        s->tier[t].bytes = vm->stats.ledger_bytes[t];
    }
    tell(a, VTA_SHARES, &f, sizeof(f.shares));
}

static void give_credits(struct agent *a)
{
    struct vta_frame f = { .credit = { CREDITS - MIN(a->credits, CREDITS), 0 } };

    if (!a->stats->hello || f.credit.frames < CREDITS / 2)
        return;
    a->credits += f.credit.frames;
    tell(a, VTA_CREDIT, &f, sizeof(f.credit));
}

/* --- offences and muting ---------------------------------------------------------------------------- */

static void forget_all(struct vm *vm, struct agent *a)
{
    agent_table_clear(&a->table);
    agent_heat_forget(&a->heat);
    for (guint32 g = 0; g < vm->wishes.n; g++)
        wish_set(&vm->wishes, g, WISH_NONE);
}

static void mute(struct vm *vm, struct agent *a, enum offence which)
{
    a->mute_s = CLAMP(2 * a->mute_s, MUTE_FIRST, MUTE_MOST);
    a->muted_until = vm->clock + a->mute_s;
    a->muted_since = vm->clock;
    a->stats->muted = true;
    a->stats->mutes++;
    g_strlcpy(a->stats->reason, offences[which].text, sizeof(a->stats->reason));
    forget_all(vm, a);
    tell_notice(a, VTA_MUTE, offences[which].code, a->mute_s, offences[which].text);
    vm_event(vm, "VMTIER_AGENT_MUTED", offences[which].text);
}

static void unmute(struct vm *vm, struct agent *a)
{
    a->stats->muted = false;
    a->stats->muted_s += vm->clock - a->muted_since;
    a->good_since = vm->clock;
    memset(a->offence, 0, sizeof(a->offence));
    tell_notice(a, VTA_UNMUTE, VTA_OK, 0, "");
}

static void offend(struct agent *a, enum offence which, guint32 times)
{
    a->offence[which] += MIN(times, G_MAXUINT32 / 2 - a->offence[which]);
}

static void judge_offences(struct vm *vm, struct agent *a)
{
    for (int i = 0; i < OFF_END && !a->stats->muted; i++)
        if (a->offence[i] > offences[i].most)
            mute(vm, a, (enum offence)i);
    if (vm->clock - a->offence_s >= 1) {
        memset(a->offence, 0, sizeof(a->offence));
        a->offence_s = vm->clock;
    }
    if (!a->stats->muted && a->mute_s > 0 && vm->clock - a->good_since > FORGIVE_S)
        a->mute_s = 0;
}

/* --- from the guest --------------------------------------------------------------------------------- */

static void take_hello(struct vm *vm, struct agent *a, const struct vta_frame *f)
{
    const struct vta_hello *h = &f->hello;
    struct vta_frame w = { .welcome = {
        .version = MIN(h->version, VTA_VERSION), .features = h->features & VTA_F_ALL,
        .granule = vm->config.granule, .life_ms = LIFE_S * 1000, .ranges_per_s = RANGES_PER_S,
    } };

    a->peer_seq = f->h.seq;
    a->stats->version = h->version;
    a->stats->features = h->features & VTA_F_ALL;
    vm_clean_text(a->stats->name, h->name, sizeof(a->stats->name));
    if (h->version < VTA_VERSION_MIN || h->version_min > VTA_VERSION) {
        g_snprintf(a->stats->reason, sizeof(a->stats->reason), "the agent speaks versions %d to %d, "
                   "vmtierd %d to %d", h->version_min, h->version, VTA_VERSION_MIN, VTA_VERSION);
        tell_notice(a, VTA_ERROR, VTA_E_VERSION, 0, "no version that host and agent both know");
        a->stats->hello = false;
        return;
    }
    a->stats->hello = true;
    a->credits = 0;
    a->link.wait_s = 0;                 /* the channel works */
    tell(a, VTA_WELCOME, &w, sizeof(w.welcome));
    a->shares_s = 0;
}

/* The part of a range that lies in a memslot. */
static void say_in_slot(struct vm *vm, struct agent *a, const struct vt_slot *s,
                        const struct vta_range *r, guint32 report)
{
    guint64 granule = vm->config.granule, at, end;
    const struct vm_block *b = s->block < VT_BLOCKS ? &vm->block[s->block] : NULL;

    if (!b || !b->present)
        return;
    at = s->offset + (MAX(r->gpa, s->gpa) - s->gpa);
    end = MIN(s->offset + (MIN(r->gpa + r->length, s->gpa + s->length) - s->gpa), b->length);
    while (at < end && a->work) {
        guint64 next = MIN((at / granule + 1) * granule, end);
        guint32 g = b->first + (guint32)(at / granule);

        if (g < a->table.n)
            agent_table_say(&a->table, g, r, next - at, report, (guint32)vm->clock);
        a->work--;
        at = next;
    }
}

static void say_range(struct vm *vm, struct agent *a, const struct vta_range *r, guint32 report)
{
    guint64 inside = 0;

    for (guint32 i = 0; i < vm->stats.n_slots; i++) {
        const struct vt_slot *s = &vm->stats.slot[i];

        if (r->gpa + r->length <= s->gpa || r->gpa >= s->gpa + s->length)
            continue;
        inside += MIN(r->gpa + r->length, s->gpa + s->length) - MAX(r->gpa, s->gpa);
        say_in_slot(vm, a, s, r, report);
    }
    if (!inside) {
        a->stats->outside_ranges++;
        offend(a, OFF_OUTSIDE, 1);
    }
    if (!a->work)
        a->stats->dropped_ranges++;
}

static void take_hints(struct vm *vm, struct agent *a, struct vta_frame *f)
{
    guint32 sent = f->hints.count, n;

    if (!a->stats->hello)
        return;
    if (!a->credits)
        offend(a, OFF_CREDIT, 1);
    else
        a->credits--;
    offend(a, OFF_RATE, sent);
    n = (guint32)vta_ranges_merge(f->hints.range, sent);
    for (guint32 i = 0; i < n; i++)
        if (f->hints.range[i].kind != VTA_PIN || both_know(a, VTA_F_PIN))
            say_range(vm, a, &f->hints.range[i], f->hints.report);
    a->stats->ranges += sent;
    a->news |= sent > 0;
    source_count(vm, SRC_AGENT, sent, 0, 0);
}

static void take_frame(struct vm *vm, struct agent *a, struct vta_frame *f)
{
    a->stats->frames++;
    if (f->h.type == VTA_HELLO) {
        offend(a, OFF_HELLO, 1);
        take_hello(vm, a, f);
        return;
    }
    if (!a->stats->hello) {
        ask_for_report(a);              /* it was greeted by somebody else: it is to say hello */
        return;
    }
    if ((gint32)(f->h.seq - a->peer_seq) <= 0) {
        a->stats->replayed_frames++;
        offend(a, OFF_REPLAY, 1);
        return;
    }
    a->peer_seq = f->h.seq;
    if (f->h.type == VTA_HINTS)
        take_hints(vm, a, f);
    else if (f->h.type == VTA_BYE) {
        a->stats->hello = false;
        forget_all(vm, a);
    }
}

static void count_garbage(struct agent *a)
{
    const struct vta_decoder *in = &a->link.in;
    guint64 was = a->stats->garbage_bytes + a->stats->bad_frames * 256;

    a->stats->garbage_bytes = in->garbage;
    a->stats->bad_frames = in->bad;
    a->stats->unknown_frames = in->unknown;
    offend(a, OFF_GARBAGE, (guint32)MIN(in->garbage + in->bad * 256 - was, G_MAXUINT32 / 2));
}

static void lose(struct vm *vm, struct agent *a)
{
    agent_link_close(&a->link, vm->clock);
    a->stats->connected = a->stats->hello = false;
    a->credits = 0;
}

static void read_some(struct vm *vm, struct agent *a)
{
    static _Thread_local struct vta_frame f;
    guint8 bytes[4096];
    gsize left = READ_MOST;
    gssize n = 0;

    a->work = 2 * MIN(vm->ledger.n, 1u << 17) + 4096;
    while (left && !a->stats->muted && (n = agent_link_read(&a->link, bytes, MIN(left, sizeof(bytes)))) > 0) {
        left -= (gsize)n;
        a->stats->bytes += (guint64)n;
        for (gsize done = 0; done < (gsize)n;) {
            done += vta_feed(&a->link.in, bytes + done, (gsize)n - done);
            while (vta_next(&a->link.in, &f))
                take_frame(vm, a, &f);
        }
        count_garbage(a);
        judge_offences(vm, a);
    }
    /* What it had credits for would all be read by now. */
    if (n >= 0 && agent_link_waiting(&a->link) > 2 * CREDITS * VTA_FRAME_MAX)
        offend(a, OFF_CREDIT, offences[OFF_CREDIT].most + 1);
    judge_offences(vm, a);
    if (n < 0)
        lose(vm, a);
}

/* --- what it comes to ------------------------------------------------------------------------------- */

static void tell_refused(struct vm *vm, struct agent *a, guint64 asked)
{
    struct vta_frame f = { .refused = { asked, a->stats->pin_most_bytes, "" } };

    if (asked <= a->stats->pin_most_bytes) {
        a->refused = 0;
        return;
    }
    if (asked == a->refused)
        return;                         /* it was told */
    a->refused = asked;
    g_snprintf(f.refused.text, sizeof(f.refused.text), "pins of %" G_GUINT64_FORMAT " MiB: %"
               G_GUINT64_FORMAT " MiB may be, half of the DRAM quota", asked >> 20,
               a->stats->pin_most_bytes >> 20);
    tell(a, VTA_REFUSED, &f, sizeof(f.refused));
    vm_event(vm, "VMTIER_AGENT_REFUSED", f.refused.text);
}

static void judge_all(struct vm *vm, struct agent *a)
{
    static const enum wish wish_for[VTA_KIND_END] = {
        [VTA_FREE] = WISH_EMPTY, [VTA_COLD] = WISH_COLD, [VTA_PIN] = WISH_KEEP,
    };
    guint64 granule = vm->config.granule, bytes[VTA_KIND_END] = { 0 }, dram[VTA_KIND_END] = { 0 };
    guint64 most = (guint64)(PIN_SHARE * (double)vm_quota_granules(vm)) * granule;

    a->stats->pin_most_bytes = most;
    for (guint32 g = 0; g < a->table.n; g++) {
        struct agent_verdict v = agent_table_judge(&a->table, g, (guint32)vm->clock);

        bytes[v.kind] += granule;
        if (v.kind == VTA_PIN && bytes[VTA_PIN] > most)
            v.kind = VTA_NONE;
        if (vm->ledger.tier[g] == 0)
            dram[v.kind] += granule;
        if (wish_of(&vm->wishes, g) != wish_for[v.kind])
            wish_set(&vm->wishes, g, wish_for[v.kind]);
        a->heat.said[g] = v.kind == VTA_HOT ? (float)v.heat : 0;
    }
    a->stats->free_bytes = bytes[VTA_FREE];
    a->stats->cold_bytes = bytes[VTA_COLD];
    a->stats->hot_bytes = bytes[VTA_HOT];
    a->stats->free_dram_bytes = dram[VTA_FREE];
    a->stats->pinned_dram_bytes = dram[VTA_PIN];
    a->stats->pinned_bytes = MIN(bytes[VTA_PIN], most);
    a->stats->pin_refused_bytes = bytes[VTA_PIN] - a->stats->pinned_bytes;
    tell_refused(vm, a, bytes[VTA_PIN]);
}

static void make_room(struct vm *vm, struct agent *a)
{
    guint32 n = vm->ledger.n;

    agent_table_resize(&a->table, n);
    agent_heat_resize(&a->heat, n);
    wishes_resize(&vm->wishes, n);
}

static void judge(struct vm *vm, struct agent *a)
{
    double seconds = vm->clock - a->judged_s;
    guint64 quota = vm_quota(vm, &vm->now, vm->stats.ram_bytes);

    if (seconds < (a->news && !a->was_soon ? JUDGE_SOON : JUDGE_S))
        return;
    a->was_soon = seconds < JUDGE_S;
    a->news = false;
    a->judged_s = vm->clock;
    judge_all(vm, a);
    agent_heat_tell(&a->heat, vm, seconds);
    if (quota != a->was_quota && a->stats->hello)
        ask_for_report(a);
    a->was_quota = quota;
    if (both_know(a, VTA_F_SHARES) && vm->clock - a->shares_s >= SHARES_S) {
        a->shares_s = vm->clock;
        tell_shares(vm, a);
    }
}

/* --- the source ------------------------------------------------------------------------------------- */

static bool available(const struct vm *vm, char *reason)
{
    g_autofree char *path = agent_find_channel(vm->config.agent, vm->name, vm->uuid, reason, VT_TEXT);

    return path != NULL;
}

static int start(struct vm *vm, struct vt_err *err)
{
    struct agent *a = g_new0(struct agent, 1);

    (void)err;
    a->link.fd = -1;
    a->stats = &vm->stats.agent;
    a->table.granule = vm->config.granule;
    a->table.life_s = LIFE_S;
    vm->source_state[SRC_AGENT] = a;
    return 0;
}

static void stop(struct vm *vm)
{
    struct agent *a = vm->source_state[SRC_AGENT];

    vm->source_state[SRC_AGENT] = NULL;
    if (a->link.fd >= 0)
        agent_link_close(&a->link, 0);
    agent_table_free(&a->table);
    g_clear_pointer(&a->slots, g_bytes_unref);
    agent_heat_free(&a->heat);
    g_free(a);
    wishes_clear(&vm->wishes);
    vm->stats.agent.connected = vm->stats.agent.hello = false;
}

static void connect_if_not(struct vm *vm, struct agent *a)
{
    char reason[VT_TEXT] = "";
    g_autofree char *path = NULL;

    if (a->link.fd >= 0 || vm->clock < a->link.next_s)
        return;
    path = agent_find_channel(vm->config.agent, vm->name, vm->uuid, reason, sizeof(reason));
    if (path && agent_link_connect(&a->link, path, vm->pid, vm->clock, reason, sizeof(reason))) {
        a->stats->connected = true;
        vm_clean_text(a->stats->channel, path, sizeof(a->stats->channel));
        ask_for_report(a);              /* an agent that was there before us greets at once */
        return;
    }
    if (!path)
        agent_link_close(&a->link, vm->clock);
    vm_clean_text(a->stats->channel, reason, sizeof(a->stats->channel));
}

static int harvest(struct vm *vm, guint32 budget_us, struct vt_err *err)
{
    struct agent *a = vm->source_state[SRC_AGENT];

    (void)budget_us;
    (void)err;
    make_room(vm, a);
    connect_if_not(vm, a);
    if (a->stats->muted && vm->clock >= a->muted_until)
        unmute(vm, a);
    if (a->link.fd >= 0 && !a->stats->muted)
        read_some(vm, a);
    if (!a->stats->muted)
        give_credits(a);
    judge(vm, a);
    if (a->link.fd >= 0 && !agent_link_flush(&a->link))
        lose(vm, a);
    return 0;
}

/* What was said of granules that are other memory now is worth nothing. We are also called when granules
 * have only moved, which a guest does not see. */
static void layout_changed(struct vm *vm)
{
    struct agent *a = vm->source_state[SRC_AGENT];
    GBytes *slots = g_bytes_new(vm->stats.slot, vm->stats.n_slots * sizeof(vm->stats.slot[0]));
    bool same = a->slots && g_bytes_equal(slots, a->slots);

    g_clear_pointer(&a->slots, g_bytes_unref);
    a->slots = slots;
    make_room(vm, a);
    if (same)
        return;
    forget_all(vm, a);
    ask_for_report(a);
}

static guint64 resolution(const struct vm *vm)
{
    return vm->config.granule;
}

/* Hints add to what others observe; by themselves they place nothing but what is to be kept. */
static bool drives(const struct vm *vm)
{
    (void)vm;
    return false;
}

const struct source source_agent = {
    .name = "agent",
    .summary = "what an agent in the guest says of its memory",
    .unit = "ranges",
    .enable = "vmtier-agent in the guest, and a channel to it: vmtier-agent(8)",
    .id = SRC_AGENT,
    .kind = HEAT_HINTS,
    .resolution = resolution,
    .available = available,
    .start = start,
    .stop = stop,
    .harvest = harvest,
    .layout_changed = layout_changed,
    .drives = drives,
};
