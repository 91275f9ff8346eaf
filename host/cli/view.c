// SPDX-License-Identifier: GPL-2.0-or-later
/* What `status`, `top` and `sources` show: see view.h. */
#include "host/cli/view.h"

#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/cli/view-agent.h"

#define BAR_CELLS 10


/* A printf into a GString whose argument is freed: most texts here come from the heap. */
static void add(GString *out, const char *before, char *text /* take */, const char *behind)
{
    g_string_append(out, before);
    g_string_append(out, text);
    g_string_append(out, behind);
    g_free(text);
}

char *view_tier_name(JsonObject *tier)
{
    g_autofree char *name = fmt_safe(js_str(tier, "name"));

    return js_bool(tier, "emulated") ? g_strdup_printf("%s (emulated)", name)
                                     : g_steal_pointer(&name);
}

JsonObject *view_find_tier(JsonObject *vm, const char *name)
{
    JsonArray *tiers = js_arr(vm, "tiers");

    for (guint i = 0; i < js_len(tiers); i++) {
        if (!g_strcmp0(js_str(js_at(tiers, i), "name"), name)) {
            return js_at(tiers, i);
        }
    }
    return NULL;
}

char *view_hit(JsonObject *vm)
{
    JsonObject *hit = js_obj(vm, "dram_hit");

    return js_has_num(hit, "ratio") ? g_strdup_printf("%.1f %%", 100 * js_num(hit, "ratio"))
                                    : g_strdup("-");
}

/* Why there is no hit ratio, or NULL when there is one. */
static char *hit_missing(JsonObject *vm)
{
    JsonObject *hit = js_obj(vm, "dram_hit");
    const char *reason = js_str(hit, "reason");

    if (js_has_num(hit, "ratio")) {
        return NULL;
    }
    return reason ? fmt_safe(reason) : g_strdup("the daemon gives no reason");
}

static char *size_of(JsonObject *object, const char *name)
{
    return fmt_size(js_int(object, name));
}

static char *nodes_of(JsonObject *tier)
{
    g_autofree char *nodes = fmt_safe(js_str(tier, "nodes"));

    return js_str(tier, "nodes") ? g_strdup_printf("node %s", nodes) : g_strdup("");
}

/* Where a tier's files are, and how much of a shared one is left. */
static char *path_of(JsonObject *tier)
{
    g_autofree char *path = fmt_safe(js_str(tier, "path")), *size = NULL, *left = NULL;

    if (!js_str(tier, "path")) {
        return g_strdup("");
    }
    if (!js_has_num(tier, "path_bytes")) {
        return g_strdup_printf("in %s", path);
    }
    size = size_of(tier, "path_bytes");
    left = size_of(tier, "path_unused_bytes");
    return g_strdup_printf("in %s, %s of %s left", path, left, size);
}

static void tier_rows(JsonArray *tiers, GString *out)
{
    struct fmt_table table;

    fmt_table_init(&table, 5);
    for (guint i = 0; i < js_len(tiers); i++) {
        JsonObject *tier = js_at(tiers, i);
        g_autofree char *used = size_of(tier, "bytes_used");

        fmt_table_add(&table, view_tier_name(tier));
        fmt_table_add(&table, g_strdup_printf("%s used", used));
        fmt_table_add(&table, nodes_of(tier));
        fmt_table_add(&table, path_of(tier));
        fmt_table_add(&table, js_str(tier, "reason") ? fmt_safe(js_str(tier, "reason")) : g_strdup(""));
    }
    fmt_table_print(&table, 2, out);
}

void view_daemon(JsonObject *status, GString *out)
{
    JsonObject *uffd = js_obj(status, "userfaultfd");

    add(out, "vmtierd ", fmt_safe(js_str(status, "version")), "");
    g_string_append_printf(out, ", pid %" G_GINT64_FORMAT, js_int(status, "pid"));
    add(out, ", up ", fmt_duration(js_num(status, "uptime_s")), "\n");
    tier_rows(js_arr(status, "tiers"), out);
    if (uffd && !js_bool(uffd, "available")) {
        add(out, "  userfaultfd is not available: ", fmt_safe(js_str(uffd, "reason")), "\n");
    }
}

/* How much of the quota is in use, as a bar and a size. */
static char *dram_cell(JsonObject *vm)
{
    JsonObject *dram = view_find_tier(vm, "dram");
    gint64 max = js_int(js_obj(vm, "quota"), "max_bytes"), used = js_int(dram, "file_bytes");
    g_autofree char *bar = fmt_bar(max > 0 ? (double)used / (double)max : 0, BAR_CELLS);
    g_autofree char *size = fmt_size(used);

    return g_strdup_printf("%s %s", bar, size);
}

