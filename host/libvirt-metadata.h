// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a libvirt domain says of tiering: the element <tiering xmlns="urn:vmtier:libvirt:1"> in its
 * <metadata>. vmtier-domain(5) describes it, libvirt-hooks/vmtier-tiering.rng is its schema.
 */
#ifndef VMTIER_LIBVIRT_METADATA_H
#define VMTIER_LIBVIRT_METADATA_H

#include "host/config.h"
#include "host/libvirt-xml.h"

#define TIERING_PINS        32
#define TIERING_TIER_NAME   16

struct tiering_pin {
    char tier[TIERING_TIER_NAME];
    guint64 gpa, size;
};

struct tiering_share {
    char tier[TIERING_TIER_NAME];
    guint32 share;
};

/* What is not given is all zeros. */
struct tiering {
    bool given;                 /* there is an element */
    long line;
    enum vm_mode mode;
    bool required;              /* rather no start than one without this */
    struct quota min, max;      /* of dram */
    guint32 weight;
    guint64 granule;
    struct tiering_pin pin[TIERING_PINS];
    guint n_pins;
    struct tiering_share interleave[VT_TIERS];
    guint n_interleave;
};

/* The rest that we want to know of a domain. */
struct domain_facts {
    char *name, *uuid;
    guint64 memory;             /* bytes it may have at most; 0: not said */
    bool plugin;                /* QEMU is given vmtier's plugin */
    bool required;              /* <tiering required='yes'>, whatever else it says */
};
void domain_facts_clear(struct domain_facts *facts);

/* From the element itself. An error names the line and what is wrong there; *tiering is zeroed then. */
bool tiering_read(const xmlNode *element, struct tiering *tiering, GError **error);

/* <tiering> in a <domain>'s metadata, or NULL. */
xmlNode *tiering_element(const xmlNode *domain);

/*
 * From a whole domain, or <domstatus> that has one. `facts` are set as far as they can be even if it is
 * <tiering> that is wrong: clear them in any case. The domain itself being unreadable leaves no name.
 */
bool domain_read(const char *text, gsize size, struct domain_facts *facts, struct tiering *tiering,
                 GError **error);

/* "mode on, dram max 1 GiB": for logs and views. g_free() it. */
char *tiering_summary(const struct tiering *tiering);

/* Its weights and pins with the host's tiers (see interleave.h): false where there is no such tier. */
bool tiering_spread(const struct tiering *tiering, const char *const *names, struct weights *weights,
                    struct pins *pins, GError **error);

/* Do its pins fit the granule, and those to dram its max, in a domain with so much memory (0: not known)? */
bool tiering_check_pins(const struct tiering *tiering, const struct pins *pins, guint64 granule, guint64 memory,
                        GError **error);

bool tiering_equal(const struct tiering *a, const struct tiering *b);     /* whatever their lines */

/* As a domain that has nothing else: what domain_read() takes. g_free() it. */
char *tiering_write(const struct tiering *tiering, const struct domain_facts *facts);

#endif
