// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Budgets of the source "refault": see refault-cost.h.
 *
 * Two token buckets. One is the link thread's CPU time, filled by each harvest. The other is the
 * guest's: a page that was unmapped costs the vCPU that touches it its faults, and each unmapping
 * interrupts the vCPUs to flush their TLBs. It is filled by VCPU_SHARE_NS of each second of each vCPU,
 * and holds a second's worth; VCPU_FIRST_NS at the start, when nothing is known.
 *
 * What these cost differs by a factor of twenty between machines, so it is measured in this process. A page
 * that is read and then written faults twice, as the kernel maps what is registered with userfaultfd
 * read-only at first: both are measured, once, on memory of our own, and charged as if all pages were written.
 * The guest's page is in no cache, which is half as much again; one of 2 MiB was found to cost four times as much.
 * Under KVM each fault is an exit and a second page table more (KVM_NS). An interrupt, with the flush that it is for,
 * was found to take a vCPU that runs half to three quarters of what the unmapping takes us; what it had in its TLB is
 * to be fetched again (KICK_NS). All are estimates on the safe side of what was found (BENCHMARKING.md).
 *
 * The kernel counts page faults per thread, those in KVM included, and only touched probes cause many
 * in a guest that has its memory. So this tells without looking at a single probe whether silent ones
 * can have been touched: it is what lets them be polled every few seconds, not four times a second. An
 * alarm in vain (the guest got new memory, or QEMU itself) makes the next one need twice as many.
 */
#include "vmm/refault-cost.h"
#include "common/clock.h"
#include "vmm/refault.h"
#include "vmm/uffd.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define VCPU_SHARE_NS INT64_C(7000000)         /* a second and vCPU: 0.7 % */
#define VCPU_FIRST_NS INT64_C(50000000)      /* and vCPU */
#define KVM_NS        3000u             /* per page, on top of the host's */
#define KICK_NS       3000u             /* per unmapping and vCPU that runs, on top of 3/4 of our time */
#define KICK_MOST     200000u           /* our time, at most: more is the memory's size, or a machine that is busy */
#define IDLE_PART     50                /* of a core: less is idle, ... */
#define IDLE_BUDGET   8u                /* ... and has this part of the budget: its memory does not get hot */
#define TOUCH_NS      2000u             /* where it cannot be measured */
#define TEST_PAGES    32u
#define TEST_TIMES    7u
#define PAGE          4096u
#define ALARM_LEAST   64u               /* faults */
#define ALARM_MOST    (64u << 10)

static struct {
    int64_t cpu, vcpu;                  /* ns left */
    uint64_t last;                      /* harvest, ns */
    uint64_t started;                   /* CPU time at the harvest's begin */
    uint64_t spent_cpu, spent_vcpu;
    uint32_t touch_ns;                  /* 0: not known yet */
    uint32_t vcpus, extra_ns;
    uint32_t running;                   /* of the vCPUs, since the last harvest; rounded up */
    bool idle;                          /* all of them together did next to nothing */
    uint64_t others_us;                 /* CPU time of all threads but this, at the last harvest */
} cost = { .vcpus = 1, .running = 1 };

static struct {
    uint64_t faults;                    /* of all threads but this, at the last harvest */
    uint64_t recent;                    /* ... and how many more than at the one before */
    uint32_t calm;                      /* times that there was plenty, in a harvest with few of them */
    int64_t unseen;                     /* faults less touches found */
    uint64_t found;                     /* since the alarm */
    uint32_t threshold;
    bool on;
} alarms = { .threshold = ALARM_LEAST };

void refault_set_guest(unsigned vcpus, bool kvm)
{
    cost.vcpus = vcpus ? vcpus : 1;
    cost.extra_ns = kvm ? KVM_NS : 0;
    cost.vcpu = 0;
}

/* --- what a touch costs --------------------------------------------------------------------------- */

static uint64_t time_touches(volatile uint8_t *at)
{
    uint64_t start;

    if (madvise((void *)(uintptr_t)at, TEST_PAGES * PAGE, MADV_DONTNEED))
        return 0;
    start = cpu_ns();
    for (uint32_t i = 0; i < TEST_PAGES; i++)
        at[i * PAGE] = (uint8_t)(at[i * PAGE] + 1);
    return (cpu_ns() - start) / TEST_PAGES;
}

/* Sorts as it puts in: `n` are there. */
static void insert(uint64_t *sorted, unsigned n, uint64_t value)
{
    for (; n && sorted[n - 1] > value; n--)
        sorted[n] = sorted[n - 1];
    sorted[n] = value;
}

