// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The command vmtier-report: checks a batch of accesses and leaves it with its VM. Runs in the main thread.
 * DPAs become HPAs here, as that needs no VM and an error can still be told.
 */
#include "host/cxl.h"
#include "host/daemon.h"
#include "host/source/report.h"

#include <math.h>
#include <string.h>

#define BATCH_MOST  16384
#define WEIGHT_MOST 1e9
#define AGE_MOST    3600.0
#define CXL_OLD_S   10

#define FAIL(error, ...) (g_set_error(error, VMT_QMP_ERROR, VMT_QMP_ERROR_GENERIC, __VA_ARGS__), false)

static const char *cxl_root = CXL_SYSFS;
static GArray *cxl;             /* decoders as of cxl_read_us */
static gint64 cxl_read_us;

void report_set_cxl_root(const char *path)
{
    cxl_root = path ? path : CXL_SYSFS;
    g_clear_pointer(&cxl, g_array_unref);
}

/* What all of a batch have in common, and what one takes that says nothing else. */
struct batch {
    struct vm *vm;
    enum report_space space;
    const char *device;         /* whose DPAs they are, or NULL */
    double age;
    gint64 now_us;
    GArray *reports;
};

/* --- numbers ------------------------------------------------------------------------------------ */

static bool read_u64(JsonNode *node, guint64 *value)
{
    gint64 n;

    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64)
        return false;
    n = json_node_get_int(node);
    *value = (guint64)n;
    return n >= 0;
}

static bool read_double(JsonNode *node, double low, double high, double *value)
{
    GType type = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_INVALID;

    if (type != G_TYPE_INT64 && type != G_TYPE_DOUBLE)
        return false;
    *value = type == G_TYPE_INT64 ? (double)json_node_get_int(node) : json_node_get_double(node);
    return isfinite(*value) && *value >= low && *value <= high;
}

/* --- one report --------------------------------------------------------------------------------- */

static bool read_members(JsonObject *o, struct report *r, double *age, guint at, GError **error)
{
    double weight = 1;
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;

    json_object_iter_init_ordered(&iter, o);
    while (json_object_iter_next_ordered(&iter, &key, &node)) {
        if (!strcmp(key, "address") ? read_u64(node, &r->address)
            : !strcmp(key, "size") ? read_u64(node, &r->size) && r->size
            : !strcmp(key, "weight") ? read_double(node, 1e-6, WEIGHT_MOST, &weight)
            : !strcmp(key, "age_s") ? read_double(node, 0, AGE_MOST, age) : false)
            continue;
        return FAIL(error, "accesses: element %u: '%.40s' is unknown, or its value no good: address from 0, "
                    "size from 1, weight above 0 up to %.0e, age_s from 0 to %.0f", at, key, WEIGHT_MOST,
                    AGE_MOST);
    }
    r->weight = (float)weight;
    return json_object_has_member(o, "address") || FAIL(error, "accesses: element %u has no address", at);
}

/* A report spans as much as one round can take in passing. */
static bool check_span(const struct batch *b, const struct report *r, guint at, GError **error)
{
    guint64 most = b->space == REPORT_HPA ? REPORT_PAGES * 4096 : REPORT_SPAN * b->vm->config.granule;

    if (r->size <= most && r->address <= G_MAXINT64 - most)
        return true;
    return FAIL(error, "accesses: element %u spans %" G_GUINT64_FORMAT " bytes; %" G_GUINT64_FORMAT
                " are the most, below the end of the address space", at, r->size, most);
}

static void add_report(struct batch *b, struct report *r, double age)
{
    r->space = b->space;
    r->at_us = b->now_us - (gint64)(age * 1e6);
    g_array_append_val(b->reports, *r);
}

/* What lies next to each other on an interleaved device does not in the host. */
static bool add_dpa(struct batch *b, const struct report *r, double age, GError **error)
{
    for (guint64 at = r->address, end = r->address + r->size; at < end;) {
        struct report piece;
        guint64 left;

        if (!cxl_hpa(cxl, b->device, at, &piece.address, &left, error))
            return false;
        piece.size = MIN(left, end - at);
        piece.weight = (float)(r->weight * (double)piece.size / (double)r->size);
        add_report(b, &piece, age);
        at += piece.size;
    }
    return true;
}

