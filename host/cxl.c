// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CXL decoders in sysfs: see cxl.h. An endpoint decoder has a piece of its device (dpa_resource, dpa_size)
 * and may be a target of a region, which says how the piece is interleaved with others. endpointN/uport
 * leads to the device.
 */
#include "host/cxl.h"
#include "host/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WAYS_MOST 16
#define DEVICES_MOST 4096       /* entries of the directory that are looked at */

static char *read_text(const char *root, const char *device, const char *key)
{
    g_autofree char *path = g_build_filename(root, device, key, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? g_strstrip(text) : NULL;
}

static bool read_number(const char *root, const char *device, const char *key, guint64 *value)
{
    g_autofree char *text = read_text(root, device, key);
    char *end;

    if (!text || !g_ascii_isdigit(text[0]))
        return false;
    errno = 0;
    *value = g_ascii_strtoull(text, &end, 0);
    return !errno && !*end;
}

/* The memory device of a decoder "decoderX.Y" is that of its port, endpointX. */
static bool find_device(const char *root, const char *decoder, struct cxl_share *s)
{
    unsigned port = 0, instance = 0;
    g_autofree char *link = NULL, *target = NULL, *name = NULL;

    if (sscanf(decoder, "decoder%u.%u", &port, &instance) != 2)
        return false;
    link = g_strdup_printf("%s/endpoint%u/uport", root, port);
    target = g_file_read_link(link, NULL);
    if (!target)
        return false;
    name = g_path_get_basename(target);
    return g_str_has_prefix(name, "mem") &&
           g_strlcpy(s->device, name, sizeof(s->device)) < sizeof(s->device);
}

/* Which target of the region this decoder is. */
static bool find_position(const char *root, const char *region, const char *decoder,
                          struct cxl_share *s)
{
    for (guint32 i = 0; i < s->ways; i++) {
        g_autofree char *key = g_strdup_printf("target%u", i);
        g_autofree char *target = read_text(root, region, key);

        s->position = i;
        if (target && !strcmp(target, decoder))
            return true;
    }
    return false;
}

/* Numbers that can be a decoder's: what is computed with them cannot wrap. */
static bool sane(const struct cxl_share *s)
{
    return s->length && s->ways && s->granularity &&
           s->granularity <= 1 << 20 && !(s->granularity & (s->granularity - 1)) &&
           s->dpa < 1ull << 52 && s->length <= 1ull << 52 && s->hpa < 1ull << 52;
}

static bool read_interleave(const char *root, const char *name, struct cxl_share *s)
{
    guint64 ways;

    if (!read_number(root, name, "interleave_ways", &ways) || ways > WAYS_MOST ||
        !read_number(root, name, "interleave_granularity", &s->granularity))
        return false;
    s->ways = (guint32)ways;
    return true;
}

static bool read_share(const char *root, const char *decoder, struct cxl_share *s)
{
    g_autofree char *region = read_text(root, decoder, "region");
    bool in_region = region && region[0];

    if (!read_number(root, decoder, "dpa_size", &s->length) || !s->length ||
        !read_number(root, decoder, "dpa_resource", &s->dpa) || !find_device(root, decoder, s))
        return false;
    if (in_region && strchr(region, '/'))
        return false;
    if (!read_interleave(root, in_region ? region : decoder, s) ||
        !read_number(root, in_region ? region : decoder, in_region ? "resource" : "start", &s->hpa))
        return false;
    s->position = 0;
    return sane(s) && (in_region ? find_position(root, region, decoder, s) : s->ways == 1);
}

GArray *cxl_shares(const char *root, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(root, 0, NULL);
    GArray *shares;
    const char *name;

    if (!dir) {
        g_set_error(error, VMT_ERROR, ENOENT, "%s: this host shows no CXL devices", root);
        return NULL;
    }
    shares = g_array_new(FALSE, FALSE, sizeof(struct cxl_share));
    for (guint i = 0; i < DEVICES_MOST && (name = g_dir_read_name(dir)); i++) {
        struct cxl_share s = { 0 };

        if (g_str_has_prefix(name, "decoder") && read_share(root, name, &s))
            g_array_append_val(shares, s);
    }
    return shares;
}

bool cxl_hpa(const GArray *shares, const char *device, guint64 dpa, guint64 *hpa, guint64 *left,
             GError **error)
{
    bool known = false;

    for (guint i = 0; i < shares->len; i++) {
        const struct cxl_share *s = &g_array_index(shares, struct cxl_share, i);
        guint64 offset = dpa - s->dpa, g = s->granularity;

        if (strcmp(s->device, device) != 0)
            continue;
        known = true;
        if (dpa < s->dpa || offset >= s->length)
            continue;
        *hpa = s->hpa + (offset / g * s->ways + s->position) * g + offset % g;
        *left = s->ways == 1 ? s->length - offset : MIN(g - offset % g, s->length - offset);
        return true;
    }
    if (known)
        g_set_error(error, VMT_ERROR, ENXIO, "no decoder maps address %#" G_GINT64_MODIFIER "x of %s", dpa,
                    device);
    else
        g_set_error(error, VMT_ERROR, ENODEV, "there is no CXL device '%.16s' with mapped memory", device);
    return false;
}
