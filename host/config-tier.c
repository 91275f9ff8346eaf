// SPDX-License-Identifier: GPL-2.0-or-later
/* [tier NAME]: the host's tiers, dram first, the others in the order of the file. */
#include "host/config.h"
#include "host/error.h"

#include <errno.h>
#include <string.h>

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EINVAL, __VA_ARGS__), false)

static void tier_config_free(gpointer data)
{
    struct tier_config *t = data;

    g_free(t->name);
    g_free(t->nodes);
    g_free(t->path);
    g_free(t);
}

static struct tier_config *add(struct config *c, const char *name)
{
    struct tier_config *t = g_new0(struct tier_config, 1);

    t->name = g_strdup(name);
    t->weight = 1;
    c->tier_name[c->tiers->len] = t->name;
    g_ptr_array_add(c->tiers, t);
    return t;
}

void config_tiers_init(struct config *c)
{
    c->tiers = g_ptr_array_new_with_free_func(tier_config_free);
    add(c, "dram");
}

/* Names stand in lists of tiers and weights, and are attributes in a domain's metadata. */
bool tier_name_is_good(const char *name)
{
    return strlen(name) <= 15 && g_ascii_isalpha(name[0]) &&
           !name[strspn(name, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_-.")];
}

struct tier_config *config_add_tier(struct config *c, const char *name, GError **error)
{
    for (guint i = 0; i < c->tiers->len; i++) {
        struct tier_config *t = g_ptr_array_index(c->tiers, i);

        if (!strcmp(t->name, name))
            return t;
    }
    if (tier_name_is_good(name) && c->tiers->len < VT_TIERS)
        return add(c, name);
    g_set_error(error, VMT_ERROR, EINVAL, c->tiers->len == VT_TIERS
                ? "dram and seven slower tiers are the most there can be"
                : "a tier has a name of 1 to 15 letters, digits, '-', '_' or '.', a letter first");
    return NULL;
}

static bool set_text(struct tier_config *t, char **to, const char *value, GError **error)
{
    if (to == &t->path && !strcmp(t->name, "dram"))
        return FAIL(error, "path=: QEMU itself makes the file of dram, where its mem-path= says");
    if (to == &t->path && value[0] != '/')
        return FAIL(error, "path=%s: it begins with a '/'", value);
    g_free(*to);
    *to = g_strdup(value);
    return true;
}

static bool set_weight(struct tier_config *t, const char *value, GError **error)
{
    guint64 weight;

    if (!strcmp(t->name, "dram"))
        return FAIL(error, "weight=: it is for what is cold, on the slower tiers; how much dram a VM has says "
                    "its quota");
    if (!g_ascii_string_to_unsigned(value, 10, 0, INTERLEAVE_WEIGHT_MOST, &weight, NULL))
        return FAIL(error, "weight=%s: it is 0 to %u, and 1 is usual", value, INTERLEAVE_WEIGHT_MOST);
    t->weight = (guint32)weight;
    return true;
}

bool config_set_tier_key(gpointer tier, const char *key, const char *value, GError **error)
{
    struct tier_config *t = tier;

    if (!strcmp(key, "nodes"))
        return set_text(t, &t->nodes, value, error);
    if (!strcmp(key, "path"))
        return set_text(t, &t->path, value, error);
    if (!strcmp(key, "weight"))
        return set_weight(t, value, error);
    if (!strcmp(key, "file"))
        return !strcmp(value, "memfd") ||
               FAIL(error, "file=%s: memfd is the only kind; for files elsewhere there is path=", value);
    return FAIL(error, "unknown key '%s': there are nodes=LIST, path=PATH, file=memfd and weight=N", key);
}

struct weights config_cold_weights(const struct config *c)
{
    struct weights w = { 0 };

    for (guint i = 1; i < c->tiers->len; i++)
        w.of[i] = ((struct tier_config *)g_ptr_array_index(c->tiers, i))->weight;
    return w;
}

bool config_check_tiers(const struct config *c, GError **error)
{
    const struct weights cold = config_cold_weights(c);

    return weights_sum(&cold) || FAIL(error, "all slower tiers have weight=0: where is what is cold to go?");
}
