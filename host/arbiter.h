// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The arbiter: who gets how much of the host's dram.
 *
 * Each VM has a guarantee (min), a limit (max) and a weight, and shows how hot its memory is as a curve:
 * the hottest byte first. The arbiter moves quota, a bounded amount at a time, in one of two ways:
 *   throughput  from where the next bytes are coldest to where they are hottest, times the weight: the
 *               most accesses in all are served from dram
 *   fair        from the VM that is served best to the one that is served worst, by the share of its
 *               accesses that dram serves, over the weight: the best guaranteed minimum
 * A gain has to be well above the loss, and more so if it takes back what was just given, and all that is worth
 * exchanging has to be worth beginning with: noise in the curves moves nothing to and fro. A VM of which
 * nothing is known yet keeps what it has.
 *
 * Nobody is ever given less than min, or more than max, and the quotas never add up to more than
 * the pool, as long as the guarantees do not.
 */
#ifndef VMTIER_ARBITER_H
#define VMTIER_ARBITER_H

#include <glib.h>
#include <stdbool.h>

enum arbiter_mode { ARBITER_OFF, ARBITER_THROUGHPUT, ARBITER_FAIR, ARBITER_MODES };
const char *arbiter_mode_name(enum arbiter_mode mode);
bool arbiter_mode_parse(const char *text, enum arbiter_mode *mode);

/* --- how hot a VM's memory is ------------------------------------------------------------------- */

#define CURVE_BINS 192          /* four per power of two of accesses per second and byte */

struct curve {
    double bytes[CURVE_BINS];   /* of memory in each bin; the coldest bin first */
    double rate[CURVE_BINS];    /* accesses per second into it */
    double total;               /* of all; 0: nothing is known */
};

void curve_clear(struct curve *c);
void curve_add(struct curve *c, guint64 bytes, double accesses_per_s);

/* Accesses per second into the hottest `bytes`. */
double curve_served(const struct curve *c, double bytes);

/* --- dividing ------------------------------------------------------------------------------------- */

struct share {
    guint64 min, max;           /* bytes; min <= max */
    guint weight;               /* 1.. ; 100 is usual */
    guint64 granule;
    const struct curve *curve;
    guint64 quota;              /* what it has, and afterwards what it should have */
    gint8 turn;                 /* of the arbiter's: it was given (1) or taken from (-1) lately */
    guint8 turned;              /* ... in so many rounds from now that does not count any more */
};

/*
 * Divides `pool` bytes, with at most `most` bytes changing hands. Where quotas exceed the pool, the
 * excess is taken at once.
 */
void arbiter_divide(enum arbiter_mode mode, struct share *share, guint n, guint64 pool,
                    guint64 most);

#endif
