// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Budgets of the source "refault": see refault-cost.h.
 *
 * Two token buckets. One is the link thread's CPU time, filled by each harvest. The other is the
 * guest's: a page that was unmapped costs the vCPU that touches it a fault, and each unmapping
 * interrupts the vCPUs to flush their TLBs. It is filled by VCPU_SHARE_NS of each second of each vCPU,
 * and holds a second's worth; VCPU_FIRST_NS at the start, when nothing is known. A fault is charged at what
 * one costs in this process (measured once, on memory of our own), times COLD, as the guest's is not in
 * the caches and its TLBs are flushed; and for KVM at an exit and a second page table more. COLD, KICK_NS
 * and KVM_NS are estimates on the safe side of what bench/track found in a virtual machine.
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

#define VCPU_SHARE_NS INT64_C(5000000)         /* a second and vCPU: 0.5 % */
#define VCPU_FIRST_NS INT64_C(50000000)      /* and vCPU */
#define KVM_NS        1500u             /* per fault, on top of the host's */
#define KICK_NS       5000u             /* per unmapping and vCPU */
#define COLD          3                 /* a touch of the guest's, by one of ours */
#define TOUCH_NS      1000u             /* where it cannot be measured */
#define TEST_PAGES    64u
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
} cost = { .vcpus = 1 };

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
        (void)at[i * PAGE];
    return (cpu_ns() - start) / TEST_PAGES;
}

/* The least of a few: the first has everything else to fetch, too. */
static uint32_t measure_touch(void)
{
    int fd = memfd_create("vmtier-probe", MFD_CLOEXEC);
    uint64_t least = 0;
    void *at;

    if (fd < 0)
        return TOUCH_NS;
    at = ftruncate(fd, TEST_PAGES * PAGE) ? MAP_FAILED :
         mmap(NULL, TEST_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return TOUCH_NS;
    if (uffd_register(at, TEST_PAGES * PAGE) == 0)
        for (int i = 0; i < 4; i++) {
            uint64_t ns = time_touches(at);

            least = ns && (!least || ns < least) ? ns : least;
        }
    munmap(at, TEST_PAGES * PAGE);
    return least ? (uint32_t)least : TOUCH_NS;
}

/* A fault that maps 2 MiB was measured at one and a half of one that maps 4 KiB. */
static int64_t touch_ns(uint32_t pages, bool huge)
{
    return (int64_t)pages * (COLD * (cost.touch_ns + (huge ? cost.touch_ns / 2 : 0)) + cost.extra_ns);
}

/* --- page faults ------------------------------------------------------------------------------------ */

static uint64_t count_faults(void)
{
    struct rusage all, own;

    if (getrusage(RUSAGE_SELF, &all) || getrusage(RUSAGE_THREAD, &own))
        return 0;
    return (uint64_t)(all.ru_minflt - own.ru_minflt);
}

static void look_at_faults(void)
{
    uint64_t now = count_faults();

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
    uint64_t now = clock_ns(CLOCK_MONOTONIC), since = now - cost.last;

    cost.started = cpu_ns();
    if (!cost.touch_ns) {
        cost.touch_ns = measure_touch();
        alarms.faults = count_faults();
        cost.vcpu = VCPU_FIRST_NS * cost.vcpus;
    }
    fill(&cost.cpu, budget_us * 1000, 2 * (int64_t)budget_us * 1000);
    fill(&cost.vcpu, since < 1000000000u ? (int64_t)(since / 1000) * second / 1000000 : second,
         second);
    cost.last = now;
    look_at_faults();
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

void refault_cost_unmapped(void)
{
    const uint64_t ns = (uint64_t)KICK_NS * cost.vcpus;

    cost.vcpu -= (int64_t)ns;
    cost.spent_vcpu += ns;
}

void refault_cost_get(uint64_t *cpu, uint64_t *vcpu)
{
    *cpu = cost.spent_cpu;
    *vcpu = cost.spent_vcpu;
}
