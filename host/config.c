// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration: a GKeyFile with the groups [daemon], [host], [tier NAME], [vm default] and [vm NAME].
 *
 * Each group's keys are a table of setters; a key that is not in the table is an error that names
 * it, so that a misspelt quota is not a missing quota.
 */
#include "host/config.h"
#include "common/wire.h"
#include "host/error.h"
#include "host/policy/policy.h"
#include "host/size.h"
#include "host/source/id.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static const char *const mode_names[] = { "off", "observe", "on" };
static_assert(G_N_ELEMENTS(mode_names) == VM_MODE_COUNT, "a mode has no name");

/* As the manual says to set it up, and as libvirt does since 9.7, and did before. */
#define AGENT_CHANNELS                                                                             \
    "/run/vmtier/agent/%n.sock:"                                                                   \
    "/run/libvirt/qemu/channel/*-%s/org.vmtier.agent.0:"                                           \
    "/var/lib/libvirt/qemu/channel/target/domain-*-%s/org.vmtier.agent.0"

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EINVAL, __VA_ARGS__), false)

const char *vm_mode_name(enum vm_mode mode)
{
    return mode_names[mode];
}

bool vm_mode_parse(const char *text, enum vm_mode *mode, GError **error)
{
    for (int i = 0; i < VM_MODE_COUNT; i++)
        if (!strcmp(text, mode_names[i])) {
            *mode = (enum vm_mode)i;
            return true;
        }
    return FAIL(error, "mode '%s': it is on, observe or off", text);
}

bool quota_parse(const char *text, struct quota *quota, GError **error)
{
    size_t n = strlen(text);
    char *end;

    *quota = (struct quota){ 0 };
    if (n && text[n - 1] == '%') {
        double percent = g_ascii_strtod(text, &end);

        if (end != text + n - 1 || !(percent > 0) || percent > 100)
            return FAIL(error, "quota '%s': a share of the VM's RAM is above 0 and up to 100%%",
                        text);
        quota->share = percent / 100;
        return true;
    }
    if (!size_parse(text, &quota->bytes, error)) {
        g_prefix_error(error, "quota: ");
        return false;
    }
    return quota->bytes > 0 || FAIL(error, "quota '%s': a VM needs some dram; use mode=off to leave "
                                    "it alone", text);
}

guint64 quota_in_bytes(const struct quota *quota, guint64 ram)
{
    return quota->bytes ? quota->bytes : (guint64)(quota->share * (double)ram);
}

bool quota_is_given(const struct quota *quota)
{
    return quota->bytes || quota->share > 0;
}

/* --- [vm] ----------------------------------------------------------------------------------------- */

static bool set_quota(struct vm_config *vm, const char *value, GError **error)
{
    return quota_parse(value, &vm->quota, error);
}

static bool set_min(struct vm_config *vm, const char *value, GError **error)
{
    vm->min = (struct quota){ 0 };
    return !strcmp(value, "0") || quota_parse(value, &vm->min, error);
}

static bool set_weight(struct vm_config *vm, const char *value, GError **error)
{
    guint64 weight;

    if (!g_ascii_string_to_unsigned(value, 10, 1, VM_WEIGHT_MOST, &weight, NULL))
        return FAIL(error, "'%s': it is 1 to %u, and %u is usual", value, VM_WEIGHT_MOST, VM_WEIGHT);
    vm->weight = (guint)weight;
    return true;
}

static bool set_mode(struct vm_config *vm, const char *value, GError **error)
{
    return vm_mode_parse(value, &vm->mode, error);
}

static bool set_rate(struct vm_config *vm, const char *value, GError **error)
{
    g_autofree char *size = g_str_has_suffix(value, "/s") ? g_strndup(value, strlen(value) - 2)
                                                          : g_strdup(value);
    return size_parse(size, &vm->rate, error);
}

static bool set_granule(struct vm_config *vm, const char *value, GError **error)
{
    guint64 bytes;

    if (!size_parse(value, &bytes, error))
        return false;
    if (bytes < VT_GRANULE_MIN || bytes > VT_GRANULE_MAX || (bytes & (bytes - 1)))
        return FAIL(error, "granule '%s': a power of two from 4K to 1G, usually 2M", value);
    vm->granule = bytes;
    return true;
}