static void vm_row(struct fmt_table *table, JsonObject *vm)
{
    fmt_table_add(table, fmt_safe(js_str(vm, "name")));
    fmt_table_add(table, fmt_safe(js_str(vm, "state")));
    fmt_table_add(table, fmt_safe(js_str(vm, "mode")));
    fmt_table_add(table, size_of(vm, "ram_bytes"));
    fmt_table_add(table, dram_cell(vm));
    fmt_table_add(table, size_of(js_obj(vm, "quota"), "max_bytes"));
    fmt_table_add(table, view_hit(vm));
    fmt_table_add(table, fmt_number(js_num(js_obj(vm, "moves"), "per_s")));
}

static void vm_notes(JsonObject *vm, GString *out)
{
    g_autofree char *name = fmt_safe(js_str(vm, "name"));
    g_autofree char *missing = hit_missing(vm);

    if (js_str(vm, "reason")) {
        g_autofree char *state = fmt_safe(js_str(vm, "state"));
        g_autofree char *reason = fmt_safe(js_str(vm, "reason"));

        g_string_append_printf(out, "%s: %s: %s\n", name, state, reason);
    }
    if (missing) {
        g_string_append_printf(out, "%s: no hit ratio: %s\n", name, missing);
    }
}

void view_vms(JsonArray *vms, GString *out)
{
    static const char *const heading[] = { "VM",    "STATE", "MODE", "RAM", "DRAM IN USE",
                                           "QUOTA", "HIT",   "MOVES/S" };
    struct fmt_table table;

    if (js_len(vms) == 0) {
        g_string_append(out, "No VM is attached.\n");
        return;
    }
    fmt_table_init(&table, G_N_ELEMENTS(heading));
    for (gsize i = 0; i < G_N_ELEMENTS(heading); i++) {
        fmt_table_add(&table, g_strdup(heading[i]));
    }
    for (guint i = 0; i < js_len(vms); i++) {
        vm_row(&table, js_at(vms, i));
    }
    fmt_table_print(&table, 0, out);
    for (guint i = 0; i < js_len(vms); i++) {
        vm_notes(js_at(vms, i), out);
    }
}

static char *enable_of(JsonObject *source)
{
    g_autofree char *reason = js_str(source, "reason") ? fmt_safe(js_str(source, "reason")) : NULL;
    g_autofree char *enable = js_str(source, "enable") ? fmt_safe(js_str(source, "enable")) : NULL;

    if (reason && enable) {
        return g_strdup_printf("%s; to enable: %s", reason, enable);
    }
    return g_strdup(reason ? reason : enable ? enable : "");
}

/* What is known of why it does not run, or of what stopped it. */
static char *why_of(JsonObject *source)
{
    g_autofree char *error = js_str(source, "last_error") ? fmt_safe(js_str(source, "last_error")) : NULL;

    if (error && js_bool(source, "available")) {
        return g_strdup_printf("stopped before: %s", error);
    }
    return enable_of(source);
}

static char *share_text(JsonObject *source, const char *key)
{
    double percent = js_num(source, key);

    return percent > 0 && percent < 0.01 ? g_strdup("<0.01%") : g_strdup_printf("%.2f%%", percent);
}

static void source_row(struct fmt_table *table, JsonObject *source)
{
    fmt_table_add(table, fmt_safe(js_str(source, "name")));
    fmt_table_add(table, fmt_safe(js_str(source, "state")));
    fmt_table_add(table, g_strdup(js_bool(source, "drives_placement") ? "yes" : "no"));
    fmt_table_add(table, g_strdup_printf("%" G_GINT64_FORMAT, js_int(source, "events")));
    fmt_table_add(table, fmt_number(js_num(source, "events_per_s")));
    fmt_table_add(table, fmt_safe(js_str(source, "unit")));
    fmt_table_add(table, fmt_size(js_int(source, "resolution_bytes")));
    fmt_table_add(table, share_text(source, "cpu_percent"));
    fmt_table_add(table, share_text(source, "vcpu_percent"));
    fmt_table_add(table, why_of(source));
}

void view_sources(JsonArray *sources, GString *out)
{
    static const char *const heading[] = { "SOURCE", "STATE", "PLACES", "EVENTS", "PER S",
                                           "UNIT",   "WITHIN", "CPU",   "VCPU",   "WHY" };
    struct fmt_table table;

    fmt_table_init(&table, G_N_ELEMENTS(heading));
    for (gsize i = 0; i < G_N_ELEMENTS(heading); i++) {
        fmt_table_add(&table, g_strdup(heading[i]));
    }
    for (guint i = 0; i < js_len(sources); i++) {
        source_row(&table, js_at(sources, i));
    }
    fmt_table_print(&table, 2, out);
}

