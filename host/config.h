// SPDX-License-Identifier: GPL-2.0-or-later
/* What vmtierd is told: the file, and the flags that overrule it. */
#ifndef VMTIER_CONFIG_H
#define VMTIER_CONFIG_H

#include "host/arbiter.h"
#include "host/interleave.h"
#include "host/pin.h"
#include "vmtier/wire.h"

#include <glib.h>
#include <stdbool.h>

struct policy;

#define CONFIG_FILE "/etc/vmtier/vmtierd.conf"

#define VM_WEIGHT      100u     /* the usual one */
#define VM_WEIGHT_MOST 10000u

enum vm_mode { VM_OFF, VM_OBSERVE, VM_ON, VM_MODE_COUNT };
const char *vm_mode_name(enum vm_mode mode);
bool vm_mode_parse(const char *text, enum vm_mode *mode, GError **error);

/* A quota: bytes, or a share of the VM's RAM. */
struct quota {
    guint64 bytes;
    double share;               /* 0..1; used where bytes is 0 */
};
bool quota_parse(const char *text, struct quota *quota, GError **error);
guint64 quota_in_bytes(const struct quota *quota, guint64 ram);
bool quota_is_given(const struct quota *quota);

struct vm_config {
    struct quota quota;
    struct quota min;           /* what the arbiter leaves it at least */
    guint weight;               /* among those it divides the host's dram between */
    enum vm_mode mode;
    guint64 rate;               /* bytes moved per second, both directions; 0: none */
    guint64 granule;            /* bytes */
    guint32 sources;            /* mask of enum source_id */
    guint32 sample_period;
    guint32 probe_budget_us;    /* CPU per round for the refault scan */
    const char *ibs_event;      /* as perf(1) names it; NULL: the best that there is */
    guint32 ibs_rate;           /* samples per second */
    const struct policy *policy;
    bool sample_places;         /* samples drive placement; else they only measure */
    const char *agent;          /* where the channel to the guest's agent is: patterns, see agent-link.h */
    const char *pidfile;        /* attach the QEMU that it names, without the plugin; or NULL */
    const char *monitor;        /* that QEMU's QMP socket, or NULL */
    struct weights interleave;  /* of the hot set; all 0: it is in dram */
    struct pins pins;
    const char *const *tier_name;   /* the host's, up to a NULL; of the config */
    gint64 pid_refused, pid_left;   /* pids from it: the last one refused; one that was detached */
};

struct tier_config {
    char *name;
    char *nodes;                /* libnuma node string, or NULL */
    char *path;                 /* a directory or a file for its memory, or NULL */
    guint32 weight;             /* of a slower tier: its share of what is cold */
};

/* [host] */
struct host_config {
    guint64 dram;               /* bytes for all VMs together; 0: see reserve */
    guint64 reserve;            /* bytes of the dram nodes that are not for VMs; 0: and no pool at all */
    enum arbiter_mode arbiter;
    guint64 rate;               /* bytes of quota that may change hands in a second */
};

/* Sets one [host] key from text: config-host.c. */
bool host_config_set(struct host_config *host, const char *key, const char *value, GError **error);

struct config;

/* config-tier.c: [tier NAME]. There is dram from the start; a name comes once. */
bool tier_name_is_good(const char *name);
void config_tiers_init(struct config *config);
struct tier_config *config_add_tier(struct config *config, const char *name, GError **error);
bool config_set_tier_key(gpointer tier, const char *key, const char *value, GError **error);
bool config_check_tiers(const struct config *config, GError **error);
struct weights config_cold_weights(const struct config *config);

struct config {
    char *vmm_socket, *qmp_socket;
    char *vmm_group;            /* whose members may connect to vmm_socket, or NULL */
    char *libvirt;              /* the URI to connect to, or NULL */
    GLogLevelFlags log_level;   /* highest level that is printed */
    GPtrArray *tiers;           /* of struct tier_config; the first is dram */
    char *tier_name[VT_TIERS + 1];  /* theirs, in their order */
    struct host_config host;
    struct vm_config defaults;
    GHashTable *vms;            /* name -> struct vm_config */
};

/* Reads `path`; NULL: the default file, which may be absent. Fails naming file, group and key. */
struct config *config_load(const char *path, GError **error);
void config_free(struct config *config);
typedef struct config Config;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

/* What only makes sense together: a quota has room for a granule. Call it when flags are in, too. */
bool config_check(const struct config *config, GError **error);

/* The settings of a VM of this name. */
const struct vm_config *config_for_vm(const struct config *config, const char *name);

/* Sets one [vm] key from text; also for flags. */
bool vm_config_set(struct vm_config *vm, const char *key, const char *value, GError **error);

bool log_level_parse(const char *text, GLogLevelFlags *level, GError **error);

#endif
