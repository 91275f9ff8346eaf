// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM as the daemon knows it.
 *
 * Who may touch what. A VM's round runs on one worker thread at a time, and everything in struct vm
 * belongs to that thread, except
 *   - `want`, `order`, `recorder`, `shown`, the blocks and the array pointers, which `lock` guards: the
 *     control side reads `shown` (a copy made at the end of each round) and writes `want` (taken over at
 *     the start of the next); blocks and arrays change only when QEMU tells its layout;
 *   - `busy`, `gone` and `leaving`, which are atomic.
 * The arrays' elements may be read under `lock` at any time.
 */
#ifndef VMTIER_VM_H
#define VMTIER_VM_H

#include "common/wire.h"
#include "host/arbiter.h"
#include "host/config.h"
#include "host/history.h"
#include "host/pace.h"
#include "host/policy/wish.h"
#include "host/source/agent-stats.h"
#include "host/source/id.h"
#include "host/spread.h"
#include "host/tier.h"

#include <json-glib/json-glib.h>

enum vm_state {
    VM_ATTACHING,               /* talking to QEMU about the layout */
    VM_TIERING, VM_OBSERVING, VM_IDLE, /* by mode: on, observe, off */
    VM_FROZEN,                  /* QEMU refuses moves; `reason` says why */
    VM_REFUSED,                 /* this VM cannot be tiered; `reason` says why */
    VM_STATE_COUNT
};
const char *vm_state_name(enum vm_state state);

struct vm_block {
    bool present;
    char name[VT_NAME];
    guint64 length;
    guint64 host;               /* where it is mapped in QEMU; 0: not known */
    guint32 first, count, page_size;
    bool fresh;                 /* the guest has not used it yet */
    bool placed;                /* its first placement is done */
    int file[VT_TIERS];         /* -1: none */
    guint64 base[VT_TIERS];     /* where in the file the block's area begins */
    struct tier_use use[VT_TIERS];
    struct vt_backing backing;  /* what QEMU found; `h.type` 0: nothing yet */
    bool hinted;                /* its advice was logged */
    const char *note[VT_TIERS]; /* why a slower tier's file is not like dram's, or NULL; interned */
};

/* Why a pin is not carried out. */
enum pin_problem { PIN_OK, PIN_NO_RAM, PIN_NOT_WHOLE, PIN_OVER_QUOTA, PIN_PROBLEMS };

/* What became of where an operator wants granules to be. */
struct spread_stats {
    struct pins pins;           /* as they were carried out, */
    guint8 problem[PINS_MOST];  /* enum pin_problem of each, */
    guint32 arrived[PINS_MOST]; /* its granules that are on their tier */
    guint32 hot[VT_TIERS], hot_target[VT_TIERS];    /* granules of the hot set, with an interleave */
    guint64 moved_bytes;        /* for pins and weights, policies' moves not counted */
};

/* Pages of a tier that were asked after, and those of them on other nodes than the tier's. 0: not known. */
struct vm_astray {
    guint32 seen, astray;
};

/* What was measured of a VM; copied whole for whoever asks. */
struct vm_stats {
    enum vm_state state;
    char reason[VT_TEXT];
    guint64 ledger_bytes[VT_TIERS], file_bytes[VT_TIERS];
    guint64 spare_bytes[VT_TIERS]; /* in the files, of no granule: for the next moves */
    bool counted[VT_TIERS];     /* file_bytes is of this round, not of an earlier one */
    guint32 granules[VT_TIERS];
    guint64 dram_bytes_peak;
    guint64 ram_bytes;
    guint64 promoted, demoted, moved_bytes, pages, failed, deferred;
    double moves_per_s;
    char last_error[VT_TEXT];
    double hit_ratio;           /* < 0: not known */
    guint64 hit_samples;
    double hit_window_s;
    guint64 rounds;
    double round_ms;            /* running median, roughly */
    guint32 plan_wanted, plan_done;
    struct source_stats source[SRC_END];
    char qemu[32];              /* its version; "": as in struct vm */
    char backing[VT_TEXT];      /* what the RAM is made of; "": as the blocks say */
    struct agent_stats agent;
    guint64 mismatches;         /* times the files held more than the ledger */
    struct vm_astray astray[VT_TIERS];
    struct vt_slot slot[VT_SLOTS_MAX];
    guint32 n_slots;
    struct spread_stats spread;
};

