// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See sharing.h.
 *
 * Once a second the arbiter (arbiter.c) says what each VM should have. That is what it is granted from
 * then on, as far as the memory is there: who has to give gives at once, by demoting at its rate; who is
 * to get is granted just what is neither granted to others nor still held by them. So the host's dram is
 * never promised twice, and a VM that dies gives back at once. One that comes gets what is free, a
 * granule if nothing is, and its guarantee as fast as the others can give.
 *
 * What a VM holds without the arbiter's leave (its mode is off or observe, it is frozen, it cannot be
 * tiered) is taken off the pool.
 *
 * `granted`, min and weight are settings (struct vm_settings) like others: under vm->lock.
 */
#include "host/sharing.h"
#include "host/daemon.h"
#include "host/error.h"

#include <errno.h>

#define PERIOD_S 1
#define CURVE_ROUNDS 4          /* rounds between two curves */

/* --- shares ------------------------------------------------------------------------------------------- */

/* A VM and what the arbiter needs of it. */
struct party {
    struct vm *vm;
    guint64 held, granted;      /* bytes of dram in use; granted now, 0: nothing yet */
    struct curve curve;
};

struct parties {
    GArray *share;              /* of struct share */
    GArray *party;              /* of struct party, in the same order */
    guint64 pool;               /* of the arbiter's: what others hold is off already */
};

static void parties_clear(struct parties *p)
{
    g_clear_pointer(&p->share, g_array_unref);
    g_clear_pointer(&p->party, g_array_unref);
}

typedef struct parties Parties;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Parties, parties_clear)

bool sharing_takes_part(const struct vm *vm)
{
    return vm->want.mode == VM_ON &&
           (vm->shown.state == VM_TIERING || vm->shown.state == VM_ATTACHING);
}

/* Under vm->lock, as all that looks at settings. */
static void take_in(struct parties *p, struct vm *vm)
{
    const struct vm_stats *now = &vm->shown;
    guint64 ram = now->ram_bytes, held = MAX(now->file_bytes[0], now->ledger_bytes[0]);
    struct party party = { .vm = vm, .held = held, .granted = vm->want.granted,
                           .curve = vm->curve };
    struct share s = {
        .min = vm_guarantee(vm, &vm->want, ram), .max = vm_limit(vm, &vm->want, ram),
        .weight = vm->want.weight, .granule = vm->config.granule, .quota = vm->want.granted,
        .turn = vm->turn, .turned = vm->turned,
    };

    if (!sharing_takes_part(vm)) {
        p->pool -= MIN(p->pool, held);
        return;
    }
    if (!ram)                   /* still attaching */
        s.min = s.max = s.quota;
    g_array_append_val(p->share, s);
    g_array_append_val(p->party, party);
}

static void take_in_all(struct parties *p, struct daemon *d)
{
    p->share = g_array_new(FALSE, FALSE, sizeof(struct share));
    p->party = g_array_new(FALSE, FALSE, sizeof(struct party));
    p->pool = d->pool;
    for (guint i = 0; i < d->vms->len; i++) {
        struct vm *vm = g_ptr_array_index(d->vms, i);

        g_mutex_lock(&vm->lock);
        take_in(p, vm);
        g_mutex_unlock(&vm->lock);
    }
    for (guint i = 0; i < p->party->len; i++)   /* now that the array stays where it is */
        g_array_index(p->share, struct share, i).curve =
            &g_array_index(p->party, struct party, i).curve;
}

static struct share *share_of(const struct parties *p, guint i)
{
    return &g_array_index(p->share, struct share, i);
}

static struct party *party_of(const struct parties *p, guint i)
{
    return &g_array_index(p->party, struct party, i);
}

/* --- granting ----------------------------------------------------------------------------------------- */

/* What is neither granted to anyone nor held by anyone, once those that lose have lost. */
static guint64 free_bytes(const struct parties *p)
{
    guint64 taken = 0;

    for (guint i = 0; i < p->party->len; i++) {
        struct party *v = party_of(p, i);
        guint64 granted = MIN(v->granted, share_of(p, i)->quota);

        taken += MAX(granted, v->held);
    }
    return taken < p->pool ? p->pool - taken : 0;
}

