// SPDX-License-Identifier: GPL-2.0-or-later
/* Runs cases of bench/lib/move.h and writes down what they gave: a line each, and JSON. */
#ifndef VMTIER_BENCH_REPORT_H
#define VMTIER_BENCH_REPORT_H

#include "bench/lib/move.h"

#include <json-glib/json-glib.h>

enum bench_kind { BENCH_SPEED, BENCH_STALL, BENCH_VCPU, BENCH_KINDS };

struct bench_row {
    enum bench_kind kind;
    struct bench_case c;
    double bar;                 /* least ratio to be reached; 0: none */
};

struct bench_report {
    JsonArray *list[BENCH_KINDS];
    guint misses;
};

void bench_report_begin(struct bench_report *r);
void bench_report_run(struct bench_report *r, const struct bench_row *row);

/* Kernel, processor and load, for any report. */
JsonObject *bench_machine(void);

/* Where a benchmark's results go: FILE below build/bench; g_free() it. */
char *bench_path(const char *file);

/* Any report, into a file of which the directory need not be there; false if that cannot be, with a word why. */
bool bench_write(JsonObject *o, const char *path);

/* Frees what bench_report_begin() has made; false if the file cannot be written. */
bool bench_report_write(struct bench_report *r, const char *path);

#endif
