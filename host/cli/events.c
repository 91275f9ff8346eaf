// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier events`: what has happened, and with -f what happens. */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"

#include <stdio.h>

static gboolean follow;

static const GOptionEntry options[] = {
    { "follow", 'f', 0, G_OPTION_ARG_NONE, &follow, NULL, NULL },
    { 0 },
};

static char *local_time(JsonObject *event)
{
    JsonObject *stamp = js_obj(event, "timestamp");
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(js_int(stamp, "seconds"));
    g_autofree char *text = time ? g_date_time_format(time, "%F %T") : g_strdup("?");

    return g_strdup_printf("%s.%03d", text, (int)(js_int(stamp, "microseconds") / 1000));
}

/* The members of the event's data but the VM, as KEY=VALUE. */
static char *rest_of(JsonObject *data)
{
    GString *rest = g_string_new(NULL);
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;

    json_object_iter_init_ordered(&iter, data);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        g_autofree char *value = json_to_string(node, FALSE), *safe = fmt_safe(value);

        if (!g_str_equal(name, "vm")) {
            g_string_append_printf(rest, "  %s=%s", name, safe);
        }
    }
    return g_string_free(rest, FALSE);
}

static void print_text(JsonObject *event)
{
    JsonObject *data = js_obj(event, "data");
    g_autofree char *time = local_time(event), *name = fmt_safe(js_str(event, "event"));
    g_autofree char *vm = fmt_safe(js_str(data, "vm")), *rest = data ? rest_of(data) : g_strdup("");

    g_print("%s  %-23s  %s%s\n", time, name, vm, rest);
}

/* One line for each event, so that a pipe can be read as they come. */
static void print_line(struct cli *cli, JsonObject *event)
{
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), event);
    g_autofree char *text = json_to_string(node, FALSE);

    if (cli->json) {
        g_print("%s\n", text);
    } else {
        print_text(event);
    }
    fflush(stdout);
}

static void print_ring(struct cli *cli, JsonNode *reply)
{
    JsonArray *list = JSON_NODE_HOLDS_ARRAY(reply) ? json_node_get_array(reply) : NULL;

    if (cli->json && !follow) {
        cli_print_json(reply);
        return;
    }
    for (guint i = 0; i < js_len(list); i++) {
        print_line(cli, js_at(list, i));
    }
}

static bool run_events(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = cli_connect(cli, error);
    g_autoptr(JsonNode) reply = client ? client_call(client, "query-vmtier-events", NULL, error) : NULL;
    JsonObject *event;

    (void)args;
    if (!reply) {
        return false;
    }
    print_ring(cli, reply);
    client_drop_events(client);         /* what came before the reply is part of it */
    while (follow && (event = client_next_event(client, error))) {
        print_line(cli, event);
        json_object_unref(event);
    }
    return !follow;
}

const struct cli_command cli_events = {
    .name = "events",
    .usage = "[-f]",
    .summary = "what has happened lately; -f: and what happens",
    .details = "Prints the daemon's last events (up to 512), oldest first; with -f goes on until the\n"
               "daemon ends. With --json -f, each event is one line of JSON.\n\n"
               "  -f, --follow      wait for more",
    .options = options,
    .run = run_events,
};
