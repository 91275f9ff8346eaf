// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stepping aside: see letgo.h.
 *
 * Lending. A range of memory can be registered with one userfaultfd only. A background snapshot
 * write-protects RAM with one, the destination of a postcopy migration waits for missing pages with
 * one. Both register whole blocks by UFFDIO_REGISTER, and QEMU has a single import entry for ioctl(),
 * so the call is seen before the kernel does it: tiering is frozen, our registration withdrawn, and
 * then QEMU's call carried out. Blocks may consist of several mappings of several files by then; the
 * kernel registers and protects over borders of mappings, and places missing pages one by one.
 *
 * Having it back. UFFDIO_UNREGISTER is seen in the same way. A descriptor that is simply closed is
 * not: QEMU does that after asking whether RAM could be registered. So blocks that are lent are tried
 * from time to time; the kernel refuses with EBUSY while somebody else has any part of them.
 *
 * ram_lock() is held from our withdrawal to the end of QEMU's call, so that no such trial comes in
 * between, and no move is under way. A block is lent when `lent` has its number and it is not
 * `watched`; both change under ram_lock() only. Movers and the refault scan leave blocks alone that
 * are not watched.
 *
 * Freezing. The mover has one reason to be frozen, the first. If it was frozen for another reason
 * when the first hold came, it stays frozen when the last one goes.
 */
#include "vmm/letgo.h"
#include "vmm/got.h"
#include "vmm/mover.h"
#include "common/uapi.h"
#include "vmm/uffd.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int (*real_ioctl)(int fd, unsigned long request, void *argument);
static void (*changed_fn)(void), (*api_fn)(void);

static uint32_t lent[VT_BLOCKS];        /* 1 + `first` of the block that is lent, 0: none is */

static struct {
    pthread_mutex_t lock;               /* taken after ram_lock() */
    unsigned held;                      /* mask of enum letgo_why */
    char reason[LETGO_END][VT_TEXT];
    char shown[VT_TEXT];                /* the reason we gave the mover; empty: we froze nothing */
    char stay[VT_TEXT];                 /* somebody else's reason, for afterwards */
} hold = { .lock = PTHREAD_MUTEX_INITIALIZER };

void letgo_on(void (*changed)(void), void (*api)(void))
{
    changed_fn = changed;
    api_fn = api;
}

static void tell(void)
{
    if (changed_fn)
        changed_fn();
}

/* --- holds ------------------------------------------------------------------------------------ */

static const char *first_reason(void)
{
    return hold.held ? hold.reason[__builtin_ctz(hold.held)] : "";
}

/* Under hold.lock. */
static void freeze_mover(void)
{
    char was[VT_TEXT];

    if (mover_frozen(was))
        return;
    snprintf(hold.shown, sizeof(hold.shown), "%s", first_reason());
    mover_freeze(false, "%s", hold.shown);
}

/* Under hold.lock. What froze it meanwhile, or before us, is not ours to lift. */
static void thaw_mover(void)
{
    char now[VT_TEXT];

    if (hold.shown[0] && mover_frozen(now) && !strcmp(now, hold.shown)) {
        mover_thaw();
        if (hold.stay[0])
            mover_freeze(false, "%s", hold.stay);
    }
    hold.shown[0] = hold.stay[0] = '\0';
}

void letgo_hold(enum letgo_why why, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&hold.lock);
    if (!(hold.held & (1u << why))) {
        va_start(args, format);
        vsnprintf(hold.reason[why], VT_TEXT, format, args);
        va_end(args);
        if (!hold.held) {
            hold.held = 1u << why;
            freeze_mover();
        }
        hold.held |= 1u << why;
    }
    pthread_mutex_unlock(&hold.lock);
}

void letgo_release(enum letgo_why why)
{
    pthread_mutex_lock(&hold.lock);
    if (hold.held & (1u << why)) {
        hold.held &= ~(1u << why);
        if (!hold.held)
            thaw_mover();
    }
    pthread_mutex_unlock(&hold.lock);
}

bool letgo_holds(char reason[VT_TEXT])
{
    bool any;

    pthread_mutex_lock(&hold.lock);
    any = hold.held != 0;
    snprintf(reason, VT_TEXT, "%s", first_reason());
    pthread_mutex_unlock(&hold.lock);
    return any;
}

bool letgo_has(enum letgo_why why)
{
    bool has;

    pthread_mutex_lock(&hold.lock);
    has = hold.held & (1u << why);
    pthread_mutex_unlock(&hold.lock);
    return has;
}