static bool read_one(struct batch *b, JsonNode *node, guint at, GError **error)
{
    struct report r = { .size = 1, .weight = 1 };
    double age = b->age;

    if (JSON_NODE_HOLDS_OBJECT(node)) {
        if (!read_members(json_node_get_object(node), &r, &age, at, error))
            return false;
    } else if (!read_u64(node, &r.address)) {
        return FAIL(error, "accesses: element %u is neither an address nor an object with one", at);
    }
    if (!check_span(b, &r, at, error))
        return false;
    if (b->device)
        return add_dpa(b, &r, age, error);
    add_report(b, &r, age);
    return true;
}

/* --- the batch ---------------------------------------------------------------------------------- */

static bool read_decoders(GError **error)
{
    gint64 now = g_get_monotonic_time();

    if (cxl && now - cxl_read_us < CXL_OLD_S * G_USEC_PER_SEC)
        return true;
    g_clear_pointer(&cxl, g_array_unref);
    cxl = cxl_shares(cxl_root, error);
    cxl_read_us = now;
    return cxl != NULL;
}

static bool read_space(JsonObject *args, struct batch *b, GError **error)
{
    static const char *const names[] = { "gpa", "hva", "hpa", "dpa" };
    const char *name = json_object_get_string_member(args, "space");
    bool has_device = json_object_has_member(args, "device");
    guint i = 0;

    while (i < G_N_ELEMENTS(names) && strcmp(names[i], name) != 0)
        i++;
    if (i == G_N_ELEMENTS(names))
        return FAIL(error, "space '%.40s': it is gpa, hva, hpa or dpa", name);
    if (has_device != (i == REPORT_SPACES))
        return FAIL(error, "a device is named for addresses within one, that is with space dpa, and only "
                    "then");
    b->space = i == REPORT_SPACES ? REPORT_HPA : (enum report_space)i;
    if (!has_device)
        return true;
    b->device = json_object_get_string_member(args, "device");
    return read_decoders(error);
}

static bool read_batch(JsonObject *args, struct batch *b, GError **error)
{
    JsonArray *list = json_object_get_array_member(args, "accesses");
    guint n = json_array_get_length(list);

    if (json_object_has_member(args, "age_s") &&
        !read_double(json_object_get_member(args, "age_s"), 0, AGE_MOST, &b->age))
        return FAIL(error, "age_s: from 0 to %.0f seconds", AGE_MOST);
    if (!n || n > BATCH_MOST)
        return FAIL(error, "accesses: 1 to %d of them", BATCH_MOST);
    if (!read_space(args, b, error))
        return false;
    for (guint i = 0; i < n; i++) {
        if (!read_one(b, json_array_get_element(list, i), i, error))
            return false;
        if (b->reports->len > REPORT_QUEUE)
            return FAIL(error, "accesses: cut into the pieces of an interleaved device, they are more than "
                        "the %d that can wait", REPORT_QUEUE);
    }
    return true;
}

static JsonNode *report_command(JsonObject *args, gpointer opaque, GError **error)
{
    g_autoptr(GArray) reports = g_array_new(FALSE, FALSE, sizeof(struct report));
    struct batch b = { .reports = reports, .now_us = g_get_monotonic_time() };
    JsonObject *reply;
    JsonNode *node;

    b.vm = daemon_vm_arg(args, opaque, error);
    if (!b.vm || !read_batch(args, &b, error) ||
        !report_push(b.vm, (struct report *)(void *)reports->data, reports->len, error))
        return NULL;
    reply = json_object_new();
    json_object_set_int_member(reply, "queued", reports->len);
    node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, reply);
    return node;
}

static const struct qmp_arg report_args[] = {
    { "vm", QMP_STRING, true },      { "space", QMP_STRING, true }, { "device", QMP_STRING, false },
    { "age_s", QMP_NUMBER, false },  { "accesses", QMP_LIST, true }, { 0 },
};

const struct qmp_command report_commands[] = {
    { "vmtier-report", report_args, report_command },
    { 0 },
};
