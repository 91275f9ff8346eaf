// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Migrations that read something else than the contents of RAM through QEMU's mapping.
 *
 *   out, the files are handed over    (x-ignore-shared, cpr-reboot, cpr-transfer.) The other QEMU reads
 *        RAM from QEMU's own file, each byte at its offset. So while this is switched on, all granules
 *        are brought home to that file and stay there. A migration that starts before they are there
 *        is refused.
 *   in, the files are handed over     They belong to a guest that may still run elsewhere: not a byte of
 *        them may be moved before the migration is over. Tiering waits for that before it attaches.
 *   in, by postcopy                   What has not arrived is a hole in the file, and a hole is what makes
 *        the guest wait for it. A move could fill holes. Tiering is held back from the first sign until
 *        the guest runs; from then on, until all is there, because QEMU has borrowed userfaultfd.
 *   any, by RDMA                      pins RAM. QEMU itself refuses it once we are attached (see
 *        qemu_forbid_pinning()); one that began before is found by its open device.
 *
 * Settings cannot be hooked. They are looked at once in a second, when QEMU is about to use
 * userfaultfd (it does before it empties RAM for postcopy), and when a migration starts. A thread keeps
 * the time, has lent blocks back, and carries out the return home, which takes too long for the main
 * loop. Everything else is looked at in the main loop.
 */
#include "vmm/handover.h"
#include "common/thread.h"
#include "vmm/announce.h"
#include "vmm/letgo.h"
#include "vmm/link.h"
#include "vmm/memslots.h"
#include "vmm/mover.h"
#include "vmm/plugin.h"
#include "vmm/qemu.h"
#include "vmm/ram.h"

#include <dirent.h>
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS   1000          /* between looks when nothing is held, */
#define HELD_MS   100           /* and when something is */
#define AT_ONCE   (256ull << 20)    /* bytes that may be brought home in the main loop */

static sem_t poke;
static atomic_bool look_pending, home, waits;
static bool announced;          /* main loop */

/* --- home ------------------------------------------------------------------------------------------ */

/* Of what the guest sees: a block that is unplugged is not migrated. */
static uint64_t bytes_away(void)
{
    uint64_t bytes = 0;

    ram_lock();
    for (const struct ram_block *b = ram_blocks(); b < ram_blocks() + VT_BLOCKS; b++)
        for (uint32_t g = b->first; b->used && b->present && g < b->first + b->count; g++)
            bytes += ram_tier[g] || ram_slot[g] != g - b->first ? ram_length(b, g) : 0;
    ram_unlock();
    return bytes;
}

/* All that is away, or as much as can be now. Any thread; takes as long as copying it takes. */
static void bring_home(void)
{
    bool done = mover_retreat() == 0;

    ram_lock();
    ram_changed();              /* the daemon reads placement again */
    ram_unlock();
    atomic_store(&home, done);
    link_notify();
}

/* --- the main loop's part ---------------------------------------------------------------------------- */

static void tell_world(void)
{
    char reason[VT_TEXT];
    bool held = letgo_holds(reason);

    if (held == announced)
        return;
    announced = held;
    if (held)
        qemu_say("tiering lets go: %s", reason);
    else
        qemu_say("tiering goes on");
    announce(ANNOUNCE_FREEZE, held ? "X_VMTIER_FROZEN" : "X_VMTIER_THAWED", reason);
    if (!held)
        plugin_look_at_devices();       /* what was found meanwhile froze nothing */
    link_notify();
}

static void look(void)
{
    const char *how = qemu_incoming() ? NULL : qemu_hands_over_files();

    if (qemu_incoming() && qemu_postcopy())
        letgo_hold(LETGO_INCOMING, "QEMU receives this VM by postcopy migration: tiering goes on when "
                   "that has ended");
    else
        letgo_release(LETGO_INCOMING);
    if (how) {
        letgo_hold(LETGO_HANDOVER, "%s is set, so migration leaves RAM in QEMU's own file: everything "
                   "is brought home to it and stays there until that is switched off", how);
    } else {
        letgo_release(LETGO_HANDOVER);
        atomic_store(&home, false);
    }
    if (atomic_load(&waits) && !qemu_incoming()) {
        atomic_store(&waits, false);
        link_notify();
    }
}

