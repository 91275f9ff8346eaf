// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A QEMU's RAM by its command line and its mappings: see qemu-ram.h.
 *
 * The command line says how large each block is: -m, and the size of each memory backend. QEMU maps a
 * block as one piece with an inaccessible page behind it, and gives it flags of its own, so there is a
 * writable mapping of just that size. If there are more such mappings than blocks of that size, the
 * mapping that is RAM cannot be told, and the monitor has to be asked.
 *
 * Guest-physical addresses follow from the machine where there is one block and nothing unusual:
 * q35 has up to 2.75 GiB below 4 GiB, or 2 GiB if there is more; pc 3.5 GiB, or 3 GiB.
 */
#include "host/qemu-ram.h"
#include "host/error.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <string.h>

#define PLUGIN "vmtier-qemu.so"
#define GIB (1ull << 30)

#define FAIL(error, ...) (g_set_error(error, VMT_ERROR, EINVAL, __VA_ARGS__), false)

/* --- options ----------------------------------------------------------------------------------------------- */

/* The value of the option after the `nth` argument that is `-name` or `--name`; NULL: no more. */
static const char *option(const GPtrArray *argv, const char *name, guint nth)
{
    for (guint i = 0; i + 1 < argv->len; i++) {
        const char *arg = g_ptr_array_index(argv, i);

        if (arg[0] != '-' || strcmp(arg + (arg[1] == '-' ? 2 : 1), name))
            continue;
        if (!nth--)
            return g_ptr_array_index(argv, i + 1);
    }
    return NULL;
}

/* What "key=" has in a list of key=value with commas, or the first word if that has no key and
 * `first` is set. ",," stands for a comma in a value. NULL: nothing. */
static char *value_of(const char *list, const char *key, bool first)
{
    g_autoptr(GString) word = g_string_new(NULL);
    const char *at = list;

    for (bool head = true;; head = false) {
        g_string_truncate(word, 0);
        for (; *at && (*at != ',' || at[1] == ','); at++) {
            at += *at == ',';
            g_string_append_c(word, *at);
        }
        if (g_str_has_prefix(word->str, key) && word->str[strlen(key)] == '=')
            return g_strdup(word->str + strlen(key) + 1);
        if (head && first && !strchr(word->str, '='))
            return g_strdup(word->str);
        if (!*at)
            return NULL;
        at++;
    }
}

/* The same from JSON, as libvirt writes -object. */
static char *json_value_of(const char *text, const char *key)
{
    g_autoptr(JsonNode) node = json_from_string(text, NULL);
    JsonNode *value;

    if (!node || !JSON_NODE_HOLDS_OBJECT(node))
        return NULL;
    value = json_object_get_member(json_node_get_object(node), key);
    if (!value || !JSON_NODE_HOLDS_VALUE(value))
        return NULL;
    return json_node_get_value_type(value) == G_TYPE_INT64
           ? g_strdup_printf("%" G_GINT64_FORMAT, json_node_get_int(value))
           : json_node_dup_string(value);
}

static char *object_value(const char *object, const char *key)
{
    return object[0] == '{' ? json_value_of(object, key)
                            : value_of(object, key, g_str_equal(key, "qom-type"));
}

/* QEMU's sizes: a number, maybe with a fraction, and a binary unit; 0: none. */
static guint64 parse_size(const char *text, guint64 unit)
{
    static const char units[] = "bkmgtp";
    const char *found;
    double number;
    char *end;

    if (!text)
        return 0;
    number = g_ascii_strtod(text, &end);
    found = *end ? strchr(units, g_ascii_tolower(*end)) : NULL;
    if (end == text || (*end && !found) || !(number > 0) || number > 1e15)
        return 0;
    return (guint64)(number * (double)(found ? 1ull << (10 * (found - units)) : unit));
}

char *qemu_cmdline_name(const GPtrArray *argv)
{
    const char *name = option(argv, "name", 0);

    return name ? value_of(name, "guest", true) : NULL;
}

bool qemu_has_plugin(const GArray *maps)
{
    for (guint i = 0; i < maps->len; i++)
        if (strstr(g_array_index(maps, struct mapping, i).name, "/" PLUGIN))
            return true;
    return false;
}

/* --- blocks ------------------------------------------------------------------------------------------------- */

static bool add_block(struct qemu_ram *ram, const char *name, guint64 length, GError **error)
{
    struct qemu_ram_block *b = &ram->block[ram->n_blocks];

    if (!name || !length)
        return FAIL(error, "a memory backend without id or size on its command line");
    if (ram->n_blocks == VT_BLOCKS)
        return FAIL(error, "it has more than %d memory backends", VT_BLOCKS);
    g_strlcpy(b->name, name, sizeof(b->name));
    b->length = length;
    ram->n_blocks++;
    return true;
}

static bool add_backends(struct qemu_ram *ram, const GPtrArray *argv, GError **error)
{
    const char *object;

    for (guint i = 0; (object = option(argv, "object", i)); i++) {
        g_autofree char *type = object_value(object, "qom-type");

        if (type && g_str_has_prefix(type, "memory-backend-")) {
            g_autofree char *id = object_value(object, "id"), *size = object_value(object, "size");

            if (!add_block(ram, id, parse_size(size, 1), error))
                return false;
        }
    }
    return true;
}

