// SPDX-License-Identifier: GPL-2.0-or-later
/* From a sample to the granule that was accessed: see resolve.h. */
#include "host/perf/resolve.h"
#include "host/perf/ibs.h"

/* Where in the host an op's data is; 0: it does not count, which has been noted. */
static guint64 hpa_of_op(struct resolver *r, const struct perf_sample *sample)
{
    struct ibs_op op;

    if (ibs_decode(sample->raw, sample->raw_size, r->erratum, &op))
        r->bad++;
    else if (!ibs_reached_memory(&op))
        r->cached++;
    else if (!op.physical_valid || !op.physical)
        r->nowhere++;
    else
        return op.physical;
    return 0;
}

static guint64 hpa_of(struct resolver *r, const struct perf_sample *sample)
{
    if (r->space == EVENT_IBS)
        return hpa_of_op(r, sample);
    if (perf_in_guest(sample))
        r->guest++;
    else if (!sample->phys_addr)
        r->nowhere++;
    else
        return sample->phys_addr;
    return 0;
}

static bool find(struct resolver *r, const struct vm *vm, const struct perf_sample *sample, guint32 *granule)
{
    guint64 hpa;
    bool found;

    if (r->space == EVENT_VIRTUAL) {
        found = vm_granule_of_hva(vm, sample->addr, granule);
    } else {
        hpa = hpa_of(r, sample);
        if (!hpa)
            return false;
        found = rmap_find(r->map, hpa, granule);
    }
    r->nowhere += !found;
    return found;
}

bool resolve(struct resolver *r, const struct vm *vm, const struct perf_sample *sample, guint32 *granule)
{
    bool found = find(r, vm, sample, granule);

    r->seen++;
    r->placed += found;
    return found;
}