static bool set_sources(struct vm_config *vm, const char *value, GError **error)
{
    g_auto(GStrv) names = g_strsplit(value, ",", -1);

    vm->sources = 0;
    for (char **n = names; *n; n++) {
        g_autofree char *all = source_names();
        enum source_id id;

        if (!source_parse(g_strstrip(*n), &id))
            return FAIL(error, "sources: there is no '%s'; there are %s", *n, all);
        vm->sources |= 1u << id;
    }
    return true;
}

static bool set_number(guint32 *to, const char *value, guint64 low, guint64 high, GError **error)
{
    guint64 n;

    if (!g_ascii_string_to_unsigned(value, 10, low, high, &n, error))
        return false;
    *to = (guint32)n;
    return true;
}

static bool set_period(struct vm_config *vm, const char *value, GError **error)
{
    return set_number(&vm->sample_period, value, 1, 1000000, error);
}

static bool set_budget(struct vm_config *vm, const char *value, GError **error)
{
    return set_number(&vm->probe_budget_us, value, 100, 100000, error);
}

/* Which PMUs there are is looked at when the source starts. */
static bool set_event(struct vm_config *vm, const char *value, GError **error)
{
    vm->ibs_event = *value ? g_intern_string(value) : NULL;
    return !*value || g_str_is_ascii(value) || FAIL(error, "'%s' is no event", value);
}

static bool set_event_rate(struct vm_config *vm, const char *value, GError **error)
{
    return set_number(&vm->ibs_rate, value, 1, 100000, error);
}

static bool set_sample_use(struct vm_config *vm, const char *value, GError **error)
{
    vm->sample_places = !strcmp(value, "place");
    return vm->sample_places || !strcmp(value, "measure") ||
           FAIL(error, "sample-use '%s': it is place or measure", value);
}

static bool set_policy(struct vm_config *vm, const char *value, GError **error)
{
    g_autofree char *names = policy_names();

    vm->policy = policy_find(value);
    return vm->policy || FAIL(error, "there is no '%s'; there are %s", value, names);
}

static bool set_path(const char **to, const char *value, GError **error)
{
    *to = g_intern_string(value);       /* settings are copied, and live as long as we do */
    return g_path_is_absolute(value) || FAIL(error, "'%s' has to begin with /", value);
}

static bool set_pidfile(struct vm_config *vm, const char *value, GError **error)
{
    return set_path(&vm->pidfile, value, error);
}

static bool set_monitor(struct vm_config *vm, const char *value, GError **error)
{
    return set_path(&vm->monitor, value, error);
}

static bool set_interleave(struct vm_config *vm, const char *value, GError **error)
{
    return weights_parse(value, vm->tier_name, &vm->interleave, error);
}

static bool set_pin(struct vm_config *vm, const char *value, GError **error)
{
    return pins_parse(value, vm->tier_name, &vm->pins, error);
}

static bool set_agent(struct vm_config *vm, const char *value, GError **error)
{
    return set_path(&vm->agent, value, error);
}

static const struct {
    const char *key;
    bool (*set)(struct vm_config *vm, const char *value, GError **error);
} vm_keys[] = {
    { "quota", set_quota },     { "quota-min", set_min },   { "weight", set_weight },
    { "mode", set_mode },       { "rate", set_rate },
    { "granule", set_granule }, { "sources", set_sources }, { "sample-period", set_period },
    { "probe-budget-us", set_budget },                      { "sample-use", set_sample_use },
    { "ibs-event", set_event }, { "ibs-rate", set_event_rate },
    { "policy", set_policy },   { "pidfile", set_pidfile }, { "monitor", set_monitor },
    { "agent", set_agent },     { "interleave", set_interleave },                       { "pin", set_pin },
};

bool vm_config_set(struct vm_config *vm, const char *key, const char *value, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(vm_keys); i++)
        if (!strcmp(key, vm_keys[i].key)) {
            if (vm_keys[i].set(vm, value, error))
                return true;
            g_prefix_error(error, "%s: ", key);
            return false;
        }
    return FAIL(error, "unknown key '%s'", key);
}

static bool set_vm_key(gpointer vm, const char *key, const char *value, GError **error)
{
    return vm_config_set(vm, key, value, error);
}

/* --- a group ---------------------------------------------------------------------------------------- */

