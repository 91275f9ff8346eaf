// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM's dirty log as QEMU and vmtier share it ("route M"): see kvmlog.h.
 *
 * KVM has one log for each memslot. A page's bit is set when the guest writes it; as long as it is set
 * the page can be written at full speed, and clearing the bit protects the page until the next write. A
 * clean bit and protection are one thing, whoever cleared it. So the log can have two readers only if
 * each is told what the other one clears: a bit that we cleared while QEMU migrates would be a page
 * that it never sends (each of 8000 pages was lost when that was tried).
 *
 * QEMU's import of ioctl() is hooked, and its calls about memslots and logs pass under `lock`:
 *
 *   memslots (KVM_SET_USER_MEMORY_REGION, ...2)    a table of them is kept: numbers and sizes change
 *            whenever the guest's firmware, hot-plug or QEMU's own logging wants it. Before a slot
 *            goes, its log is read for the last time.
 *   QEMU begins to log a slot     From that call on until QEMU ends it, nothing here clears a bit of
 *            that slot. What was cleared before are pages that are protected, and no loss: QEMU takes
 *            all of memory for written when it begins. What was written since is still in the log.
 *   QEMU clears bits (KVM_CLEAR_DIRTY_LOG)   They are what the guest has written since they were
 *            cleared last, by QEMU or by us, so they are counted: each page once.
 *   QEMU ends logging             Where we log, too, the flag stays on, and reading goes on with what
 *            is set then.
 *
 * So migration costs this source its timeliness (it hears of pages when QEMU clears them, round by
 * round) and nothing else, and migration itself proceeds as if nobody else were there.
 *
 * Switching a log on. QEMU has told KVM (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) that a log begins with all
 * bits set; those say nothing. `armed` is how far they have been cleared, and bits beyond it are not
 * reported. If QEMU ends logging that it began before us, that has to be done then.
 *
 * A pass takes a copy of a slot's log, which is one call however large the slot is, and then goes
 * through it chunk by chunk. A bit in the copy stays true until we clear it ourselves; whatever else
 * could make it stale counts up `changes`, and then the slot is begun anew. KVM's fault handlers wait
 * while bits are cleared, so a chunk is short, and a chunk without bits costs no call.
 *
 * What it costs the guest: a fault for each page that is written after it was cleared, so the caller
 * decides how many; and KVM maps memory that is logged by 4 KiB pages.
 *
 * Not to be had: a guest whose KVM writes a dirty ring has no bitmap to read (ENXIO); KVM's log knows
 * nothing of what QEMU itself writes, nor the kernel's vhost.
 */
#include "vmm/kvmlog.h"
#include "common/clock.h"
#include "common/uapi.h"
#include "vmm/got.h"
#include "vmm/qemu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE        4096u
#define CHUNK       KVMLOG_CHUNK
#define WORDS(n)    (((n) + 63) / 64)
#define LOG         KVM_MEM_LOG_DIRTY_PAGES

/* A memslot, as QEMU made it. */
struct slot {
    union {
        struct kvm_userspace_memory_region r;
        uint8_t raw[VT_KVM_REGION2_SIZE];
    };
    unsigned long request;          /* by which call */
    bool logs;                      /* KVM logs it */
    bool ours;                      /* we want that */
    struct kvmlog_area area;        /* that it lies in, if it is ours */
    uint64_t armed;                 /* pages from the first on whose bits say something */
};

static int (*real_ioctl)(int fd, unsigned long request, void *argument);
static void (*cleared_fn)(uint32_t tag, uint64_t offset);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Under `lock`, all of it. */
static int vm_fd = -1;
static struct slot *slots;
static unsigned n_slots, room;
static uint64_t changes;
static uint64_t *copy;              /* of one slot's log */
static uint64_t copy_words;
static struct {
    unsigned slot;
    uint64_t page, changes;         /* 0: the log is to be copied first */
    bool any;                       /* this pass has looked at something */
} at;
static struct kvmlog_stats stats;

/* --- memslots ----------------------------------------------------------------------------------- */

static uint64_t pages_of(const struct slot *s)
{
    return s->r.memory_size / PAGE;
}

static uint8_t *host_of(const struct slot *s)
{
    return (uint8_t *)(uintptr_t)s->r.userspace_addr;
}

static bool qemu_logs(const struct slot *s)
{
    return s->r.flags & LOG;
}

static struct slot *find(uint32_t number)
{
    for (unsigned i = 0; i < n_slots; i++)
        if (slots[i].r.slot == number)
            return &slots[i];
    return NULL;
}

static bool same_place(const struct slot *s, const struct kvm_userspace_memory_region *r)
{
    return s->r.guest_phys_addr == r->guest_phys_addr && s->r.memory_size == r->memory_size &&
           s->r.userspace_addr == r->userspace_addr;
}