void letgo_freeze(const char *reason)
{
    pthread_mutex_lock(&hold.lock);
    if (hold.shown[0])
        snprintf(hold.stay, sizeof(hold.stay), "%s", reason);
    else
        mover_freeze(false, "%s", reason);
    pthread_mutex_unlock(&hold.lock);
}

/* --- lending, under ram_lock() ------------------------------------------------------------------ */

static bool overlaps(const struct ram_block *b, const struct uffdio_range *r)
{
    uint64_t start = (uintptr_t)b->host;

    return b->used && r->start < start + b->length && r->start + r->len > start;
}

static void hold_for(const struct ram_block *b)
{
    letgo_hold(LETGO_LENT, "QEMU itself uses userfaultfd on block %s (background snapshot or postcopy "
               "migration): tiering goes on when that has ended", b->name);
}

void letgo_lend(struct ram_block *b)
{
    hold_for(b);
    b->watched = false;
    lent[b - ram_blocks()] = b->first + 1;
}

/* Blocks in the range that are ours are not any more. Returns a mask of them. */
static uint64_t give(const struct uffdio_range *range)
{
    uint64_t given = 0;

    static_assert(VT_BLOCKS <= 64, "a mask of blocks");
    for (unsigned i = 0; i < VT_BLOCKS; i++) {
        struct ram_block *b = &ram_blocks()[i];

        if (!overlaps(b, range) || !b->watched)
            continue;
        hold_for(b);
        if (uffd_unregister(b->host, b->length))
            continue;                   /* QEMU's own call will fail, and say so */
        letgo_lend(b);
        given |= 1ull << i;
    }
    return given;
}

static bool is_lent(unsigned i)
{
    const struct ram_block *b = &ram_blocks()[i];

    if (lent[i] && (!b->used || b->first + 1 != lent[i]))
        lent[i] = 0;                    /* it was unplugged, and another may have its place */
    return lent[i] != 0;
}

static void take_back(uint64_t which)
{
    bool left = false;

    for (unsigned i = 0; i < VT_BLOCKS; i++) {
        struct ram_block *b = &ram_blocks()[i];

        if (!is_lent(i))
            continue;
        if (which & (1ull << i) && !uffd_register(b->host, b->length)) {
            b->watched = true;
            lent[i] = 0;
        }
        left |= lent[i] != 0;
    }
    if (!left)
        letgo_release(LETGO_LENT);
}

void letgo_take_back(void)
{
    if (!letgo_has(LETGO_LENT))
        return;
    ram_lock();
    take_back(UINT64_MAX);
    ram_unlock();
}

/* --- QEMU's calls ------------------------------------------------------------------------------- */

static int on_register(int fd, unsigned long request, struct uffdio_register *r)
{
    uint64_t given;
    int rc, code;

    ram_lock();
    given = give(&r->range);
    rc = real_ioctl(fd, request, r);
    code = errno;
    if (rc)
        take_back(given);
    ram_unlock();
    if (given)
        tell();
    errno = code;
    return rc;
}

static int on_unregister(int fd, unsigned long request, struct uffdio_range *r)
{
    uint64_t which = 0;
    int rc, code;

    ram_lock();
    rc = real_ioctl(fd, request, r);
    code = errno;
    for (unsigned i = 0; i < VT_BLOCKS; i++)
        if (is_lent(i) && overlaps(&ram_blocks()[i], r))
            which |= 1ull << i;
    if (which)
        take_back(which);
    ram_unlock();
    if (which)
        tell();
    errno = code;
    return rc;
}

static int on_uffd(int fd, unsigned long request, void *argument)
{
    switch ((uint32_t)request) {
    case (uint32_t)UFFDIO_API:
        if (api_fn)
            api_fn();
        break;
    case (uint32_t)UFFDIO_REGISTER:
        return on_register(fd, request, argument);
    case (uint32_t)UFFDIO_UNREGISTER:
        return on_unregister(fd, request, argument);
    default:
        break;
    }
    return real_ioctl(fd, request, argument);
}

/* Every ioctl of QEMU comes through here, KVM_RUN included: compare and go. */
static int hook_ioctl(int fd, unsigned long request, void *argument)
{
    if (_IOC_TYPE(request) == UFFDIO && argument && !uffd_owns(fd))
        return on_uffd(fd, request, argument);
    return real_ioctl(fd, request, argument);
}

int letgo_init(struct vt_err *err)
{
    int n = got_hook("ioctl", (void *)hook_ioctl, (void **)&real_ioctl);

    if (n > 0)
        return 0;
    return vt_fail(err, n ? -n : ENOTSUP, "cannot hook ioctl(): %s; QEMU's own use of userfaultfd "
                   "could not be seen", n ? strerror(-n) : "QEMU does not import it");
}