/* Hands each key of a group, and its value without blanks around it, to `set`. */
static bool read_keys(GKeyFile *file, const char *group,
                      bool (*set)(gpointer to, const char *key, const char *value, GError **error),
                      gpointer to, GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, group, NULL, error);

    for (char **k = keys; k && *k; k++) {
        g_autofree char *value = g_key_file_get_string(file, group, *k, error);

        if (!value || !set(to, *k, g_strstrip(value), error))
            return false;
    }
    return keys != NULL;
}

/* --- [daemon] ---------------------------------------------------------------------------------------- */

bool log_level_parse(const char *text, GLogLevelFlags *level, GError **error)
{
    static const struct {
        const char *name;
        GLogLevelFlags level;
    } levels[] = {
        { "error", G_LOG_LEVEL_CRITICAL }, { "warning", G_LOG_LEVEL_WARNING },
        { "message", G_LOG_LEVEL_MESSAGE }, { "info", G_LOG_LEVEL_INFO },
        { "debug", G_LOG_LEVEL_DEBUG },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(levels); i++)
        if (!strcmp(text, levels[i].name)) {
            *level = levels[i].level;
            return true;
        }
    return FAIL(error, "log level '%s': it is error, warning, message, info or debug", text);
}

/* libvirt=off is like nothing at all. */
static bool set_text(struct config *c, const char *key, const char *value)
{
    const struct {
        const char *key;
        char **to;
    } keys[] = {
        { "vmm-socket", &c->vmm_socket }, { "qmp-socket", &c->qmp_socket },
        { "vmm-group", &c->vmm_group },   { "libvirt", &c->libvirt },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        if (!strcmp(key, keys[i].key)) {
            g_free(*keys[i].to);
            *keys[i].to = strcmp(key, "libvirt") || strcmp(value, "off") ? g_strdup(value) : NULL;
            return true;
        }
    return false;
}

static bool set_daemon_key(gpointer to, const char *key, const char *value, GError **error)
{
    struct config *c = to;

    if (!strcmp(key, "log-level"))
        return log_level_parse(value, &c->log_level, error);
    return set_text(c, key, value) || FAIL(error, "unknown key '%s'", key);
}

static bool set_host_key(gpointer host, const char *key, const char *value, GError **error)
{
    return host_config_set(host, key, value, error);
}

/* --- the file ----------------------------------------------------------------------------------------- */

static struct config *config_new(void)
{
    struct config *c = g_new0(struct config, 1);

    c->vmm_socket = g_strdup("/run/vmtier/vmm.sock");
    c->qmp_socket = g_strdup("/run/vmtier/qmp.sock");
    c->log_level = G_LOG_LEVEL_MESSAGE;
    config_tiers_init(c);
    c->host = (struct host_config){ .arbiter = ARBITER_THROUGHPUT, .rate = 256 << 20 };
    c->defaults = (struct vm_config){
        .quota = { .share = 0.25 },
        .weight = VM_WEIGHT,
        .mode = VM_ON,
        .rate = 256 << 20,
        .granule = 2 << 20,
        .sources = SOURCES_BY_DEFAULT,
        .agent = AGENT_CHANNELS,
        .sample_period = 64,
        .ibs_rate = 1000,
        .probe_budget_us = 2500,    /* of 250 ms: one per cent of a core */
        .sample_places = true,
        .policy = &policy_cbx,
        .tier_name = (const char *const *)c->tier_name,
    };
    c->vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return c;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    g_free(c->vmm_socket);
    g_free(c->qmp_socket);
    g_free(c->vmm_group);
    g_free(c->libvirt);
    g_ptr_array_unref(c->tiers);
    g_hash_table_unref(c->vms);
    g_free(c);
}

static bool read_group(GKeyFile *file, const char *group, struct config *c, GError **error)
{
    struct vm_config vm = c->defaults;

    if (!strcmp(group, "daemon"))
        return read_keys(file, group, set_daemon_key, c, error);
    if (!strcmp(group, "host"))
        return read_keys(file, group, set_host_key, &c->host, error);
    if (g_str_has_prefix(group, "tier ") || !strcmp(group, "vm default"))
        return true;                        /* read first, see read_groups() */
    if (!g_str_has_prefix(group, "vm "))
        return FAIL(error, "unknown group");
    if (!read_keys(file, group, set_vm_key, &vm, error))
        return false;
    g_hash_table_insert(c->vms, g_strdup(group + strlen("vm ")),
                        g_memdup2(&vm, sizeof(vm)));
    return true;
}

/* Tiers come first, as others name them. */
static bool read_tiers(GKeyFile *file, char **groups, const char *path, struct config *c, GError **error)
{
    for (char **g = groups; *g; g++) {
        struct tier_config *t;

        if (!g_str_has_prefix(*g, "tier "))
            continue;
        t = config_add_tier(c, *g + strlen("tier "), error);
        if (!t || !read_keys(file, *g, config_set_tier_key, t, error)) {
            g_prefix_error(error, "%s: [%s]: ", path, *g);
            return false;
        }
    }
    return true;
}

static bool read_groups(GKeyFile *file, const char *path, struct config *c, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);

    if (!read_tiers(file, groups, path, c, error) || (c->tiers->len < 2 && !config_add_tier(c, "cxl", error)))
        return false;
    if (g_key_file_has_group(file, "vm default") &&
        !read_keys(file, "vm default", set_vm_key, &c->defaults, error)) {
        g_prefix_error(error, "%s: [vm default]: ", path);
        return false;
    }
    if (c->defaults.pidfile || c->defaults.monitor)
        return FAIL(error, "%s: [vm default]: pidfile and monitor are of one VM", path);
    if (c->defaults.pins.n)
        return FAIL(error, "%s: [vm default]: a pin is of one VM", path);
    for (char **g = groups; *g; g++)
        if (!read_group(file, *g, c, error)) {
            g_prefix_error(error, "%s: [%s]: ", path, *g);
            return false;
        }
    return true;
}

