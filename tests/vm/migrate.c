// SPDX-License-Identifier: GPL-2.0-or-later
/* See migrate.h. */
#include "migrate.h"

#include <string.h>

#define MIB (1ull << 20)
#define END_TIMEOUT 60.0

static JsonObject *query(struct vm *vm)
{
    g_autoptr(JsonNode) node = qmp_ok(vm->qmp, "query-migrate", NULL);

    return json_object_ref(json_node_get_object(node));
}

char *migration_status(struct vm *vm)
{
    g_autoptr(JsonObject) o = query(vm);

    return g_strdup(json_object_get_string_member_with_default(o, "status", "none"));
}

static bool has_ended(void *vm)
{
    g_autofree char *status = migration_status(vm);

    return strcmp(status, "completed") == 0 || strcmp(status, "failed") == 0 ||
           strcmp(status, "cancelled") == 0;
}

void migration_wait_for(struct vm *vm, const char *wanted)
{
    bool ended = lab_wait(has_ended, vm, END_TIMEOUT);
    g_autofree char *status = migration_status(vm);

    if (!ended)
        g_error("%s: the migration is '%s' after %.0f s", vm->qemu->name, status, END_TIMEOUT);
    g_assert_cmpstr(status, ==, wanted);
}

void migration_wait(struct vm *vm)
{
    migration_wait_for(vm, "completed");
}

int64_t migration_rounds(struct vm *vm)
{
    g_autoptr(JsonObject) o = query(vm);

    return json_object_has_member(o, "ram") ? json_object_get_int_member(
        json_object_get_object_member(o, "ram"), "dirty-sync-count") : 0;
}

void migration_set_limits(struct vm *vm, uint64_t bytes_per_s, unsigned downtime_ms)
{
    json_node_unref(qmp_ok(vm->qmp, "migrate-set-parameters", "{\"max-bandwidth\":%" PRIu64
                           ",\"downtime-limit\":%u}", bytes_per_s, downtime_ms));
}

void migration_enable(struct vm *vm, const char *capability)
{
    json_node_unref(qmp_ok(vm->qmp, "migrate-set-capabilities", "{\"capabilities\":[{\"capability\":"
                           "\"%s\",\"state\":true}]}", capability));
}

void migrate_to(struct vm *vm, const char *uri)
{
    json_node_unref(qmp_ok(vm->qmp, "migrate", "{\"uri\":\"%s\"}", uri));
}

void migrate_to_file(struct vm *vm, const char *file)
{
    g_autofree char *uri = g_strdup_printf("exec:cat > %s", file);

    migrate_to(vm, uri);
}

uint64_t differing_pages(struct vm *a, struct vm *b, uint64_t ram)
{
    g_autofree char *x = g_malloc(MIB), *y = g_malloc(MIB);
    uint64_t n = 0;

    for (uint64_t at = 0; at < ram; at += MIB) {
        vm_peek(a, at, x, MIB);
        vm_peek(b, at, y, MIB);
        for (uint64_t page = 0; page < MIB; page += 4096)
            if (memcmp(x + page, y + page, 4096) != 0 && n++ < 16)
                g_test_message("guest page 0x%" PRIx64 " differs", at + page);
    }
    return n;
}