static void look_and_tell(void *unused)
{
    (void)unused;
    atomic_store(&look_pending, false);
    look();
    tell_world();
    announce_waiting();
}

/* Any thread, any lock: the rest happens in ours. */
static void look_soon(void)
{
    sem_post(&poke);
}

/* QEMU is about to use userfaultfd. Only its main thread does so for postcopy, with the BQL. */
static void look_now(void)
{
    if (qemu_have_bql())
        look();
    look_soon();
}

/*
 * `home` is the thread's, and may be of an earlier hold; what is away is counted, as the other QEMU would read
 * something else there.
 */
static int before_migration(struct vt_err *err)
{
    uint64_t away;

    look();
    if (!letgo_has(LETGO_HANDOVER))
        return 0;
    away = bytes_away();
    if (away && away <= AT_ONCE) {
        bring_home();
        away = bytes_away();
    }
    if (!away)
        return 0;
    look_soon();
    return vt_fail(err, EAGAIN, "vmtier: %s is set, so migration leaves RAM in QEMU's own file, and %llu "
                   "MiB of this VM are elsewhere. They are being brought there: start the migration "
                   "again in a moment, or switch that off", qemu_hands_over_files(),
                   (unsigned long long)(away >> 20));
}

/* --- the thread ---------------------------------------------------------------------------------------- */

static void wait_for(unsigned ms)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += (long)(ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    while (sem_timedwait(&poke, &end) && errno == EINTR)
        ;
}

static void *run(void *unused)
{
    char reason[VT_TEXT];

    (void)unused;
    for (;;) {
        wait_for(letgo_holds(reason) ? HELD_MS : LOOK_MS);
        usleep(HELD_MS * 1000);         /* QEMU tries userfaultfd and gives it up at once, too */
        letgo_take_back();
        if (letgo_has(LETGO_HANDOVER) && !atomic_load(&home))
            bring_home();
        if (!atomic_exchange(&look_pending, true))
            qemu_bh(look_and_tell, NULL);
    }
    return NULL;
}

void handover_init(void)
{
    sem_init(&poke, 0, 0);
    letgo_on(look_soon, look_now);
}

int handover_start(struct vt_err *err)
{
    int rc;

    if (!qemu_before_migration(link_info->major, before_migration))
        qemu_say("migrations of QEMU %u.%u are not known: switch x-ignore-shared or a cpr mode on two "
                 "seconds before a migration that needs it", link_info->major, link_info->minor);
    rc = thread_start("vmtier-letgo", run, NULL);
    return rc ? vt_fail(err, rc, "a thread: %s", strerror(rc)) : 0;
}

/* --- may it be tiered yet? ------------------------------------------------------------------------------ */

/* A file that has a name can be open elsewhere, and one that has contents before the guest came, too. */
static int find_used_file(const struct qemu_ram *r, void *name)
{
    struct stat st;

    if (r->fd < 0 || !r->shared || fstat(r->fd, &st) || !st.st_nlink || !st.st_blocks)
        return 0;
    snprintf(name, VT_NAME, "%s", r->name);
    return 1;
}

static bool rdma_is_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    bool found = false;
    char path[64];

    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, path, sizeof(path) - 1);

        path[n > 0 ? n : 0] = '\0';
        found = !strncmp(path, "/dev/infiniband/", strlen("/dev/infiniband/"));
    }
    if (dir)
        closedir(dir);
    return found;
}

int handover_check(struct vt_err *err)
{
    char name[VT_NAME] = "";

    if (rdma_is_open())
        return vt_fail(err, EBUSY, "QEMU has an RDMA device open, which may have pinned RAM: end the RDMA "
                       "migration or run this VM untiered");
    if (!qemu_incoming())
        return 0;
    qemu_each_ram(find_used_file, name);
    if (!qemu_incoming_files() && !name[0])
        return 0;
    atomic_store(&waits, true);
    return vt_fail(err, EBUSY, "the file of RAM block %s has contents and this VM is still to come in: "
                   "another QEMU may be using it; tiering begins when the migration has ended",
                   name[0] ? name : "(all)");
}

bool handover_waits(void)
{
    return atomic_load(&waits);
}
