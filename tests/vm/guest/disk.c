// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Direct disk I/O that checks itself: the one kind of write into guest memory that write protection
 * does not hold back.
 *
 * Each thread reads some bytes at a time (256 KiB) from /dev/vda past the guest's cache, into a
 * buffer it has poisoned before, and looks at every sector: sector n begins and ends with n's
 * signature, which the test wrote. With writes on, a thread also writes its own place, as long as
 * its buffer, with a generation in it, and reads it back. A sector that is not what it should be is
 * one bad. A second disk, /dev/vdb, is only read, and may hang without holding up the first.
 */
#define _GNU_SOURCE
#include "workload.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <unistd.h>

enum { SECTOR = 512, THREADS_MOST = 16 };

struct disk {
    const char *path, *name;    /* of the device; in the lines we say */
    int fd;
    uint64_t bytes;
    unsigned threads;
    bool writes;
    atomic_ulong ops, bad;      /* reads, sectors */
};

struct exerciser {
    struct disk *disk;
    unsigned number;
};

static struct disk disks[] = {
    { .path = "/dev/vda", .name = "DISK" },
    { .path = "/dev/vdb", .name = "OTHER" },
};
static size_t buffer_bytes;

static uint64_t signature(uint64_t sector, uint64_t generation)
{
    return (sector + 1) * 0x9e3779b97f4a7c15u ^ generation * 0xd6e8feb86659fd93u;
}

static void report_bad(struct disk *d, uint64_t at, uint64_t expected, uint64_t found)
{
    if (atomic_fetch_add(&d->bad, 1) == 0)
        say("VMT %sBAD sector=%llu expected=%llx found=%llx", d->name, (unsigned long long)at,
            (unsigned long long)expected, (unsigned long long)found);
}

static void check(struct disk *d, const char *buffer, uint64_t offset, uint64_t generation)
{
    for (unsigned s = 0; s < buffer_bytes / SECTOR; s++) {
        uint64_t want = signature(offset / SECTOR + s, generation), first, last;

        memcpy(&first, buffer + s * SECTOR, sizeof(first));
        memcpy(&last, buffer + (s + 1) * SECTOR - sizeof(last), sizeof(last));
        if (first != want || last != want)
            report_bad(d, offset / SECTOR + s, want, first != want ? first : last);
    }
}

static void sign(char *buffer, uint64_t offset, uint64_t generation)
{
    for (unsigned s = 0; s < buffer_bytes / SECTOR; s++) {
        uint64_t word = signature(offset / SECTOR + s, generation);

        for (unsigned i = 0; i < SECTOR; i += sizeof(word))
            memcpy(buffer + s * SECTOR + i, &word, sizeof(word));
    }
}

static void read_and_check(struct disk *d, char *buffer, uint64_t offset, uint64_t generation)
{
    for (size_t s = 0; s < buffer_bytes; s += SECTOR)
        memset(buffer + s, 0xa5, 64);
    if (pread(d->fd, buffer, buffer_bytes, (off_t)offset) != (ssize_t)buffer_bytes)
        give_up("reading the disk");
    check(d, buffer, offset, generation);
    atomic_fetch_add(&d->ops, 1);
}

/* A thread's own place is the chunk of its number; the others are read only. */
static void *exercise(void *arg)
{
    const struct exerciser *e = arg;
    struct disk *d = e->disk;
    uint64_t own = e->number * (uint64_t)buffer_bytes, generation = 0;
    uint64_t chunks = d->bytes / buffer_bytes - d->threads, random = own + 88172645463325252u;
    char *buffer = aligned_alloc(PAGE, buffer_bytes);

    if (!buffer)
        give_up("a disk buffer");
    for (;;) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        read_and_check(d, buffer, (d->threads + random % chunks) * buffer_bytes, 0);
        if (!d->writes)
            continue;
        sign(buffer, own, ++generation);
        if (pwrite(d->fd, buffer, buffer_bytes, (off_t)own) != (ssize_t)buffer_bytes)
            give_up("writing the disk");
        read_and_check(d, buffer, own, generation);
    }
    return NULL;
}

static void *tell(void *unused)
{
    for (;; usleep(200000))
        for (struct disk *d = disks; d < disks + ARRAY_LEN(disks); d++)
            if (d->threads)
                say("VMT %s ops=%lu bad=%lu", d->name, atomic_load(&d->ops), atomic_load(&d->bad));
    return unused;
}

static void start(void *(*fn)(void *), void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, fn, arg))
        give_up("a disk thread");
    pthread_detach(thread);
}

static void start_disk(struct disk *d, uint64_t threads, bool writes)
{
    static struct exerciser exercisers[ARRAY_LEN(disks)][THREADS_MOST];

    d->threads = threads < THREADS_MOST ? (unsigned)threads : THREADS_MOST;
    d->writes = writes;
    d->fd = open(d->path, (writes ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    if (d->fd < 0 || ioctl(d->fd, BLKGETSIZE64, &d->bytes))
        give_up(d->path);
    for (unsigned i = 0; i < d->threads; i++) {
        exercisers[d - disks][i] = (struct exerciser){ d, i };
        start(exercise, &exercisers[d - disks][i]);
    }
}

void start_disks(void)
{
    buffer_bytes = cfg.disk_size / PAGE * PAGE;
    if (!buffer_bytes)
        give_up("vmt.disksize");
    if (cfg.disk)
        start_disk(&disks[0], cfg.disk, cfg.disk_writes != 0);
    if (cfg.other_disk)
        start_disk(&disks[1], cfg.other_disk, false);
    if (cfg.disk || cfg.other_disk)
        start(tell, NULL);
}