static char *machine_value(const GPtrArray *argv, const char *key)
{
    const char *machine = option(argv, "machine", 0);
    bool type = g_str_equal(key, "type");

    machine = machine ? machine : option(argv, "M", 0);
    return machine ? value_of(machine, key, type) : NULL;
}

static bool has_numa_backends(const GPtrArray *argv)
{
    const char *numa;

    for (guint i = 0; (numa = option(argv, "numa", i)); i++)
        if (strstr(numa, "memdev="))
            return true;
    return false;
}

/* The RAM of -m is a block of its own unless backends are that RAM. */
static bool add_main_block(struct qemu_ram *ram, const GPtrArray *argv, GError **error)
{
    g_autofree char *backend = machine_value(argv, "memory-backend");
    const char *m = option(argv, "m", 0);
    g_autofree char *size = m ? value_of(m, "size", true) : NULL;

    if (backend || has_numa_backends(argv))
        return true;
    return add_block(ram, "pc.ram", m ? parse_size(size, 1 << 20) : 128 << 20, error);
}

/* --- where they are ------------------------------------------------------------------------------------------ */

static guint count_blocks(const struct qemu_ram *ram, guint64 length)
{
    guint n = 0;

    for (guint32 i = 0; i < ram->n_blocks; i++)
        n += ram->block[i].length == length;
    return n;
}

/* Does the mapping go on where the one before it ends, with the same file or none? */
static bool goes_on(const GArray *maps, guint i)
{
    const struct mapping *m = &g_array_index(maps, struct mapping, i);

    return i > 0 && i < maps->len && m->writable && m[-1].end == m->start &&
           m[-1].writable && m[-1].shared == m->shared && m[-1].inode == m->inode;
}

/* Pieces of that length: how many, and the nth's address. A piece is all that goes on, as flags may
 * split a block; or one mapping, as a neighbour of the same kind may be no RAM. */
static guint find_pieces(const GArray *maps, guint64 length, guint nth, guint64 *at)
{
    guint64 start = 0, found = 0;
    guint n = 0;

    for (guint i = 0; i < maps->len; i++) {
        const struct mapping *m = &g_array_index(maps, struct mapping, i);
        guint64 piece = 0;

        if (!goes_on(maps, i))
            start = m->start;
        if (!m->writable || m->executable || m->name[0] == '[')
            continue;
        if (m->end - m->start == length)
            piece = m->start;
        else if (m->end - start == length && !goes_on(maps, i + 1))
            piece = start;
        if (piece && piece != found && n++ == nth)
            *at = piece;
        found = piece;
    }
    return n;
}

static bool find_block(struct qemu_ram *ram, guint32 i, const GArray *maps, GError **error)
{
    struct qemu_ram_block *b = &ram->block[i];
    guint same = 0, blocks = count_blocks(ram, b->length), pieces;

    for (guint32 j = 0; j < i; j++)
        same += ram->block[j].length == b->length;
    pieces = find_pieces(maps, b->length, same, &b->at);
    if (pieces == blocks)
        return true;
    return FAIL(error, "it has %u mappings of %" G_GUINT64_FORMAT " bytes where its command line has %u "
                "blocks of RAM of that size: give its monitor, so that it can be asked", pieces,
                b->length, blocks);
}

void qemu_ram_add_slot(struct qemu_ram *ram, guint32 block, guint64 gpa, guint64 length,
                       guint64 offset)
{
    struct vt_slot *last = ram->n_slots ? &ram->slot[ram->n_slots - 1] : NULL;

    if (last && last->block == block && last->gpa + last->length == gpa &&
        last->offset + last->length == offset) {
        last->length += length;
        return;
    }
    if (ram->n_slots < G_N_ELEMENTS(ram->slot))
        ram->slot[ram->n_slots++] = (struct vt_slot){
            .gpa = gpa, .length = length, .offset = offset, .block = block,
        };
}

static void guess_slots(struct qemu_ram *ram, const GPtrArray *argv)
{
    g_autofree char *type = machine_value(argv, "type"), *odd = machine_value(argv, "max-ram-below-4g");
    guint64 length = ram->block[0].length, low;

    if (ram->n_blocks != 1 || odd)
        return;
    if (type && strstr(type, "q35"))
        low = length >= 11 * GIB / 4 ? 2 * GIB : length;
    else if (!type || g_str_has_prefix(type, "pc"))
        low = length >= 7 * GIB / 2 ? 3 * GIB : length;
    else
        return;
    qemu_ram_add_slot(ram, 0, 0, low, 0);
    if (low < length)
        qemu_ram_add_slot(ram, 0, 4 * GIB, length - low, low);
}

bool qemu_ram_from_cmdline(struct qemu_ram *ram, const GPtrArray *argv, const GArray *maps,
                           GError **error)
{
    *ram = (struct qemu_ram){ 0 };
    if (!add_backends(ram, argv, error) || !add_main_block(ram, argv, error))
        return false;
    if (!ram->n_blocks)
        return FAIL(error, "its command line has no RAM");
    for (guint32 i = 0; i < ram->n_blocks; i++)
        if (!find_block(ram, i, maps, error))
            return false;
    guess_slots(ram, argv);
    return true;
}
