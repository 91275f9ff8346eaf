// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier report`: pushes accesses that somebody else saw. Standard input is either lines "ADDRESS [WEIGHT
 * [AGE]]", sent in batches, or JSON, sent as it is.
 */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

#include <stdio.h>
#include <string.h>

#define BATCH      4096
#define INPUT_MOST (512 * 1024)         /* bytes of JSON: a request has twice as many at most */

static char *space_option, *device_option;
static double age_option;

#define FAIL(error, code, ...) (g_set_error(error, CLI_ERROR, code, __VA_ARGS__), false)

struct sender {
    Client *client;
    const char *vm;
    JsonArray *batch;
    gint64 sent;
};

static bool call(struct sender *s, JsonObject *args /* take */, GError **error)
{
    g_autoptr(JsonNode) reply = NULL;

    json_object_set_string_member(args, "vm", s->vm);
    if (!json_object_has_member(args, "space"))
        json_object_set_string_member(args, "space", space_option ? space_option : "gpa");
    if (device_option)
        json_object_set_string_member(args, "device", device_option);
    if (age_option > 0)
        json_object_set_double_member(args, "age_s", age_option);
    reply = client_call(s->client, "vmtier-report", args, error);
    if (!reply)
        return false;
    s->sent += JSON_NODE_HOLDS_OBJECT(reply) ? js_int(json_node_get_object(reply), "queued") : 0;
    return true;
}

static bool flush(struct sender *s, GError **error)
{
    JsonObject *args;

    if (!json_array_get_length(s->batch))
        return true;
    args = json_object_new();
    json_object_set_array_member(args, "accesses", g_steal_pointer(&s->batch));
    s->batch = json_array_new();
    return call(s, args, error);
}

/* --- lines -------------------------------------------------------------------------------------- */

static bool parse_address(const char *text, gint64 *address)
{
    char *end;
    guint64 n;

    if (!g_ascii_isdigit(text[0]))
        return false;
    n = g_ascii_strtoull(text, &end, 0);
    *address = (gint64)n;
    return !*end && n <= G_MAXINT64;
}

static bool parse_number(const char *text, JsonObject *to, const char *key)
{
    char *end;
    double n = g_ascii_strtod(text, &end);

    json_object_set_double_member(to, key, n);
    return end != text && !*end;
}

static bool add_line(struct sender *s, char *line, guint64 number, GError **error)
{
    static const char *const keys[] = { "weight", "age_s" };
    g_auto(GStrv) words = NULL;
    g_autoptr(JsonObject) one = json_object_new();
    gint64 address = 0;
    guint n = 0;
    bool good;

    line[strcspn(line, "#\n")] = '\0';
    words = g_strsplit_set(g_strstrip(line), " \t", -1);
    if (!words[0] || !words[0][0])
        return true;
    good = parse_address(words[0], &address);
    json_object_set_int_member(one, "address", address);
    for (char **w = words + 1; good && *w; w++)
        good = !**w || (n < G_N_ELEMENTS(keys) && parse_number(*w, one, keys[n++]));
    if (!good)
        return FAIL(error, CLI_USAGE, "line %" G_GUINT64_FORMAT " is no ADDRESS [WEIGHT [AGE]]", number);
    json_array_add_object_element(s->batch, g_steal_pointer(&one));
    return json_array_get_length(s->batch) < BATCH || flush(s, error);
}

static bool send_lines(struct sender *s, FILE *in, GError **error)
{
    char line[256];

    for (guint64 number = 1; fgets(line, sizeof(line), in); number++) {
        if (!strchr(line, '\n') && !feof(in))
            return FAIL(error, CLI_USAGE, "line %" G_GUINT64_FORMAT " is too long", number);
        if (!add_line(s, line, number, error))
            return false;
    }
    return flush(s, error);
}

/* --- JSON --------------------------------------------------------------------------------------- */

static bool send_json(struct sender *s, FILE *in, GError **error)
{
    g_autofree char *text = g_malloc(INPUT_MOST + 1);
    gsize n = fread(text, 1, INPUT_MOST + 1, in);
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) why = NULL;
    JsonObject *args;
    JsonNode *root;

    if (n > INPUT_MOST)
        return FAIL(error, CLI_USAGE, "more than %d bytes of JSON: send it in parts", INPUT_MOST);
    if (!json_parser_load_from_data(parser, text, (gssize)n, &why))
        return FAIL(error, CLI_USAGE, "standard input: %s", why->message);
    root = json_parser_get_root(parser);
    if (root && JSON_NODE_HOLDS_OBJECT(root)) {
        args = json_node_dup_object(root);
    } else if (root && JSON_NODE_HOLDS_ARRAY(root)) {
        args = json_object_new();
        json_object_set_array_member(args, "accesses", json_node_dup_array(root));
    } else {
        return FAIL(error, CLI_USAGE, "standard input: neither a list nor an object");
    }
    return call(s, args, error);
}

static int first_character(FILE *in)
{
    int c;

    do
        c = getc(in);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r');
    if (c != EOF)
        ungetc(c, in);
    return c;
}

static void say(const struct cli *cli, const struct sender *s)
{
    g_autoptr(JsonNode) node = json_node_alloc();
    JsonObject *o = json_object_new();

    json_object_set_int_member(o, "queued", s->sent);
    json_node_take_object(json_node_init(node, JSON_NODE_OBJECT), o);
    if (cli->json)
        cli_print_json(node);
    else
        g_print("%s: %" G_GINT64_FORMAT " reports taken\n", s->vm, s->sent);
}

static bool run_report(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = cli_connect(cli, error);
    struct sender s = { .client = client, .vm = args[0] };
    int first;
    bool done;

    if (!client)
        return false;
    s.batch = json_array_new();
    first = first_character(stdin);
    done = first == '[' || first == '{' ? send_json(&s, stdin, error) : send_lines(&s, stdin, error);
    json_array_unref(s.batch);
    if (done)
        say(cli, &s);
    else if (s.sent)
        g_prefix_error(error, "after %" G_GINT64_FORMAT " reports: ", s.sent);
    return done;
}

static const GOptionEntry options[] = {
    { "space", 's', 0, G_OPTION_ARG_STRING, &space_option, NULL, NULL },
    { "device", 'D', 0, G_OPTION_ARG_STRING, &device_option, NULL, NULL },
    { "age", 'a', 0, G_OPTION_ARG_DOUBLE, &age_option, NULL, NULL },
    { 0 },
};

const struct cli_command cli_report = {
    .name = "report",
    .usage = "VM [-s SPACE]",
    .summary = "tell of accesses that something else saw",
    .details = "Reads lines \"ADDRESS [WEIGHT [AGE]]\" from standard input: an address, how many accesses it\n"
               "stands for (1) and how many seconds ago they were (0). JSON is taken as well: a list of\n"
               "addresses or of {\"address\", \"size\", \"weight\", \"age_s\"}, or the arguments of the QMP\n"
               "command vmtier-report. The VM needs `report` among its sources=.\n\n"
               "  -s, --space SPACE   what the addresses are: gpa of the guest (as if nothing is said), hva\n"
               "                      of its QEMU, hpa of the host, dpa of a CXL device\n"
               "  -D, --device MEM    that device, such as mem0\n"
               "  -a, --age S         how old they are where a line does not say\n\n"
               "  echo 0x100000000 50 | vmtier report web1",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_report,
};
