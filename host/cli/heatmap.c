// SPDX-License-Identifier: GPL-2.0-or-later
/* `vmtier heatmap`: a VM's heat over time, in the terminal or as a PNG. */
#include "host/cli/heatmap.h"

#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/cli/json.h"
#include "host/cli/view.h"

#include <sys/ioctl.h>
#include <unistd.h>

static char *output;

static const GOptionEntry options[] = {
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output, NULL, NULL },
    { 0 },
};

static struct heatmap_term terminal(void)
{
    struct heatmap_term term = { .width = 100, .height = 30 };
    struct winsize size;
    const char *kind = g_getenv("TERM");

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
        term.width = size.ws_col;
        term.height = size.ws_row - 1;
        term.colour = kind && !g_str_equal(kind, "dumb") && !g_getenv("NO_COLOR") &&
                      g_get_charset(NULL);
    }
    return term;
}

static bool draw(struct heatmap *heatmap, GError **error)
{
    struct heatmap_term term = terminal();
    g_autoptr(GString) text = g_string_new(NULL);

    if (output) {
        return heatmap_png_draw(heatmap, output, error);
    }
    heatmap_term_draw(heatmap, &term, text);
    g_print("%s", text->str);
    return true;
}

/* The quota and what CXL is are not part of the heat map's JSON. */
static struct heatmap *build(JsonNode *reply, JsonObject *vm, GError **error)
{
    JsonObject *object = JSON_NODE_HOLDS_OBJECT(reply) ? json_node_get_object(reply) : NULL;
    struct heatmap *heatmap = heatmap_from_json(object, error);

    if (heatmap) {
        heatmap->quota_bytes = js_int(js_obj(vm, "quota"), "max_bytes");
        heatmap->cxl_emulated = js_bool(js_at(js_arr(vm, "tiers"), 1), "emulated");
    }
    return heatmap;
}

static JsonNode *fetch(Client *client, const char *vm, GError **error)
{
    JsonObject *args = json_object_new();

    json_object_set_string_member(args, "vm", vm);
    return client_call(client, "query-vmtier-heatmap", args, error);
}

static bool show(struct cli *cli, JsonNode *reply, JsonObject *vm, GError **error)
{
    struct heatmap *heatmap;
    bool ok;

    if (cli->json) {
        cli_print_json(reply);
        if (!output) {
            return true;
        }
    }
    heatmap = build(reply, vm, error);
    ok = heatmap && draw(heatmap, error);
    if (ok && output && !cli->json) {
        g_print("%s: %u moments, %u rows: %s\n", heatmap->vm, heatmap->columns, heatmap->rows, output);
    }
    g_clear_pointer(&heatmap, heatmap_free);
    return ok;
}

static bool run_heatmap(struct cli *cli, char **args, GError **error)
{
    g_autoptr(Client) client = cli_connect(cli, error);
    g_autoptr(JsonObject) vm = client ? cli_fetch_vm(client, args[0], error) : NULL;
    g_autoptr(JsonNode) reply = vm ? fetch(client, args[0], error) : NULL;

    return reply && show(cli, reply, vm, error);
}

const struct cli_command cli_heatmap = {
    .name = "heatmap",
    .usage = "VM [-o F.png]",
    .summary = "a VM's heat over time, here or as a picture",
    .details = "Draws how hot each part of the VM's memory was, and in which tier: time goes to the\n"
               "right, guest-physical addresses up. Bright is hot; warm colours are DRAM, cool ones\n"
               "CXL. Heat is in log scale against the hottest granule of each moment.\n\n"
               "  -o, --output F    write a PNG instead",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_heatmap,
};