/* A new entry at the end. Without memory for it the slot is not seen, and so is never logged by us. */
static struct slot *add_slot(void)
{
    if (n_slots == room) {
        struct slot *more = realloc(slots, (room + 64) * sizeof(*more));

        if (!more)
            return NULL;
        slots = more;
        room += 64;
    }
    memset(&slots[n_slots], 0, sizeof(slots[0]));
    return &slots[n_slots++];
}

/* QEMU's call has succeeded, with these flags in place of its own. */
static void note_slot(struct slot *s, unsigned long request,
                      const struct kvm_userspace_memory_region *r, uint32_t flags)
{
    bool same = s && same_place(s, r) && r->memory_size;
    bool was_logged = same && s->logs;

    changes++;
    if (s && !r->memory_size) {
        *s = slots[--n_slots];
        return;
    }
    if (!s && r->memory_size)
        s = add_slot();
    if (!s)
        return;
    memcpy(s->raw, r, _IOC_SIZE(request));
    s->request = request;
    s->logs = flags & LOG;
    s->ours &= same;
    s->armed = was_logged && s->logs ? s->armed : 0;
}

/* --- calls to KVM ------------------------------------------------------------------------------- */

/* Copies a slot's log. Negative errno. */
static int read_log(const struct slot *s)
{
    uint64_t words = WORDS(pages_of(s));
    struct kvm_dirty_log get = { .slot = s->r.slot };

    if (words > copy_words) {
        uint64_t *more = realloc(copy, words * sizeof(*copy));

        if (!more)
            return -ENOMEM;
        copy = more;
        copy_words = words;
    }
    stats.reads++;
    get.dirty_bitmap = copy;
    return real_ioctl(vm_fd, KVM_GET_DIRTY_LOG, &get) < 0 ? -errno : 0;
}

