// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier top`: the status, live.
 *
 * On a terminal it is a full screen with the table of VMs and everything about the chosen one; else,
 * or with --once, the status is printed again and again, or once.
 */
#include "host/cli/cli.h"
#include "host/cli/json.h"
#include "host/cli/view.h"

#include <ncurses.h>
#include <stdio.h>
#include <unistd.h>

static gboolean once;
static int interval_s;

static const GOptionEntry options[] = {
    { "once", 0, 0, G_OPTION_ARG_NONE, &once, NULL, NULL },
    { "delay", 'd', 0, G_OPTION_ARG_INT, &interval_s, NULL, NULL },
    { 0 },
};

/* What the screen shows, and which VM is chosen. */
struct top {
    Client *client;
    JsonNode *status;
    unsigned chosen;
};

static JsonObject *root(const struct top *top)
{
    return JSON_NODE_HOLDS_OBJECT(top->status) ? json_node_get_object(top->status) : NULL;
}

static bool refresh_status(struct top *top, GError **error)
{
    JsonNode *status = client_call(top->client, "query-vmtier-status", NULL, error);

    if (!status) {
        return false;
    }
    g_clear_pointer(&top->status, json_node_unref);
    top->status = status;
    return true;
}

static void print_plain(struct cli *cli, const struct top *top)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *json = cli->json ? json_to_string(top->status, once) : NULL;

    if (json) {
        g_print("%s\n", json);
    } else {
        view_daemon(root(top), text);
        g_string_append_c(text, '\n');
        view_vms(js_arr(root(top), "vms"), text);
        g_print(once ? "%s" : "%s\n", text->str);
    }
    fflush(stdout);
}

static bool run_plain(struct cli *cli, struct top *top, GError **error)
{
    while (refresh_status(top, error)) {
        print_plain(cli, top);
        if (once) {
            return true;
        }
        g_usleep((gulong)interval_s * G_USEC_PER_SEC);
    }
    return false;
}

/* Paints the lines of a text from line y on and returns the line below them. The first is bold, and
 * `marked` is in reverse video. */
static int paint(int y, const char *text, int marked)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    int count = (int)g_strv_length(lines) - 1;      /* the text ends with a newline */

    for (int i = 0; i < count; i++) {
        attrset(i == marked ? A_REVERSE : i == 0 ? A_BOLD : A_NORMAL);
        mvaddstr(y + i, 0, lines[i]);
    }
    return y + count;
}

static void paint_all(struct top *top)
{
    g_autoptr(GString) daemon = g_string_new(NULL), table = g_string_new(NULL);
    g_autoptr(GString) one = g_string_new(NULL);
    JsonArray *vms = js_arr(root(top), "vms");
    int y;

    erase();
    top->chosen = MIN(top->chosen, MAX(js_len(vms), 1) - 1);
    view_daemon(root(top), daemon);
    view_vms(vms, table);
    y = paint(0, daemon->str, -1);
    y = paint(y + 1, table->str, js_len(vms) ? (int)top->chosen + 1 : -1);
    if (js_len(vms)) {
        view_vm(js_at(vms, top->chosen), one);
        paint(y + 1, one->str, -1);
    }
    attrset(A_DIM);
    mvprintw(LINES - 1, 0, "up/down: choose a VM   q: quit");
    refresh();
}

/* Handles keys until it is time for news; false when the user wants out. */
static bool handle_keys(struct top *top)
{
    gint64 until = g_get_monotonic_time() + interval_s * G_USEC_PER_SEC;
    gint64 left;

    while ((left = until - g_get_monotonic_time()) > 0) {
        int key;

        timeout((int)(left / 1000) + 1);
        key = getch();
        if (key == 'q' || key == 'Q') {
            return false;
        }
        top->chosen += key == KEY_DOWN || key == 'j';
        top->chosen -= (key == KEY_UP || key == 'k') && top->chosen > 0;
        if (key != ERR) {
            paint_all(top);
        }
    }
    return true;
}

static bool run_screen(struct top *top, GError **error)
{
    bool ok;

    if (!refresh_status(top, error)) {
        return false;
    }
    initscr();
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    do {
        paint_all(top);
    } while ((ok = handle_keys(top)) && (ok = refresh_status(top, error)));
    endwin();
    return ok || !*error;
}

static bool check_interval(GError **error)
{
    interval_s = interval_s ? interval_s : 1;
    if (interval_s < 1 || interval_s > 3600) {
        g_set_error_literal(error, CLI_ERROR, CLI_USAGE, "--delay takes 1 to 3600 seconds");
        return false;
    }
    return true;
}

static bool run_top(struct cli *cli, char **args, GError **error)
{
    const char *kind = g_getenv("TERM");
    bool screen = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && kind && *kind && !cli->json && !once;
    g_autoptr(Client) client = NULL;
    struct top top = { 0 };
    bool ok;

    (void)args;
    if (!check_interval(error) || !(client = cli_connect(cli, error))) {
        return false;
    }
    top.client = client;
    ok = screen ? run_screen(&top, error) : run_plain(cli, &top, error);
    g_clear_pointer(&top.status, json_node_unref);
    return ok;
}

const struct cli_command cli_top = {
    .name = "top",
    .usage = "[--once] [-d S]",
    .summary = "the status, live",
    .details = "Shows the daemon, all VMs and everything about the chosen one, and keeps it up to date.\n"
               "Where the output is not a terminal the status is printed every time.\n\n"
               "  --once            print the status once\n"
               "  -d, --delay S     seconds between updates (1)",
    .options = options,
    .run = run_top,
};