static void grant(struct parties *p)
{
    guint64 left = free_bytes(p);

    for (guint i = 0; i < p->party->len; i++) {
        struct share *s = share_of(p, i);
        struct party *v = party_of(p, i);
        guint64 more = s->quota > v->granted ? MIN(s->quota - v->granted, left) : 0;
        guint64 now = s->quota > v->granted ? v->granted + more : s->quota;

        left -= more;
        g_mutex_lock(&v->vm->lock);
        v->vm->want.granted = MAX(now, s->granule);
        v->vm->turn = s->turn;
        v->vm->turned = s->turned;
        g_mutex_unlock(&v->vm->lock);
    }
}

static gboolean divide(gpointer data)
{
    struct daemon *d = data;
    g_auto(Parties) p = { 0 };

    if (g_atomic_int_get(&d->stopping))
        return G_SOURCE_REMOVE;
    take_in_all(&p, d);
    if (p.share->len)
        arbiter_divide(d->config->host.arbiter, (struct share *)(void *)p.share->data,
                       p.share->len, p.pool, d->config->host.rate * PERIOD_S);
    grant(&p);
    return G_SOURCE_CONTINUE;
}

void sharing_welcome(struct daemon *d, struct vm *vm)
{
    g_auto(Parties) p = { 0 };

    if (!d->pool)
        return;
    take_in_all(&p, d);
    vm->want.granted = MAX(free_bytes(&p), vm->config.granule);
    vm->now = vm->want;
}

void sharing_note_curve(struct vm *vm)
{
    struct curve c;

    if (!vm->daemon->pool || vm->stats.rounds % CURVE_ROUNDS)
        return;
    curve_clear(&c);
    /* Without hints: a guest that says all is hot would have the others' dram. */
    for (guint32 g = 0; g < vm->ledger.n; g++)
        if (vm->ledger.tier[g] != LEDGER_NONE)
            curve_add(&c, vm->config.granule, heat_rate_lately(&vm->heat, g).rate);
    g_mutex_lock(&vm->lock);
    vm->curve = c;
    g_mutex_unlock(&vm->lock);
}

bool sharing_start(struct daemon *d, GError **error)
{
    const struct host_config *h = &d->config->host;
    guint64 all = h->reserve ? tier_memory(&d->tiers->tier[0]) : 0;

    if (h->arbiter == ARBITER_OFF || (!h->dram && !h->reserve))
        return true;
    if (!h->dram && all <= h->reserve) {
        g_set_error(error, VMT_ERROR, EINVAL, "[host] reserve=%" G_GUINT64_FORMAT ": the nodes of dram have %"
                    G_GUINT64_FORMAT " bytes", h->reserve, all);
        return false;
    }
    d->pool = h->dram ? h->dram : all - h->reserve;
    g_timeout_add_seconds(PERIOD_S, divide, d);
    return true;
}

/* --- views ------------------------------------------------------------------------------------------------ */

JsonObject *view_quota(const struct vm *vm, const struct vm_settings *want, guint64 ram)
{
    JsonObject *o = json_object_new();

    json_object_set_int_member(o, "max_bytes", (gint64)vm_limit(vm, want, ram));
    json_object_set_boolean_member(o, "default", !want->quota_bytes);
    json_object_set_int_member(o, "min_bytes", (gint64)vm_guarantee(vm, want, ram));
    json_object_set_int_member(o, "weight", want->weight);
    json_object_set_int_member(o, "now_bytes", (gint64)vm_quota(vm, want, ram));
    return o;
}

JsonObject *view_sharing(struct daemon *d)
{
    g_auto(Parties) p = { 0 };
    JsonObject *o = json_object_new();
    guint64 guaranteed = 0, held = 0;

    take_in_all(&p, d);
    for (guint i = 0; i < p.share->len; i++) {
        guaranteed += share_of(&p, i)->min;
        held += party_of(&p, i)->held;
    }
    json_object_set_string_member(o, "mode", arbiter_mode_name(d->pool ? d->config->host.arbiter
                                                               : ARBITER_OFF));
    json_object_set_int_member(o, "pool_bytes", (gint64)d->pool);
    json_object_set_int_member(o, "guaranteed_bytes", (gint64)guaranteed);
    json_object_set_int_member(o, "others_bytes", (gint64)(d->pool - p.pool));
    json_object_set_int_member(o, "held_bytes", (gint64)held);
    json_object_set_int_member(o, "free_bytes", d->pool ? (gint64)free_bytes(&p) : 0);
    return o;
}