/* What an operator may change while the VM runs. */
struct vm_settings {
    guint64 quota_bytes;        /* the most; 0: as configured, once RAM is known */
    struct quota min;           /* the least that the arbiter leaves it */
    guint weight;
    guint64 granted;            /* what the arbiter allows it; 0: there is none */
    enum vm_mode mode;
    guint64 rate;
    struct weights interleave;
    struct pins pins;
};

/* Copies what a peer wrote; all but printable ASCII becomes a question mark. */
void vm_clean_text(char *to, const char *from, size_t size);

#define VM_MOVE_COST_S 200e-6   /* CPU seconds a move costs as far as nothing else is known */
#define HIT_WINDOW 16           /* rounds the hit ratio looks back */

/* A VM that was attached by its pid ends its being attached itself. */
enum vm_leaving { VM_STAYS, VM_LEAVES, VM_GOES_HOME /* its memory to dram first */ };

struct mover;
struct recorder;
struct vm_order;

struct vm {
    gatomicrefcount refs;
    struct daemon *daemon;
    char *name, *uuid, *qemu;
    guint32 pid;
    int accel;                  /* enum vt_accel */
    guint32 can_sources;        /* mask: what QEMU can run */
    char no_source[VT_SRC_END][VT_NAME];
    struct vm_config config;
    gint64 attached_us;         /* monotonic */

    const struct mover *mover;
    gpointer mover_state;       /* the worker's */

    gint busy, gone;            /* atomic: a round is under way; the link is lost */
    gint leaving;               /* atomic: enum vm_leaving */

    GMutex lock;
    struct vm_settings want;
    struct recorder *recorder;  /* the newest recording, over or not; NULL: none yet */
    struct vm_order *order;     /* moves that an operator has asked for; NULL: none */
    struct vm_stats shown;
    struct curve curve;         /* how hot its memory is, for the arbiter */
    gint8 turn;                 /* the arbiter's, see struct share */
    guint8 turned;
    /* [ledger.n] samples served from dram, from elsewhere, since ever; NULL: it cannot be sampled. */
    guint32 *hits[2];

    /* the worker's own */
    struct vm_settings now;
    struct vm_stats stats;
    int link;
    guint32 seq;
    guint32 sources;            /* mask of enum source_id: what runs */
    gpointer source_state[SRC_END];     /* each source's own */
    struct source_stats source_was[SRC_END]; /* as of the last round */
    double source_wait[SRC_END], source_retry[SRC_END], source_look; /* source.c; on the VM's clock */
    bool map_changed;           /* blocks, slots, or where granules are; the sources were not told yet */
    bool layout_known;          /* LAYOUT_END has come since the last placement */
    bool placed;                /* READY was sent */
    bool refused;               /* REFUSE was sent */
    gint64 deadline_us;         /* monotonic: when the answer to the last message has to be there */
    bool unsaid;                /* that it froze is still to be told */
    gint64 said_us;             /* monotonic: when it was told last; 0: never */
    struct vm_block block[VT_BLOCKS];
    struct ledger ledger;
    struct heat heat;
    struct wishes wishes;
    struct spread spread;
    guint32 spread_seen;        /* checksum of what it was made from: spread-vm.c */
    struct pace pace;
    guint64 spare_most[VT_TIERS]; /* what the mover may keep when a list is done */
    struct history history;     /* under `lock` as well */
    const struct policy *policy;
    gpointer policy_state;
    struct recorder *tap;       /* what this round is recorded by: trace-tap.h */
    double clock;               /* seconds since attach */
    gint64 last_us;             /* monotonic time of the last round */
    double astray_next;         /* time of the next look */
    bool astray_told[VT_TIERS];
    double move_cost_s;         /* CPU seconds per granule, running mean */
    double move_wait_s;         /* how long QEMU's part takes for one, running mean; 0: none was moved yet */
    struct {
        guint32 dram, all;
    } window[HIT_WINDOW];
    guint32 window_at;
    guint32 mismatch;           /* rounds in a row that the files held more than the ledger */
    struct wire_msg in, out;
};

struct vm *vm_ref(struct vm *vm);
void vm_unref(struct vm *vm);
typedef struct vm Vm;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_unref)

/* Names end up in terminals, logs and shells: letters, digits and ._:@+- only. */
bool vm_name_is_good(const char *name);