/* The median of a few: the first makes the memory, and the least is what no guest will ever see. */
static uint32_t measure_touch(void)
{
    int fd = memfd_create("vmtier-probe", MFD_CLOEXEC);
    uint64_t ns[TEST_TIMES] = { 0 };
    void *at;

    if (fd < 0)
        return TOUCH_NS;
    at = ftruncate(fd, TEST_PAGES * PAGE) ? MAP_FAILED :
         mmap(NULL, TEST_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return TOUCH_NS;
    if (uffd_register(at, TEST_PAGES * PAGE) == 0)
        for (unsigned i = 0; i < TEST_TIMES; i++)
            insert(ns, i, time_touches(at));
    munmap(at, TEST_PAGES * PAGE);
    return ns[TEST_TIMES / 2] ? (uint32_t)ns[TEST_TIMES / 2] : TOUCH_NS;
}

static int64_t touch_ns(uint32_t pages, bool huge)
{
    return (int64_t)pages * (cost.touch_ns * (huge ? 8u : 3u) / 2u + cost.extra_ns);
}

/* --- what the other threads did ----------------------------------------------------------------------- */

static int64_t cpu_us(const struct rusage *r)
{
    return (r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1000000 + r->ru_utime.tv_usec + r->ru_stime.tv_usec;
}

/* Page faults and CPU time of all threads but this. */
static bool look_at_others(uint64_t *faults, uint64_t *us)
{
    struct rusage all, own;

    if (getrusage(RUSAGE_SELF, &all) || getrusage(RUSAGE_THREAD, &own))
        return false;
    *faults = (uint64_t)(all.ru_minflt - own.ru_minflt);
    *us = (uint64_t)(cpu_us(&all) - cpu_us(&own));
    return true;
}

/* An unmapping interrupts only vCPUs that run. */
static void count_running(uint64_t us, uint64_t since_ns)
{
    uint64_t n = us > cost.others_us ? (us - cost.others_us) * 1000 / (since_ns + 1) + 1 : 1;

    cost.running = n < cost.vcpus ? (uint32_t)n : cost.vcpus;
    cost.idle = us - cost.others_us < since_ns / 1000 / IDLE_PART;
    cost.others_us = us;
}

static void take_faults(uint64_t now)
{
    alarms.recent = now > alarms.faults ? now - alarms.faults : 0;
    if (!alarms.on)
        alarms.unseen -= alarms.unseen / 4;     /* else a few now and then are an alarm in the end */
    alarms.unseen += (int64_t)alarms.recent;
    alarms.faults = now;
    alarms.calm = 0;
    if (alarms.on || alarms.unseen < alarms.threshold)
        return;
    alarms.on = true;
    alarms.found = 0;
}

bool refault_cost_alarm(void)
{
    return alarms.on;
}

bool refault_cost_calm(void)
{
    return !alarms.on && alarms.threshold == ALARM_LEAST && alarms.recent < ALARM_LEAST;
}

void refault_cost_walked(void)
{
    if (!alarms.on)
        return;
    if (alarms.found >= (uint64_t)alarms.unseen / 8)
        alarms.threshold = ALARM_LEAST;
    else if (alarms.threshold < ALARM_MOST)
        alarms.threshold *= 2;
    alarms.on = false;
    alarms.unseen = 0;
}

/* --- budgets ---------------------------------------------------------------------------------------- */

/* What was more than that from the start is not taken away. */
static void fill(int64_t *bucket, int64_t by, int64_t most)
{
    if (*bucket < most)
        *bucket = *bucket + by < most ? *bucket + by : most;
}

void refault_cost_begin(uint32_t budget_us)
{
    const int64_t second = VCPU_SHARE_NS * cost.vcpus;
    uint64_t now = clock_ns(CLOCK_MONOTONIC), since = now - cost.last, faults = alarms.faults, us = 0;
    bool told = look_at_others(&faults, &us);

    cost.started = cpu_ns();
    if (!cost.touch_ns) {
        cost.touch_ns = measure_touch();
        alarms.faults = faults;
        cost.vcpu = VCPU_FIRST_NS * cost.vcpus;
    }
    if (told && cost.last)
        count_running(us, since);
    if (cost.idle)
        budget_us /= IDLE_BUDGET;
    fill(&cost.cpu, (int64_t)budget_us * 1000, 2 * (int64_t)budget_us * 1000);
    fill(&cost.vcpu, since < 1000000000u ? (int64_t)(since / 1000) * second / 1000000 : second,
         second);
    cost.last = now;
    take_faults(faults);
}

bool refault_cost_cpu_left(void)
{
    return (int64_t)(cpu_ns() - cost.started) < cost.cpu;
}

void refault_cost_end(uint64_t found)
{
    uint64_t used = cpu_ns() - cost.started;

    cost.cpu -= (int64_t)used;
    cost.spent_cpu += used;
    alarms.found += found;
    if (!alarms.on)
        alarms.unseen = alarms.unseen > (int64_t)found ? alarms.unseen - (int64_t)found : 0;
}

bool refault_cost_guest_left(void)
{
    return cost.vcpu > 0;
}

bool refault_cost_some_left(void)
{
    return cost.vcpu > VCPU_SHARE_NS * cost.vcpus / 4;
}

bool refault_cost_pay(uint32_t pages, bool huge)
{
    if (!refault_cost_guest_left())
        return false;
    cost.vcpu -= touch_ns(pages, huge);
    return true;
}

/* To arm a whole granule takes 0.1 ms of our time: in a guest that does nothing there is no hurry. */
bool refault_cost_plenty(void)
{
    if (cost.vcpu <= VCPU_SHARE_NS * cost.vcpus / 2)
        return false;
    return alarms.recent >= ALARM_LEAST || alarms.calm++ == 0;
}

void refault_cost_touched(uint32_t pages, bool huge)
{
    cost.spent_vcpu += (uint64_t)touch_ns(pages, huge);
}

/* No more than a second pays: else a guest whose memory all gets busy at once would not be seen for minutes. */
void refault_cost_owe(uint32_t pages)
{
    const int64_t most = -VCPU_SHARE_NS * cost.vcpus;

    cost.vcpu -= touch_ns(pages, false);
    if (cost.vcpu < most)
        cost.vcpu = most;
}

void refault_cost_unmapped(uint64_t took_ns)
{
    const uint64_t ns = (KICK_NS + (took_ns < KICK_MOST ? took_ns : KICK_MOST) * 3 / 4) * cost.running;

    cost.vcpu -= (int64_t)ns;
    cost.spent_vcpu += ns;
}

void refault_cost_get(uint64_t *cpu, uint64_t *vcpu)
{
    *cpu = cost.spent_cpu;
    *vcpu = cost.spent_vcpu;
}
