// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier hook`: what libvirt's hook script 50-vmtier runs when a VM starts, stops, or libvirtd has started.
 *
 * libvirt keeps the domain locked, and with it `virsh list`, until a hook ends. So an alarm ends this
 * whatever happens, with success: a VM starts untiered rather than late. Only at "prepare" there is an
 * answer to wait for, and only a clear no is a failure. It never calls libvirt, which waits for it.
 */
#include "host/cli/cli.h"
#include "host/cli/json.h"
#include "host/libvirt-xml.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define LIMIT_MS 500

static void give_up(int signal)
{
    (void)signal;
    _exit(CLI_OK);
}

static void start_alarm(void)
{
    const struct itimerval limit = { .it_value = { .tv_sec = LIMIT_MS / 1000,
                                                   .tv_usec = LIMIT_MS % 1000 * 1000 } };
    const struct sigaction action = { .sa_handler = give_up };

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &limit, NULL);
}

static char *read_domain(void)
{
    g_autoptr(GString) s = g_string_new(NULL);
    char buffer[16384];
    ssize_t n;

    while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0 && s->len <= XML_MOST)
        g_string_append_len(s, buffer, n);
    return g_string_free(g_steal_pointer(&s), FALSE);
}

static JsonObject *message(const char *operation, char **args, const char *xml)
{
    JsonObject *o = json_object_new();

    json_object_set_string_member(o, "domain", args[0]);
    json_object_set_string_member(o, "operation", operation);
    json_object_set_string_member(o, "xml", xml);
    return o;
}

static bool run_hook(struct cli *cli, char **args, GError **error)
{
    g_autofree char *xml = NULL;
    g_autoptr(GError) ignored = NULL;
    g_autoptr(Client) client = NULL;
    g_autoptr(JsonNode) reply = NULL;
    const char *reason = NULL;

    start_alarm();
    xml = read_domain();
    if (!g_utf8_validate(xml, -1, NULL))
        return true;
    client = cli_connect(cli, &ignored);
    if (!client)
        return true;
    reply = client_call(client, "vmtier-libvirt-hook", message(args[1], args, xml), &ignored);
    if (reply && JSON_NODE_HOLDS_OBJECT(reply))
        reason = js_str(json_node_get_object(reply), "refuse");
    if (reason)
        g_set_error(error, CLI_ERROR, CLI_REFUSED, "%s: %s", args[0], reason);
    return !reason;
}

const struct cli_command cli_hook = {
    .name = "hook",
    .usage = "DOMAIN OPERATION SUBOPERATION EXTRA <XML",
    .summary = "what libvirt's hook script runs",
    .details = "The arguments and the domain's XML on stdin are what libvirt gives a hook. Fails only if the\n"
               "daemon says that a domain with required='yes' cannot have what it asks for; without an\n"
               "answer within half a second it succeeds.",
    .min_args = 2,
    .max_args = 4,
    .run = run_hook,
};