/* From HELLO. Takes `link`. */
struct vm *vm_new(struct daemon *daemon, const struct vt_hello *hello, int link);

/*
 * Bytes of dram for a VM with these settings and `ram` bytes of RAM: what it may ever have, what it is
 * guaranteed, and what it may have now. One granule at least, but for the guarantee.
 */
guint64 vm_limit(const struct vm *vm, const struct vm_settings *settings, guint64 ram);
guint64 vm_guarantee(const struct vm *vm, const struct vm_settings *settings, guint64 ram);
guint64 vm_quota(const struct vm *vm, const struct vm_settings *settings, guint64 ram);
guint32 vm_quota_granules(const struct vm *vm);

/* spread-vm.c, on a worker: takes the VM's weights and pins over, if they or its memory have changed. */
void vm_spread_refresh(struct vm *vm);
/* Counts what became of them. */
void vm_spread_account(struct vm *vm);
/* "pins" and "interleave" of its view. */
void view_spread(JsonObject *o, const struct vm *vm, const struct vm_settings *want, const struct vm_stats *s);

/* Grows every per-granule array. Under `lock`. */
void vm_resize(struct vm *vm, guint32 granules);

/* Copies the worker's stats to where the control side looks. */
void vm_show(struct vm *vm);

/* Says something about this VM in the log and as an event; any thread. `text`: the "reason", or NULL. */
void vm_event(struct vm *vm, const char *event, const char *text);

/* --- address.c: on a worker ------------------------------------------------------------------------- */

struct vm_place {
    guint32 granule;
    guint64 left;               /* bytes from there on of which the same can be said */
};

/* What is at a guest-physical address; at one of QEMU's. False: no tiered RAM, for place->left bytes. */
bool vm_place_of_gpa(const struct vm *vm, guint64 gpa, struct vm_place *place);
bool vm_place_of_hva(const struct vm *vm, guint64 hva, struct vm_place *place);
bool vm_granule_of_gpa(const struct vm *vm, guint64 gpa, guint32 *granule);
bool vm_granule_of_hva(const struct vm *vm, guint64 hva, guint32 *granule);
/* Where QEMU has a granule, and how many whole pages of 4 KiB there are: none if it is not there. */
guint64 vm_pages_of_granule(const struct vm *vm, guint32 granule, guint32 *pages);

/* --- layout.c, attach.c, round.c: on a worker ------------------------------------------------------ */

/* Layout messages that QEMU sends: takes one. 0, or a negative errno with *err. */
int vm_take_layout(struct vm *vm, struct wire_msg *msg, struct vt_err *err);
bool vm_is_layout(const struct wire_msg *msg);

/* BACKING, checked and cleaned, and what is shown of it: backing.c. Under `lock`. */
void vm_take_backing(struct vm *vm, const struct vt_backing *news);
bool vm_wants_huge(const struct vm_block *block);
JsonArray *vm_view_blocks(const struct vm *vm);
char *vm_backing_text(const struct vm *vm);

/* Waits for the layout, places what is new, lets the guest start. 0, or a negative errno. */
int vm_attach(struct vm *vm, struct vt_err *err);

/* Files and first placement for blocks that have appeared. 0, or a negative errno. */
int vm_place_new(struct vm *vm, struct vt_err *err);

/* Now and then: are pages where the ledger says? astray.c */
void vm_look_astray(struct vm *vm);

/* One round. 0, or a negative errno: the link is lost. */
int vm_round(struct vm *vm, struct vt_err *err);

/* --- exchange.c: requests and answers ---------------------------------------------------------------- */

#define LINK_MS 10000           /* QEMU may be stopped in a debugger for a while, but not for ever */

int vm_send(struct vm *vm, struct vt_err *err);     /* vm->out */

/*
 * News in vm->in (layout, FROZEN) is taken care of: 0, or a negative errno. 1: it is something else,
 * and still there.
 */
int vm_take_news(struct vm *vm, struct vt_err *err);

/*
 * Next message into vm->in that is no news. -EAGAIN: none within timeout_ms, which is 0 or more than is left of
 * LINK_MS since the last vm_send(); -ETIMEDOUT: there was only news all that time.
 */
int vm_receive(struct vm *vm, int timeout_ms, struct vt_err *err);

#endif