struct config *config_load(const char *path, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(Config) c = config_new();
    const char *name = path ? path : CONFIG_FILE;

    if (path || g_file_test(name, G_FILE_TEST_EXISTS)) {
        if (!g_key_file_load_from_file(file, name, G_KEY_FILE_NONE, error)) {
            g_prefix_error(error, "%s: ", name);
            return NULL;
        }
        if (!read_groups(file, name, c, error))
            return NULL;
    }
    if (c->tiers->len < 2 && !config_add_tier(c, "cxl", error))     /* there is no file */
        return NULL;
    return g_steal_pointer(&c);
}

static bool check_pins(const char *name, const struct vm_config *vm, GError **error)
{
    for (guint i = 0; i < vm->pins.n; i++) {
        const struct pin *pin = &vm->pins.pin[i];

        if ((pin->gpa | pin->size) % vm->granule)
            return FAIL(error, "[vm %s]: pin: 0x%" G_GINT64_MODIFIER "x, %" G_GUINT64_FORMAT " bytes: these are "
                        "no whole granules of %" G_GUINT64_FORMAT, name, pin->gpa, pin->size, vm->granule);
    }
    if (vm->quota.bytes && pins_bytes(&vm->pins, 0) > vm->quota.bytes)
        return FAIL(error, "[vm %s]: pin: %" G_GUINT64_FORMAT " bytes are pinned to dram, and the quota is %"
                    G_GUINT64_FORMAT, name, pins_bytes(&vm->pins, 0), vm->quota.bytes);
    return true;
}

static bool check_vm(const char *name, const struct vm_config *vm, GError **error)
{
    if ((vm->quota.bytes && vm->min.bytes > vm->quota.bytes) || vm->min.share > 1 ||
        (vm->quota.share > 0 && vm->min.share > vm->quota.share))
        return FAIL(error, "[vm %s]: quota-min is above quota", name);
    if (!check_pins(name, vm, error))
        return false;
    if (!vm->quota.bytes || vm->quota.bytes >= vm->granule)
        return true;
    return FAIL(error, "[vm %s]: quota of %" G_GUINT64_FORMAT " bytes: less than one granule of %"
                G_GUINT64_FORMAT, name, vm->quota.bytes, vm->granule);
}

bool config_check(const struct config *config, GError **error)
{
    GHashTableIter iter;
    gpointer name, vm;

    if (!config_check_tiers(config, error))
        return false;
    g_hash_table_iter_init(&iter, config->vms);
    while (g_hash_table_iter_next(&iter, &name, &vm))
        if (!check_vm(name, vm, error))
            return false;
    return check_vm("default", &config->defaults, error);
}

const struct vm_config *config_for_vm(const struct config *config, const char *name)
{
    const struct vm_config *vm = g_hash_table_lookup(config->vms, name);

    return vm ? vm : &config->defaults;
}
