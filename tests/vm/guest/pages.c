// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The footprint's pages: contents that are known to the last word, visits, and sweeps.
 *
 * A visit touches eight cache lines of a page and either reads or changes them. The sum of each
 * page's words and its first word, which counts the page's changes, are kept in a table outside of
 * the page: a visit compares the first word, one visit in 64 and every sweep compare the sum. So a
 * page that was lost, is stale or belongs to someone else is found, and it stays bad: it is counted
 * once in `bad`, and again by each sweep.
 */
#include "workload.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    WORDS = PAGE / 8,
    LINE_WORDS = 8,
    LINES = PAGE / 64,
    TOUCHED_LINES = 8,
    LINE_STEP = 9,          /* odd, so that eight steps hit eight different lines */
    BATCH = 512,            /* visits between two looks at the worker's orders */
    BADS_REPORTED = 16,
};

struct page_state {
    uint64_t sum;
    uint64_t first;
};

atomic_ulong ops, verified, bad;

static uint64_t *memory;
static struct page_state *table;
static unsigned char *page_bad;
static volatile uint64_t sink;      /* keeps reads from being optimised away */

uint64_t next_random(void)
{
    static uint64_t state;

    if (!state)
        state = cfg.seed * 0x2545f4914f6cdd1dull | 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* The counters have one writer; a plain store is cheaper than an atomic addition. */
static void count_up(atomic_ulong *counter, unsigned long n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static uint64_t *page_at(size_t index)
{
    return memory + index * WORDS;
}

/* Guest-physical address of a page, from our own page table. */
static uint64_t gpa_of(const void *address)
{
    static int pagemap = -1;
    uint64_t entry = 0;
    off_t at = (off_t)((uintptr_t)address / PAGE * sizeof(entry));

    if (pagemap < 0)
        pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pread(pagemap, &entry, sizeof(entry), at) != sizeof(entry) || !(entry >> 63))
        return NO_GPA;
    return (entry & ((1ull << 55) - 1)) * PAGE;
}

void *piece_address(unsigned piece)
{
    return (char *)memory + piece * PIECE;
}

/* A piece's guest-physical address if it is one aligned 2 MiB extent there, else NO_GPA. */
uint64_t piece_gpa(unsigned piece)
{
    char *start = piece_address(piece);
    uint64_t gpa = gpa_of(start);

    if (gpa == NO_GPA || gpa % PIECE)
        return NO_GPA;
    return gpa_of(start + PIECE - PAGE) == gpa + PIECE - PAGE ? gpa : NO_GPA;
}

void reserve_pages(unsigned max_pieces)
{
    size_t room = max_pieces * PIECE, pages = (size_t)max_pieces * PIECE_PAGES;
    char *start = mmap(NULL, room + PIECE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        give_up("reserving the footprint");
    start += (PIECE - (uintptr_t)start % PIECE) % PIECE;
    madvise(start, room, MADV_HUGEPAGE);
    memory = (uint64_t *)(void *)start;
    table = calloc(pages, sizeof(*table));
    page_bad = calloc(pages, 1);
    if (!table || !page_bad)
        give_up("allocating the table of pages");
}

static uint64_t base_of(size_t index)
{
    return (index + cfg.seed + 1) * 0x9e3779b97f4a7c15ull;
}

/* Word i of a fresh page is base + i * base, so that its sum needs no second look. */
static void fill_page(size_t index)
{
    uint64_t base = base_of(index), word = base, *page = page_at(index);

    for (int i = 0; i < WORDS; i += 4, word += 4 * base) {
        page[i] = word;
        page[i + 1] = word + base;
        page[i + 2] = word + 2 * base;
        page[i + 3] = word + 3 * base;
    }
    table[index] = (struct page_state){ base * (WORDS * (WORDS + 1ull) / 2), base };
    page_bad[index] = 0;
}

static uint64_t sum_page(const uint64_t *page)
{
    uint64_t a = 0, b = 0;

    for (int i = 0; i < WORDS; i += 4) {
        a += page[i] + page[i + 2];
        b += page[i + 1] + page[i + 3];
    }
    return a + b;
}

static void report_bad(size_t index, const char *what, uint64_t expected, uint64_t found)
{
    if (page_bad[index])
        return;
    page_bad[index] = 1;
    count_up(&bad, 1);
    if (atomic_load(&bad) <= 16)
        say("VMT BAD page=%zu gpa=0x%llx what=%s expected=0x%llx found=0x%llx", index,
            (unsigned long long)gpa_of(page_at(index)), what, (unsigned long long)expected,
            (unsigned long long)found);
}

static bool verify_page(size_t index)
{
    uint64_t sum = sum_page(page_at(index));

    count_up(&verified, 1);
    if (sum == table[index].sum)
        return true;
    report_bad(index, "sum", table[index].sum, sum);
    return false;
}

static void read_lines(const uint64_t *page, unsigned line)
{
    uint64_t got = 0;

    for (int i = 0; i < TOUCHED_LINES; i++, line = (line + LINE_STEP) % LINES)
        got += page[line * LINE_WORDS + 1];
    sink = got;
}

/* Word 0 counts the page's changes, the other touched words grow by a random amount. */
static void change_lines(size_t index, uint64_t *page, unsigned line, uint64_t by)
{
    for (int i = 0; i < TOUCHED_LINES; i++, line = (line + LINE_STEP) % LINES)
        page[line * LINE_WORDS + 1] += by;
    page[0]++;
    table[index].first++;
    table[index].sum += by * TOUCHED_LINES + 1;
}

static void visit(size_t index, uint64_t dice, bool write)
{
    uint64_t *page = page_at(index);
    unsigned line = dice % LINES;

    if (page[0] != table[index].first)
        report_bad(index, "first", table[index].first, page[0]);
    if (write)
        change_lines(index, page, line, dice | 1);
    else
        read_lines(page, line);
    if ((dice >> 6) % 64 == 0)
        verify_page(index);
}

/* One random number is cut up: 6 bits line, 6 verify, 9 page, 10 share, 10 write, 22 piece. */
void visit_some(void)
{
    uint64_t writes = cfg.writes * 1024 / 100;

    for (int i = 0; i < BATCH; i++) {
        uint64_t dice = next_random();

        visit(pick_page(dice), dice, (dice >> 31) % 1024 < writes);
    }
    count_up(&ops, BATCH);
}

void sweep(uint64_t unused)
{
    size_t pages = (size_t)pieces * PIECE_PAGES, wrong = 0;
    uint64_t start = now_ms();

    (void)unused;
    for (size_t i = 0; i < pages; i++)
        wrong += !verify_page(i);
    say("VMT SWEEP bad=%zu pages=%zu ms=%llu", wrong, pages,
        (unsigned long long)(now_ms() - start));
}

/* mlock() keeps the kernel from migrating the pages, so a guest-physical address stays right. */
void fill_piece(unsigned piece)
{
    size_t first = (size_t)piece * PIECE_PAGES;

    for (size_t i = 0; i < PIECE_PAGES; i++)
        fill_page(first + i);
    mlock(page_at(first), PIECE);
}

void drop_pieces(unsigned first, unsigned count)
{
    void *start = page_at((size_t)first * PIECE_PAGES);

    munlock(start, count * PIECE);
    madvise(start, count * PIECE, MADV_DONTNEED);
}
