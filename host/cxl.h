// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CXL's address decoders, as sysfs shows them: from an address within a device (DPA) to the host's (HPA).
 *
 * A region spreads host addresses over its targets: `granularity` bytes to each in turn. What lies at offset
 * o of the p-th target's share is at offset (o / g * ways + p) * g + o % g of the region. That is so for
 * 3, 6 and 12 ways as well; it is not where a host bridge picks the target by XOR of address bits, which
 * sysfs does not show.
 */
#ifndef VMTIER_CXL_H
#define VMTIER_CXL_H

#include <glib.h>
#include <stdbool.h>

#define CXL_SYSFS "/sys/bus/cxl/devices"

/* A piece of a device that is mapped. */
struct cxl_share {
    char device[16];            /* "mem0" */
    guint64 dpa, length;        /* bytes of the device */
    guint64 hpa;                /* of the region, or the decoder */
    guint32 ways, position;
    guint64 granularity;
};

/* Of struct cxl_share. Pieces whose decoders make no sense are left out; empty: there is no CXL memory. */
GArray *cxl_shares(const char *root, GError **error);

/* Where an address of a device is in the host's, and in *left for how many bytes. False with the reason. */
bool cxl_hpa(const GArray *shares, const char *device, guint64 dpa, guint64 *hpa, guint64 *left,
             GError **error);

#endif