static int clear_log(const struct slot *s, uint64_t first, uint64_t n, uint64_t *bits)
{
    struct kvm_clear_dirty_log clear = {
        .slot = s->r.slot, .first_page = first, .num_pages = (uint32_t)n, .dirty_bitmap = bits,
    };

    stats.clears++;
    return real_ioctl(vm_fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0 ? -errno : 0;
}

static int switch_log(struct slot *s, bool on)
{
    uint8_t raw[VT_KVM_REGION2_SIZE];
    struct kvm_userspace_memory_region *r = (void *)raw;
    int rc;

    memcpy(raw, s->raw, sizeof(raw));
    r->flags = on ? r->flags | LOG : r->flags & ~LOG;
    rc = real_ioctl(vm_fd, s->request, r);
    if (rc < 0)
        return -errno;
    s->logs = on;
    s->armed = 0;
    changes++;
    return 0;
}

/* --- pages -------------------------------------------------------------------------------------- */

/* Calls fn for each bit of word w of the slot's log. */
static void each_page(const struct slot *s, uint64_t w, uint64_t bits, kvmlog_fn fn, void *opaque)
{
    uint64_t start = (uint64_t)(host_of(s) - s->area.host) + w * 64 * PAGE;

    for (; bits; bits &= bits - 1)
        fn(s->area.tag, start + (uint64_t)__builtin_ctzll(bits) * PAGE, opaque);
}

/* Bits beyond what is armed are none. */
static uint64_t armed_bits(const struct slot *s, uint64_t w, uint64_t bits)
{
    uint64_t left = s->armed > w * 64 ? s->armed - w * 64 : 0;

    return left >= 64 ? bits : bits & ((1ull << left) - 1);
}

static void report_cleared(uint32_t tag, uint64_t offset, void *unused)
{
    (void)unused;
    if (cleared_fn)
        cleared_fn(tag, offset);
}

/* What is in the log of a slot that is about to go. */
static void last_look(const struct slot *s)
{
    changes++;
    if (!s->logs || !s->ours || !s->armed || read_log(s))
        return;
    for (uint64_t w = 0; w < WORDS(s->armed); w++)
        each_page(s, w, armed_bits(s, w, copy[w]), report_cleared, NULL);
}

/* --- QEMU's calls ------------------------------------------------------------------------------- */

static int on_region(int fd, unsigned long request, struct kvm_userspace_memory_region *r)
{
    const uint32_t flags = r->flags;
    struct slot *s;
    int rc, code;

    pthread_mutex_lock(&lock);
    s = find(r->slot);
    if (s && !(r->memory_size && same_place(s, r)))
        last_look(s);
    else if (s && s->logs && s->ours)
        r->flags |= LOG;
    rc = real_ioctl(fd, request, r);
    code = errno;
    if (rc >= 0) {
        uint32_t passed = r->flags;

        vm_fd = fd;
        r->flags = flags;
        note_slot(s, request, r, passed);
    }
    r->flags = flags;
    pthread_mutex_unlock(&lock);
    errno = code;
    return rc;
}

/* Only words that KVM takes for whole ones: it refuses a call that does not begin on one. */
static void count_cleared(const struct kvm_clear_dirty_log *c)
{
    const struct slot *s = find(c->slot);
    const uint64_t *bits = c->dirty_bitmap;
    uint64_t n = c->num_pages;

    if (!s || !s->logs || !s->ours || c->first_page % 64 || c->first_page + n > pages_of(s))
        return;
    for (uint64_t i = 0; i < WORDS(n); i++) {
        uint64_t w = c->first_page / 64 + i, left = n - i * 64;
        uint64_t mask = left >= 64 ? UINT64_MAX : (1ull << left) - 1;

        each_page(s, w, armed_bits(s, w, bits[i] & mask), report_cleared, NULL);
    }
}

static int on_clear(int fd, unsigned long request, struct kvm_clear_dirty_log *c)
{
    int rc, code;

    pthread_mutex_lock(&lock);
    rc = real_ioctl(fd, request, c);
    code = errno;
    if (rc >= 0)
        count_cleared(c);
    pthread_mutex_unlock(&lock);
    errno = code;
    return rc;
}

/* Every ioctl of QEMU comes through here, KVM_RUN included. QEMU 7.2 sign-extends some numbers. */
static int hook_ioctl(int fd, unsigned long request, void *argument)
{
    switch ((uint32_t)request) {
    case (uint32_t)KVM_SET_USER_MEMORY_REGION:
    case VT_KVM_SET_USER_MEMORY_REGION2:
        return on_region(fd, (uint32_t)request, argument);
    case (uint32_t)KVM_CLEAR_DIRTY_LOG:
        return on_clear(fd, request, argument);
    default:
        return real_ioctl(fd, request, argument);
    }
}

int kvmlog_init(struct vt_err *err)
{
    int n = got_hook("ioctl", (void *)hook_ioctl, (void **)&real_ioctl);

    return n > 0 ? 0 : vt_fail(err, n ? -n : ENOTSUP, "cannot hook ioctl()");
}

bool kvmlog_usable(char why[VT_NAME])
{
    int can = -1;

    pthread_mutex_lock(&lock);
    if (vm_fd >= 0)
        can = real_ioctl(vm_fd, KVM_CHECK_EXTENSION,
                         (void *)(uintptr_t)KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
    pthread_mutex_unlock(&lock);
    why[0] = '\0';
    if (vm_fd < 0)
        snprintf(why, VT_NAME, "no memslots of KVM's");
    else if (qemu_dirty_ring())
        snprintf(why, VT_NAME, "KVM writes a dirty ring");
    else if (can <= 0)
        snprintf(why, VT_NAME, "this kernel cannot clear parts of a log");
    return !why[0];
}

void kvmlog_on_cleared(void (*fn)(uint32_t tag, uint64_t offset))
{
    cleared_fn = fn;
}

/* --- reading ------------------------------------------------------------------------------------ */

/* Ordinary memory that is in the area. */
static bool lies_in(const struct slot *s, const struct kvmlog_area *area)
{
    uint64_t offset = (uint64_t)(host_of(s) - area->host);

    return !(s->r.flags & ~LOG) && host_of(s) >= area->host && offset < area->length &&
           s->r.memory_size <= area->length - offset;
}

/* Makes the slot ours if it lies in an area. */
static bool claim(struct slot *s, const struct kvmlog_area *areas, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (lies_in(s, &areas[i])) {
            s->ours = true;
            s->area = areas[i];
            return true;
        }
    return false;
}

static void give_up(struct slot *s)
{
    if (s->ours && s->logs && !qemu_logs(s))
        switch_log(s, false);
    s->ours = false;
}

/* Clears the next chunk of bits that were set from the beginning. */
static int arm(struct slot *s)
{
    static uint64_t ones[CHUNK / 64];
    uint64_t n = pages_of(s) - s->armed < CHUNK ? pages_of(s) - s->armed : CHUNK;
    int rc;

    memset(ones, 0xff, sizeof(ones));
    rc = clear_log(s, s->armed, n, ones);
    if (!rc)
        s->armed += n;
    return rc;
}

/*
 * Clears [first, first + n) of a slot as far as the copy says, and reports it. The bits of the copy
 * that were taken are gone from it.
 */
static int take(struct slot *s, uint64_t first, uint64_t n, kvmlog_fn fn, void *opaque)
{
    uint64_t *bits = copy + first / 64, any = 0;
    int rc;

    for (uint64_t w = 0; w < WORDS(n); w++)
        any |= bits[w];
    if (!any)
        return 0;
    rc = clear_log(s, first, n, bits);
    for (uint64_t w = 0; !rc && w < WORDS(n); w++)
        each_page(s, first / 64 + w, bits[w], fn, opaque);
    return rc;
}

/* One chunk of a slot that is armed. */
static int look(struct slot *s, kvmlog_fn fn, void *opaque)
{
    uint64_t n;
    int rc = 0;

    if (!at.page || at.changes != changes) {
        rc = read_log(s);
        at.page = 0;
        at.changes = changes;
    }
    n = pages_of(s) - at.page < CHUNK ? pages_of(s) - at.page : CHUNK;
    if (!rc)
        rc = take(s, at.page, n, fn, opaque);
    at.page += n;
    if (rc || at.page >= pages_of(s)) {
        at.page = 0;
        at.slot++;
    }
    return rc;
}

/* Finds the next slot there is something to do for, from `at` on. NULL: none is left in this pass. */
static struct slot *next_slot(const struct kvmlog_area *areas, unsigned n)
{
    for (; at.slot < n_slots; at.slot++, at.page = 0) {
        struct slot *s = &slots[at.slot];

        if (!claim(s, areas, n))
            give_up(s);
        else if (!qemu_logs(s))
            return s;
    }
    return NULL;
}

static int step(const struct kvmlog_area *areas, unsigned n, kvmlog_fn fn, void *opaque)
{
    struct slot *s = next_slot(areas, n);
    bool any = at.any;
    int rc, did = KVMLOG_SOMETHING;

    if (!s) {
        at.slot = 0;
        at.any = false;
        stats.passes += any;
        return any ? KVMLOG_PASS : KVMLOG_NOTHING;
    }
    at.any = true;
    if (!s->logs) {
        rc = switch_log(s, true);
    } else if (s->armed < pages_of(s)) {
        rc = arm(s);
        did = KVMLOG_ARMED;
    } else {
        rc = look(s, fn, opaque);
    }
    return rc ? rc : did;
}

int kvmlog_step(const struct kvmlog_area *areas, unsigned n, kvmlog_fn fn, void *opaque)
{
    uint64_t start;
    int rc;

    pthread_mutex_lock(&lock);
    start = clock_ns(CLOCK_MONOTONIC);
    rc = step(areas, n, fn, opaque);
    start = clock_ns(CLOCK_MONOTONIC) - start;
    stats.hold_max_ns = start > stats.hold_max_ns ? start : stats.hold_max_ns;
    pthread_mutex_unlock(&lock);
    return rc;
}

/* Leaves in the copy what is in [first, end), in pages of the slot, and nothing else. */
static void cut_copy(const struct slot *s, uint64_t first, uint64_t end)
{
    for (uint64_t w = 0; w < WORDS(pages_of(s)); w++) {
        uint64_t from = w * 64, to = from + 64;

        if (from < first)
            copy[w] &= first >= to ? 0 : UINT64_MAX << (first - from);
        if (to > end)
            copy[w] &= end <= from ? 0 : UINT64_MAX >> (to - end);
    }
}

/* Where QEMU logs, what is set is reported and stays set. */
static int take_range(struct slot *s, uint64_t first, uint64_t end, kvmlog_fn fn, void *opaque)
{
    int rc = s->logs ? 0 : switch_log(s, true);

    while (!rc && !qemu_logs(s) && s->armed < pages_of(s))
        rc = arm(s);
    if (!rc)
        rc = read_log(s);
    if (rc)
        return rc;
    cut_copy(s, first, end);
    changes++;
    if (!qemu_logs(s))
        return take(s, 0, pages_of(s), fn, opaque);
    for (uint64_t w = 0; w < WORDS(pages_of(s)); w++)
        each_page(s, w, armed_bits(s, w, copy[w]), fn, opaque);
    return 0;
}

int kvmlog_take(const struct kvmlog_area *area, uint64_t offset, uint64_t length, kvmlog_fn fn,
                void *opaque)
{
    int rc = 0;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; !rc && i < n_slots; i++) {
        struct slot *s = &slots[i];
        uint64_t start, end;

        if (!claim(s, area, 1))
            continue;
        start = (uint64_t)(host_of(s) - area->host);
        end = start + s->r.memory_size;
        if (end <= offset || start >= offset + length)
            continue;
        rc = take_range(s, offset > start ? (offset - start) / PAGE : 0,
                        (end < offset + length ? end - start : offset + length - start) / PAGE, fn,
                        opaque);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

void kvmlog_stop(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < n_slots; i++)
        give_up(&slots[i]);
    pthread_mutex_unlock(&lock);
}

void kvmlog_get_stats(struct kvmlog_stats *out)
{
    pthread_mutex_lock(&lock);
    *out = stats;
    out->slots = n_slots;
    out->logged = out->shared = 0;
    for (unsigned i = 0; i < n_slots; i++) {
        out->logged += slots[i].ours && slots[i].logs;
        out->shared += slots[i].ours && slots[i].logs && qemu_logs(&slots[i]);
    }
    pthread_mutex_unlock(&lock);
}
