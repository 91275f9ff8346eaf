// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Direct disk I/O that checks itself: the one kind of write into guest memory that write protection
 * does not hold back.
 *
 * Each thread reads 256 KiB at a time from /dev/vda past the guest's cache, into a buffer it has
 * poisoned before, and looks at every sector: sector n begins with n's signature (DISK_SIGNATURE,
 * which the test wrote). With writes on, a thread also writes its own half of the buffer's place
 * with a generation in it, and reads it back. A sector that is not what it should be is one bad.
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

enum { SECTOR = 512, BUFFER = 256 * 1024, THREADS_MOST = 16 };

static int disk = -1;
static uint64_t disk_bytes;
static unsigned threads;
static bool writes;
static atomic_ulong disk_ops, disk_bad;

static uint64_t signature(uint64_t sector, uint64_t generation)
{
    return (sector + 1) * 0x9e3779b97f4a7c15u ^ generation * 0xd6e8feb86659fd93u;
}

static void report_bad(uint64_t at, uint64_t expected, uint64_t found)
{
    if (atomic_fetch_add(&disk_bad, 1) == 0)
        say("VMT DISKBAD sector=%llu expected=%llx found=%llx", (unsigned long long)at,
            (unsigned long long)expected, (unsigned long long)found);
}

static void check(const char *buffer, uint64_t offset, uint64_t generation)
{
    for (unsigned s = 0; s < BUFFER / SECTOR; s++) {
        uint64_t want = signature(offset / SECTOR + s, generation), first, last;

        memcpy(&first, buffer + s * SECTOR, sizeof(first));
        memcpy(&last, buffer + (s + 1) * SECTOR - sizeof(last), sizeof(last));
        if (first != want || last != want)
            report_bad(offset / SECTOR + s, want, first != want ? first : last);
    }
}

static void sign(char *buffer, uint64_t offset, uint64_t generation)
{
    for (unsigned s = 0; s < BUFFER / SECTOR; s++) {
        uint64_t word = signature(offset / SECTOR + s, generation);

        for (unsigned i = 0; i < SECTOR; i += sizeof(word))
            memcpy(buffer + s * SECTOR + i, &word, sizeof(word));
    }
}

static void read_and_check(char *buffer, uint64_t offset, uint64_t generation)
{
    for (unsigned s = 0; s < BUFFER; s += SECTOR)
        memset(buffer + s, 0xa5, 64);
    if (pread(disk, buffer, BUFFER, (off_t)offset) != BUFFER)
        give_up("reading the disk");
    check(buffer, offset, generation);
    atomic_fetch_add(&disk_ops, 1);
}

/* A thread's own place is the chunk of its number; the others are read only. */
static void *exercise(void *arg)
{
    uint64_t own = (uint64_t)(uintptr_t)arg * BUFFER, generation = 0;
    uint64_t chunks = disk_bytes / BUFFER - threads, random = own + 88172645463325252u;
    char *buffer = aligned_alloc(PAGE, BUFFER);

    if (!buffer)
        give_up("a disk buffer");
    for (;;) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        read_and_check(buffer, (threads + random % chunks) * BUFFER, 0);
        if (!writes)
            continue;
        sign(buffer, own, ++generation);
        if (pwrite(disk, buffer, BUFFER, (off_t)own) != BUFFER)
            give_up("writing the disk");
        read_and_check(buffer, own, generation);
    }
    return NULL;
}

static void *tell(void *unused)
{
    for (;; usleep(200000))
        say("VMT DISK ops=%lu bad=%lu", atomic_load(&disk_ops), atomic_load(&disk_bad));
    return unused;
}

static void start(void *(*fn)(void *), uintptr_t arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, fn, (void *)arg))
        give_up("a disk thread");
    pthread_detach(thread);
}

void start_disk(unsigned n, bool with_writes)
{
    threads = n < THREADS_MOST ? n : THREADS_MOST;
    writes = with_writes;
    disk = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (disk < 0 || ioctl(disk, BLKGETSIZE64, &disk_bytes))
        give_up("/dev/vda");
    for (unsigned i = 0; i < threads; i++)
        start(exercise, i);
    start(tell, 0);
}