static char *quota_text(JsonObject *vm)
{
    g_autofree char *max = size_of(js_obj(vm, "quota"), "max_bytes");
    g_autofree char *peak = size_of(vm, "dram_bytes_peak");
    bool by_default = js_bool(js_obj(vm, "quota"), "default");

    return g_strdup_printf("%s of DRAM%s, peak use %s", max, by_default ? " (default)" : "", peak);
}

static char *rate_text(JsonObject *vm)
{
    g_autofree char *rate = size_of(vm, "rate_bytes_per_s");

    return js_int(vm, "rate_bytes_per_s") ? g_strdup_printf("%s/s", rate)
                                          : g_strdup("0: no moves for now");
}

static char *ram_text(JsonObject *vm)
{
    g_autofree char *ram = size_of(vm, "ram_bytes");
    g_autofree char *granule = size_of(vm, "granule_bytes");
    g_autofree char *backing = js_str(vm, "backing") ? fmt_safe(js_str(vm, "backing")) : NULL;

    return g_strdup_printf("%s in %" G_GINT64_FORMAT " granules of %s%s%s", ram,
                           js_int(vm, "granules"), granule, backing ? ", " : "",
                           backing ? backing : "");
}

static char *qemu_text(JsonObject *vm)
{
    g_autofree char *qemu = fmt_safe(js_str(vm, "qemu"));
    g_autofree char *accel = fmt_safe(js_str(vm, "accel"));
    g_autofree char *since = fmt_duration(js_num(vm, "attached_s"));

    return g_strdup_printf("%s, %s, pid %" G_GINT64_FORMAT ", attached for %s", qemu, accel,
                           js_int(vm, "pid"), since);
}

