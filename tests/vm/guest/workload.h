// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The test guest's workload: what its parts share. PROTOCOL.txt is the manual.
 *
 *     port.c      lines out, and the numbers in them in
 *     pages.c     the footprint's pages: contents, sums, visits, sweeps
 *     hotset.c    which pieces are there, and which of them are hot
 *     pool.c      a process of its own with a buffer, on command
 *     pick.c      which page is visited next
 *     disk.c      direct I/O on the disks, in threads of its own, if asked for
 *     workload.c  settings, threads, commands
 *
 * Three threads: the worker alone touches the pages, their table and the hot set; the beat thread
 * reports the counters; the main thread reads commands and has the worker carry them out.
 */
#ifndef VMT_WORKLOAD_H
#define VMT_WORKLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

enum {
    PAGE = 4096,
    PIECE_PAGES = 512,
};
#define PIECE ((size_t)PAGE * PIECE_PAGES)
#define NO_GPA UINT64_MAX

enum mode {
    MODE_HOTSET, MODE_ZIGZAG, MODE_SCAN, MODE_ZIPF, MODE_UNIFORM, MODE_VERIFY, MODE_IDLE, MODE_COUNT
};

struct config {
    uint64_t foot, hot;             /* bytes */
    uint64_t share, writes;         /* percent of the visits: to the hot set, that write */
    uint64_t shift, shifts;         /* seconds to a jump, number of jumps */
    uint64_t zipf, dwell;           /* exponent, in hundredths; a scan's visits to a page */
    uint64_t seed;
    uint64_t disk, disk_writes;     /* threads of direct disk I/O; whether they write */
    uint64_t disk_size;             /* bytes they read or write at a time */
    uint64_t other_disk;            /* threads that read the second disk */
    enum mode mode;
};
extern struct config cfg;

/* Counters with one writer, the worker. */
extern atomic_ulong ops, verified, bad;
extern atomic_uint phase;

/* Written by hotset.c, read by pages.c. */
extern unsigned pieces;             /* of the footprint; `grow` and `free` change it */
extern unsigned *hot, hot_count;

/* port.c */
int open_port(const char *path);
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);
__attribute__((noreturn)) void give_up(const char *what);
uint64_t parse_size(const char *text);
uint64_t now_ms(void);

/* pages.c */
void reserve_pages(unsigned max_pieces);
void fill_piece(unsigned piece);
void drop_pieces(unsigned first, unsigned count);
void *piece_address(unsigned piece);
uint64_t piece_gpa(unsigned piece);
uint64_t next_random(void);
void visit_some(void);
void sweep(uint64_t unused);

/* pick.c: a page's number, by a random one of which it uses the bits that visit_some() says */
void prepare_picks(void);           /* after the hot set has changed */
size_t pick_page(uint64_t dice);

/* hotset.c */
void make_footprint(void);
unsigned huge_pieces(void);
void choose_hot(uint64_t unused);
void print_hot(uint64_t unused);
void print_pieces(uint64_t unused);
void release(uint64_t bytes);
void grow(uint64_t bytes);

/* disk.c */
void start_disks(void);

/* pool.c */
int run_pool(const char *size);         /* returns when a page is bad */

#endif
