// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A QEMU's RAM as its monitor tells: see qemu-ram.h.
 *
 *     query-memdev      which RAM blocks are memory, and how large
 *     info mtree -f     the guest-physical ranges of each, and the offsets in it
 *     gpa2hva           where QEMU has a guest-physical address
 *
 * All ranges of a block must give the same address for its first byte, which must be mapped. The last
 * two are commands for people; their output has been the same from QEMU 7.2 to 10.0.
 *
 * The connection is closed afterwards, as most monitors take one client at a time. It may be that
 * somebody else is that client: then nobody greets us, and the error says so. A QEMU that babbles or
 * dawdles is given up.
 */
#include "host/qemu-ram.h"
#include "host/error.h"
#include "host/qmp-json.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_S   5            /* for each part of an answer */
#define ALL_S      15           /* for everything */
#define LINE_MOST  (16u << 20)
#define EVENTS     1000         /* before an answer */

struct monitor {
    const char *path;
    int fd;
    GString *in;
    gint64 until;
};

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EPROTO, __VA_ARGS__), NULL)

/* --- the connection ------------------------------------------------------------------------------------------ */

static bool monitor_open(struct monitor *m, const char *path, GError **error)
{
    const struct timeval patience = { .tv_sec = ANSWER_S };
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    *m = (struct monitor){ .path = path, .in = g_string_new(NULL) };
    m->until = g_get_monotonic_time() + ALL_S * G_USEC_PER_SEC;
    m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(m->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(m->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (g_strlcpy(a.sun_path, path, sizeof(a.sun_path)) >= sizeof(a.sun_path))
        return FAIL(error, "%s: too long a path for a socket", path);
    if (connect(m->fd, (const struct sockaddr *)&a, sizeof(a)))
        return FAIL(error, "%s: %s", path, g_strerror(errno));
    return true;
}

static void monitor_close(struct monitor *m)
{
    if (m->fd >= 0)
        close(m->fd);
    g_string_free(m->in, TRUE);
}

static gpointer silent(const struct monitor *m, ssize_t got, GError **error)
{
    if (got == 0)
        return FAIL(error, "%s: it hung up", m->path);
    if (got < 0 && errno != EAGAIN)
        return FAIL(error, "%s: %s", m->path, g_strerror(errno));
    return FAIL(error, "%s does not answer: a monitor takes one client at a time, so QEMU needs a "
                "-qmp of its own for this", m->path);
}

static char *read_line(struct monitor *m, GError **error)
{
    char bytes[4096], *end;
    gsize seen = 0;

    while (!(end = memchr(m->in->str + seen, '\n', m->in->len - seen))) {
        ssize_t n = recv(m->fd, bytes, sizeof(bytes), 0);

        if (n <= 0 || g_get_monotonic_time() > m->until)
            return silent(m, n > 0 ? -1 : n, error);
        if (m->in->len > LINE_MOST)
            return FAIL(error, "%s: it sends lines without end", m->path);
        seen = m->in->len;
        g_string_append_len(m->in, bytes, n);
    }
    *end = '\0';
    end = g_strdup(m->in->str);
    g_string_erase(m->in, 0, (gssize)strlen(end) + 1);
    return end;
}

static JsonObject *read_object(struct monitor *m, GError **error)
{
    g_autofree char *line = read_line(m, error);
    g_autoptr(JsonNode) node = line ? qmp_json_parse(line, strlen(line), NULL) : NULL;

    if (line && (!node || !JSON_NODE_HOLDS_OBJECT(node)))
        return FAIL(error, "%s is no QEMU monitor that speaks QMP", m->path);
    return node ? json_node_dup_object(node) : NULL;
}

/* --- asking --------------------------------------------------------------------------------------------------- */

static JsonObject *object_in(JsonObject *from, const char *key)
{
    JsonNode *node = from ? json_object_get_member(from, key) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* NULL unless it is a value of that type. */
static JsonNode *value_in(JsonObject *from, const char *key, GType type)
{
    JsonNode *node = from ? json_object_get_member(from, key) : NULL;

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type ? node : NULL;
}

/* The "return"; events that come before it are not for us. */
static JsonNode *ask(struct monitor *m, const char *command, const char *args, GError **error)
{
    g_autofree char *line = g_strdup_printf("{\"execute\":\"%s\"%s%s}\n", command,
                                            args ? ",\"arguments\":" : "", args ? args : "");

    if (send(m->fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
        return silent(m, -1, error);
    for (int i = 0; i < EVENTS; i++) {
        g_autoptr(JsonObject) reply = read_object(m, error);

        if (!reply)
            return NULL;
        if (json_object_has_member(reply, "return"))
            return json_node_copy(json_object_get_member(reply, "return"));
        if (json_object_has_member(reply, "error"))
            return FAIL(error, "%s: QEMU refuses '%s'", m->path, args ? args : command);
    }
    return FAIL(error, "%s: events without end, and no answer to %s", m->path, command);
}

static char *ask_human(struct monitor *m, const char *line, GError **error)
{
    g_autofree char *args = g_strdup_printf("{\"command-line\":\"%s\"}", line);
    g_autoptr(JsonNode) reply = ask(m, "human-monitor-command", args, error);

    if (!reply)
        return NULL;
    if (!JSON_NODE_HOLDS_VALUE(reply) || json_node_get_value_type(reply) != G_TYPE_STRING)
        return FAIL(error, "%s: '%s' gave no text", m->path, line);
    return json_node_dup_string(reply);
}

static bool greet(struct monitor *m, struct qemu_ram *ram, GError **error)
{
    static const char *const parts[] = { "major", "minor", "micro" };
    g_autoptr(JsonObject) hello = read_object(m, error);
    g_autoptr(JsonNode) ready = NULL;
    JsonObject *version;
    gint64 number[3];

    if (!hello)
        return false;
    version = object_in(object_in(object_in(hello, "QMP"), "version"), "qemu");
    for (int i = 0; i < 3; i++) {
        JsonNode *node = value_in(version, parts[i], G_TYPE_INT64);

        if (!node)
            return FAIL(error, "%s is no QEMU monitor that speaks QMP", m->path);
        number[i] = json_node_get_int(node);
    }
    g_snprintf(ram->version, sizeof(ram->version), "%u.%u.%u", (unsigned)(number[0] % 1000),
               (unsigned)(number[1] % 1000), (unsigned)(number[2] % 1000));
    ready = ask(m, "qmp_capabilities", NULL, error);
    return ready != NULL;
}

/* --- blocks ---------------------------------------------------------------------------------------------------- */

static bool take_memdevs(struct qemu_ram *ram, JsonNode *reply)
{
    JsonArray *list = JSON_NODE_HOLDS_ARRAY(reply) ? json_node_get_array(reply) : NULL;

    for (guint i = 0; list && i < json_array_get_length(list) && ram->n_blocks < VT_BLOCKS; i++) {
        JsonNode *node = json_array_get_element(list, i);
        JsonObject *o = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        JsonNode *id = value_in(o, "id", G_TYPE_STRING), *size = value_in(o, "size", G_TYPE_INT64);
        struct qemu_ram_block *b = &ram->block[ram->n_blocks];

        if (!id || !size || json_node_get_int(size) <= 0)
            continue;
        g_strlcpy(b->name, json_node_get_string(id), sizeof(b->name));
        b->length = (guint64)json_node_get_int(size);
        ram->n_blocks++;
    }
    return ram->n_blocks > 0;
}

/* The flat view of the address space "memory" is one paragraph of many. Its lines:
 *   0000000000100000-000000007fffffff (prio 0, ram): pc.ram @0000000000100000 KVM
 */
void qemu_parse_mtree(const char *text, void (*take)(const char *block, guint64 gpa, guint64 length,
                                                     guint64 offset, gpointer opaque),
                      gpointer opaque)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool memory = false;

    for (char **line = lines; *line; line++) {
        guint64 first, last, offset = 0;
        char name[VT_NAME];

        if (g_str_has_prefix(*line, "FlatView"))
            memory = false;
        memory |= strstr(*line, "AS \"memory\"") != NULL;
        if (memory && sscanf(*line, " %" G_GINT64_MODIFIER "x-%" G_GINT64_MODIFIER
                             "x (prio %*d, ram): %63s @%" G_GINT64_MODIFIER "x", &first, &last, name,
                             &offset) >= 3 && first <= last && last - first < G_MAXINT64)
            take(name, first, last - first + 1, offset, opaque);
    }
}

static void take_range(const char *name, guint64 gpa, guint64 length, guint64 offset, gpointer opaque)
{
    struct qemu_ram *ram = opaque;
    const char *id = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;

    for (guint32 i = 0; i < ram->n_blocks; i++) {
        const struct qemu_ram_block *b = &ram->block[i];

        if (g_str_equal(id, b->name) && offset < b->length && length <= b->length - offset)
            qemu_ram_add_slot(ram, i, gpa, length, offset);
    }
}

static bool ask_address(struct monitor *m, guint64 gpa, guint64 *at, GError **error)
{
    g_autofree char *line = g_strdup_printf("gpa2hva 0x%" G_GINT64_MODIFIER "x", gpa);
    g_autofree char *text = ask_human(m, line, error);
    const char *is = text ? strstr(text, " is 0x") : NULL;

    if (is)
        *at = g_ascii_strtoull(is + strlen(" is 0x"), NULL, 16);
    else if (text)
        return FAIL(error, "%s: '%s' gave no address", m->path, line);
    return is != NULL;
}

static bool find_blocks(struct qemu_ram *ram, struct monitor *m, GError **error)
{
    for (guint32 i = 0; i < ram->n_slots; i++) {
        const struct vt_slot *s = &ram->slot[i];
        struct qemu_ram_block *b = &ram->block[s->block];
        guint64 at;

        if (!ask_address(m, s->gpa, &at, error))
            return false;
        at -= s->offset;
        if (b->at && b->at != at)
            return FAIL(error, "%s: block %s is in more than one place", m->path, b->name);
        b->at = at;
    }
    return true;
}

/* A backend that is not (or not yet) the guest's memory is none of our business. */
static void drop_unmapped(struct qemu_ram *ram)
{
    guint32 to[VT_BLOCKS] = { 0 }, n = 0;

    for (guint32 i = 0; i < ram->n_blocks; i++) {
        to[i] = n;
        if (ram->block[i].at)
            ram->block[n++] = ram->block[i];
    }
    ram->n_blocks = n;
    for (guint32 i = 0; i < ram->n_slots; i++)
        ram->slot[i].block = to[ram->slot[i].block];
}

static bool ask_all(struct qemu_ram *ram, struct monitor *m, GError **error)
{
    g_autoptr(JsonNode) memdevs = NULL;
    g_autofree char *mtree = NULL;

    if (!greet(m, ram, error) || !(memdevs = ask(m, "query-memdev", NULL, error)))
        return false;
    if (!take_memdevs(ram, memdevs))
        return FAIL(error, "%s: QEMU names no memory backend", m->path);
    mtree = ask_human(m, "info mtree -f", error);
    if (!mtree)
        return false;
    qemu_parse_mtree(mtree, take_range, ram);
    if (!find_blocks(ram, m, error))
        return false;
    drop_unmapped(ram);
    return ram->n_blocks > 0 || FAIL(error, "%s: QEMU's memory has no RAM that is a backend", m->path);
}

bool qemu_ram_from_monitor(struct qemu_ram *ram, const char *path, const GArray *maps, GError **error)
{
    struct monitor m;
    bool ok;

    *ram = (struct qemu_ram){ 0 };
    ok = monitor_open(&m, path, error) && ask_all(ram, &m, error);
    for (guint32 i = 0; ok && i < ram->n_blocks; i++) {
        const struct qemu_ram_block *b = &ram->block[i];

        ok = b->at <= G_MAXUINT64 - b->length && maps_cover(maps, b->at, b->at + b->length);
        if (!ok)
            g_set_error(error, VMT_ERROR, EPROTO, "%s: block %s is said to be where the process has no "
                        "memory: is it another QEMU's monitor?", path, b->name);
    }
    monitor_close(&m);
    return ok;
}