/* The bytes that count are the files'; the ledger is named where it differs. */
static char *tier_text(JsonObject *vm, JsonObject *tier)
{
    gint64 file = js_int(tier, "file_bytes"), ledger = js_int(tier, "ledger_bytes");
    gint64 ram = js_int(vm, "ram_bytes");
    g_autofree char *bar = fmt_bar(ram > 0 ? (double)file / (double)ram : 0, 2 * BAR_CELLS);
    g_autofree char *bytes = fmt_size(file), *booked = fmt_size(ledger);
    g_autofree char *spare = fmt_size(js_int(tier, "spare_bytes"));
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_printf(text, "%s %s, %" G_GINT64_FORMAT " granules (%s by the ledger", bar, bytes,
                    js_int(tier, "granules"), booked);
    if (js_int(tier, "spare_bytes"))
        g_string_append_printf(text, ", %s spare", spare);
    if (js_num(tier, "astray") > 0)
        g_string_append_printf(text, ", %.0f %% on other nodes", 100 * js_num(tier, "astray"));
    g_string_append_c(text, ')');
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static char *hit_text(JsonObject *vm)
{
    JsonObject *hit = js_obj(vm, "dram_hit");
    g_autofree char *missing = hit_missing(vm);
    g_autofree char *ratio = view_hit(vm), *how = fmt_safe(js_str(hit, "how"));

    if (missing) {
        return g_strdup_printf("- (%s)", missing);
    }
    return g_strdup_printf("%s (%s: %" G_GINT64_FORMAT " samples in %.0f s)", ratio, how,
                           js_int(hit, "samples"), js_num(hit, "window_s"));
}

static char *moves_text(JsonObject *vm)
{
    JsonObject *moves = js_obj(vm, "moves");
    g_autofree char *bytes = size_of(moves, "bytes"), *rate = fmt_number(js_num(moves, "per_s"));

    return g_strdup_printf("%" G_GINT64_FORMAT " promoted, %" G_GINT64_FORMAT " demoted (%s), %s/s, "
                           "%" G_GINT64_FORMAT " deferred, %" G_GINT64_FORMAT " failed",
                           js_int(moves, "promoted"), js_int(moves, "demoted"), bytes, rate,
                           js_int(moves, "deferred"), js_int(moves, "failed"));
}

static char *rounds_text(JsonObject *vm)
{
    JsonObject *plan = js_obj(vm, "plan");

    return g_strdup_printf("%" G_GINT64_FORMAT ", median %.1f ms; last plan: %" G_GINT64_FORMAT
                           " of %" G_GINT64_FORMAT " moves done", js_int(vm, "rounds"),
                           js_num(vm, "round_ms_p50"), js_int(plan, "done"), js_int(plan, "wanted"));
}

static void tier_pairs(struct fmt_table *table, JsonObject *vm)
{
    JsonArray *tiers = js_arr(vm, "tiers");

    for (guint i = 0; i < js_len(tiers); i++) {
        fmt_table_add(table, view_tier_name(js_at(tiers, i)));
        fmt_table_add(table, tier_text(vm, js_at(tiers, i)));
    }
}

static void spread_pairs(struct fmt_table *table, JsonObject *vm)
{
    JsonArray *pins = js_arr(vm, "pins");
    char *interleave = view_interleave(vm);

    if (interleave) {
        fmt_table_pair(table, "interleave", interleave);
    }
    for (guint i = 0; i < js_len(pins); i++) {
        fmt_table_pair(table, "pin", view_pin(js_at(pins, i)));
    }
}

static void slot_pairs(struct fmt_table *table, JsonObject *vm)
{
    JsonArray *slots = js_arr(vm, "memslots");

    for (guint i = 0; i < js_len(slots); i++) {
        JsonObject *slot = js_at(slots, i);
        g_autofree char *size = size_of(slot, "size"), *block = fmt_safe(js_str(slot, "block"));

        fmt_table_pair(table, i ? "" : "memory",
             g_strdup_printf("0x%" G_GINT64_MODIFIER "x, %s: %s + 0x%" G_GINT64_MODIFIER "x",
                             (guint64)js_int(slot, "gpa"), size, block,
                             (guint64)js_int(slot, "offset")));
    }
}

/* A block's file on one tier: its kind, and what was found in the page table. */
static char *backing_text(JsonObject *tier)
{
    g_autofree char *kind = fmt_safe(js_str(tier, "kind")), *mapped = size_of(tier, "mapped_bytes");
    g_autofree char *note = js_str(tier, "note") ? fmt_safe(js_str(tier, "note")) : NULL;
    gint64 bytes = js_int(tier, "mapped_bytes"), huge = js_int(tier, "huge_bytes");
    g_autofree char *found = bytes > 0 ? g_strdup_printf("; %s mapped, %.0f %% of it by 2 MiB or more",
                                                         mapped, 100.0 * (double)huge / (double)bytes)
                                       : g_strdup("");

    return g_strdup_printf("%s%s%s%s", kind, found, note ? "; " : "", note ? note : "");
}

static void backing_pairs(struct fmt_table *table, JsonObject *vm)
{
    JsonArray *blocks = js_arr(vm, "blocks");
    const char *key = "backing";

    for (guint i = 0; i < js_len(blocks); i++) {
        JsonArray *tiers = js_arr(js_at(blocks, i), "tiers");
        g_autofree char *block = fmt_safe(js_str(js_at(blocks, i), "name"));

        for (guint t = 0; t < js_len(tiers); t++, key = "") {
            g_autofree char *text = backing_text(js_at(tiers, t));
            g_autofree char *name = fmt_safe(js_str(js_at(tiers, t), "name"));

            fmt_table_pair(table, key, g_strdup_printf("%s, %s: %s", block, name, text));
        }
    }
}

static void hint_lines(JsonObject *vm, GString *out)
{
    JsonArray *blocks = js_arr(vm, "blocks");

    for (guint i = 0; i < js_len(blocks); i++) {
        const char *hint = js_str(js_at(blocks, i), "hint");

        if (hint) {
            add(out, "  hint: ", fmt_safe(hint), "\n");
        }
    }
}

static void vm_pairs(struct fmt_table *table, JsonObject *vm)
{
    const char *last = js_str(js_obj(vm, "moves"), "last_error");

    fmt_table_pair(table, "QEMU", qemu_text(vm));
    fmt_table_pair(table, "RAM", ram_text(vm));
    backing_pairs(table, vm);
    slot_pairs(table, vm);
    fmt_table_pair(table, "quota", quota_text(vm));
    tier_pairs(table, vm);
    spread_pairs(table, vm);
    fmt_table_pair(table, "hit ratio", hit_text(vm));
    fmt_table_pair(table, "moves", moves_text(vm));
    if (last) {
        fmt_table_pair(table, "last error", fmt_safe(last));
    }
    fmt_table_pair(table, "rate limit", rate_text(vm));
    fmt_table_pair(table, "rounds", rounds_text(vm));
    view_agent(vm, table);
}

void view_vm(JsonObject *vm, GString *out)
{
    const char *reason = js_str(vm, "reason");
    struct fmt_table table;

    add(out, "", fmt_safe(js_str(vm, "name")), "");
    add(out, ": ", fmt_safe(js_str(vm, "state")), "");
    add(out, ", mode ", fmt_safe(js_str(vm, "mode")), "\n");
    if (reason) {
        add(out, "  ", fmt_safe(reason), "\n");
    }
    fmt_table_init(&table, 2);
    vm_pairs(&table, vm);
    fmt_table_print(&table, 2, out);
    hint_lines(vm, out);
    view_sources(js_arr(vm, "sources"), out);
}
