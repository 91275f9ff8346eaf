// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copying memory: see copy.h.
 *
 * Threads. A job is a list of parts and a count of chunks already taken; every thread takes the next
 * chunk until there is none. Helpers sleep on a futex, `round`, which the caller raises to start a
 * job; they are started when first asked for and never end (QEMU does neither). The caller does not
 * return before all have said that they are through, so a job can live on its stack.
 */
#include "vmm/copy.h"
#include "common/clock.h"
#include "common/thread.h"

#include <emmintrin.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK  (256u << 10)         /* what a thread takes at a time */
#define STREAM_MIN (128u << 10)     /* below this the caches are faster */

struct job {
    const struct copy_part *parts;
    unsigned n;
    bool past_caches;
    atomic_uint next;               /* chunk */
    _Atomic uint64_t cpu_ns;
};

static struct {
    struct job *_Atomic job;
    atomic_uint round, busy;
    unsigned wanted, started;       /* helpers */
} crew;

/* --- one thread's copying ------------------------------------------------------------------------ */

/* 64 bytes at a time, pages are a multiple of that. */
static void stream(uint8_t *to, const uint8_t *from, uint64_t length)
{
    for (uint64_t i = 0; i < length; i += 64) {
        const __m128i *in = (const __m128i *)(const void *)(from + i);
        __m128i *out = (__m128i *)(void *)(to + i);
        __m128i a = _mm_load_si128(in), b = _mm_load_si128(in + 1);
        __m128i c = _mm_load_si128(in + 2), d = _mm_load_si128(in + 3);

        _mm_prefetch((const char *)from + i + 1024, _MM_HINT_NTA);
        _mm_stream_si128(out, a);
        _mm_stream_si128(out + 1, b);
        _mm_stream_si128(out + 2, c);
        _mm_stream_si128(out + 3, d);
    }
    _mm_sfence();
}

/* Bytes [at, end) of a part. */
static void copy_some(const struct copy_part *p, uint64_t at, uint64_t end, bool past_caches)
{
    if (past_caches && !p->cached && end - at >= STREAM_MIN)
        stream(p->to + at, p->from + at, end - at);
    else
        memcpy(p->to + at, p->from + at, end - at);
}

/* Copies chunk number `want` of the list; false: there are not so many. */
static bool copy_chunk(const struct job *j, unsigned want)
{
    for (unsigned i = 0; i < j->n; i++) {
        const struct copy_part *p = &j->parts[i];
        unsigned chunks = (unsigned)((p->length + CHUNK - 1) / CHUNK);
        uint64_t at = (uint64_t)want * CHUNK;

        if (want < chunks) {
            copy_some(p, at, p->length - at < CHUNK ? p->length : at + CHUNK, j->past_caches);
            return true;
        }
        want -= chunks;
    }
    return false;
}

static void work(struct job *j)
{
    while (copy_chunk(j, atomic_fetch_add(&j->next, 1)))
        ;
}

/* --- helpers ---------------------------------------------------------------------------------------- */

static void sleep_on(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_on(atomic_uint *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void help_out(void)
{
    struct job *j = atomic_load(&crew.job);
    uint64_t start = cpu_ns();

    work(j);
    j->cpu_ns += cpu_ns() - start;
    if (atomic_fetch_sub(&crew.busy, 1) == 1)
        wake_on(&crew.busy, 1);
}

static void *helper(void *number)
{
    const unsigned me = (unsigned)(uintptr_t)number;
    unsigned seen = 0, now;

    for (;;) {
        while ((now = atomic_load(&crew.round)) == seen)
            sleep_on(&crew.round, seen);
        seen = now;
        if (me < now % COPY_THREADS)
            help_out();
    }
    return NULL;
}

void copy_set_threads(unsigned n)
{
    unsigned helpers = n < 1 ? 0 : n > COPY_THREADS ? COPY_THREADS - 1 : n - 1;

    while (crew.started < helpers && !thread_start("vmtier-copy", helper, (void *)(uintptr_t)crew.started))
        crew.started++;
    crew.wanted = helpers < crew.started ? helpers : crew.started;
}

/* The round's number says how many helpers are wanted: its remainder by COPY_THREADS. */
static void call_helpers(struct job *j)
{
    unsigned round = atomic_load(&crew.round) / COPY_THREADS + 1;

    atomic_store(&crew.job, j);
    atomic_store(&crew.busy, crew.wanted);
    atomic_store(&crew.round, round * COPY_THREADS + crew.wanted);
    wake_on(&crew.round, INT32_MAX);
}

static void await_helpers(void)
{
    unsigned busy;

    while ((busy = atomic_load(&crew.busy)) != 0)
        sleep_on(&crew.busy, busy);
}

uint64_t copy_parts(const struct copy_part *parts, unsigned n, bool past_caches)
{
    struct job j = { .parts = parts, .n = n, .past_caches = past_caches };
    uint64_t total = 0;

    for (unsigned i = 0; i < n; i++)
        total += parts[i].length;
    if (!crew.wanted || total < 2 * CHUNK) {
        for (unsigned i = 0; i < n; i++)
            copy_some(&parts[i], 0, parts[i].length, past_caches);
        return 0;
    }
    call_helpers(&j);
    work(&j);
    await_helpers();
    return j.cpu_ns;
}
