// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier domxml`: makes a libvirt domain one that can be tiered, or undoes that. Needs no daemon.
 *
 * The XML comes from libvirt (a domain's name), from a KubeVirt sidecar's arguments, or from stdin.
 */
#include "host/cli/cli.h"
#include "host/cli/format.h"
#include "host/libvirt-domxml.h"
#include "host/libvirt-module.h"

#include <errno.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static gboolean remove_option, define_option, diff_option, kubevirt_option, required_option;
static gboolean hugepages_option, no_agent_option;
static char *connect_option, *vmi_option, *domain_option, *plugin_option, *vmm_socket_option;
static char *mode_option, *min_option, *max_option, *weight_option, *granule_option;

static bool usage(GError **error, const char *text)
{
    g_set_error_literal(error, CLI_ERROR, CLI_USAGE, text);
    return false;
}

/* --- where it comes from ------------------------------------------------------------------------------- */

static char *read_stdin(GError **error)
{
    g_autoptr(GString) s = g_string_new(NULL);
    char buffer[65536];
    ssize_t n;

    while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0 && s->len <= XML_MOST)
        g_string_append_len(s, buffer, n);
    if (n >= 0)
        return g_string_free(g_steal_pointer(&s), FALSE);
    g_set_error(error, CLI_ERROR, CLI_REFUSED, "stdin: %s", g_strerror(errno));
    return NULL;
}

static const char *uri(void)
{
    return connect_option ? connect_option : LIBVIRT_URI;
}

static char *read_libvirt(const char *domain, GError **error)
{
    const struct libvirt_module *libvirt = libvirt_module(error);

    return libvirt ? libvirt->read(uri(), domain, error) : NULL;
}

static char *read_xml(const char *domain, GError **error)
{
    if (kubevirt_option)
        return g_strdup(domain_option);
    return domain ? read_libvirt(domain, error) : read_stdin(error);
}

/* --- where it goes to ---------------------------------------------------------------------------------- */

/* The text becomes a file that another process can open as its descriptor `as`. */
static bool give_file(GSubprocessLauncher *launcher, const char *text, int as, GError **error)
{
    int fd = memfd_create("vmtier-domxml", MFD_CLOEXEC);
    size_t size = strlen(text);

    if (fd >= 0 && write(fd, text, size) == (ssize_t)size) {
        g_subprocess_launcher_take_fd(launcher, fd, as);
        return true;
    }
    g_set_error(error, CLI_ERROR, CLI_REFUSED, "no memory for a file of %zu bytes: %s", size, g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return false;
}

static bool print_diff(const char *before, const char *after, GError **error)
{
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_NONE);
    g_autoptr(GSubprocess) diff = NULL;

    if (!give_file(launcher, before, 3, error) || !give_file(launcher, after, 4, error))
        return false;
    diff = g_subprocess_launcher_spawn(launcher, error, "diff", "-u", "--label", "before", "--label", "after",
                                       "/dev/fd/3", "/dev/fd/4", NULL);
    if (!diff || !g_subprocess_wait(diff, NULL, error))
        return false;
    if (g_subprocess_get_if_exited(diff) && g_subprocess_get_exit_status(diff) <= 1)    /* 1: they differ */
        return true;
    g_set_error(error, CLI_ERROR, CLI_REFUSED, "diff has failed");
    return false;
}

static bool define(const char *before, const char *after, GError **error)
{
    const struct libvirt_module *libvirt = libvirt_module(error);

    if (!libvirt)
        return false;
    if (!strcmp(before, after)) {
        g_print("nothing to change\n");
        return true;
    }
    if (!libvirt->define(uri(), after, error))
        return false;
    g_print("defined; a domain that runs gets it when it is started again\n");
    return true;
}

static bool put_out(const char *before, const char *after, GError **error)
{
    if (diff_option && !print_diff(before, after, error))
        return false;
    if (define_option)
        return define(before, after, error);
    if (!diff_option)
        fputs(after, stdout);
    if (fflush(stdout) == 0)
        return true;
    g_set_error(error, CLI_ERROR, CLI_REFUSED, "stdout: %s", g_strerror(errno));
    return false;
}

/* --- the command ---------------------------------------------------------------------------------------- */

static bool check_options(const char *domain, GError **error)
{
    if (define_option && !domain)
        return usage(error, "--define needs the name of a domain");
    if (kubevirt_option && (!vmi_option || !domain_option || domain))
        return usage(error, "--kubevirt goes with --vmi JSON and --domain XML, and without a name");
    if (!kubevirt_option && (vmi_option || domain_option))
        return usage(error, "--vmi and --domain go with --kubevirt");
    return true;
}

static char *transform(const char *text, GError **error)
{
    struct domxml_options o = {
        .plugin = plugin_option, .socket = vmm_socket_option, .mode = mode_option, .min = min_option,
        .max = max_option, .weight = weight_option, .granule = granule_option, .required = required_option,
        .hugepages = hugepages_option, .no_agent = no_agent_option,
    };

    if (remove_option)
        return domxml_remove(text, strlen(text), error);
    if (vmi_option && !domxml_vmi_options(vmi_option, &o, error))
        return NULL;
    return domxml_add(text, strlen(text), &o, error);
}

static bool run_domxml(struct cli *cli, char **args, GError **error)
{
    g_autofree char *before = NULL, *after = NULL;

    (void)cli;
    if (!check_options(args[0], error))
        return false;
    before = read_xml(args[0], error);
    after = before ? transform(before, error) : NULL;
    return after && put_out(before, after, error);
}

static const GOptionEntry options[] = {
    { "remove", 0, 0, G_OPTION_ARG_NONE, &remove_option, NULL, NULL },
    { "define", 0, 0, G_OPTION_ARG_NONE, &define_option, NULL, NULL },
    { "connect", 'c', 0, G_OPTION_ARG_STRING, &connect_option, NULL, NULL },
    { "diff", 0, 0, G_OPTION_ARG_NONE, &diff_option, NULL, NULL },
    { "mode", 0, 0, G_OPTION_ARG_STRING, &mode_option, NULL, NULL },
    { "min", 0, 0, G_OPTION_ARG_STRING, &min_option, NULL, NULL },
    { "max", 0, 0, G_OPTION_ARG_STRING, &max_option, NULL, NULL },
    { "weight", 0, 0, G_OPTION_ARG_STRING, &weight_option, NULL, NULL },
    { "granule", 0, 0, G_OPTION_ARG_STRING, &granule_option, NULL, NULL },
    { "required", 0, 0, G_OPTION_ARG_NONE, &required_option, NULL, NULL },
    { "hugepages", 0, 0, G_OPTION_ARG_NONE, &hugepages_option, NULL, NULL },
    { "no-agent", 0, 0, G_OPTION_ARG_NONE, &no_agent_option, NULL, NULL },
    { "plugin", 0, 0, G_OPTION_ARG_FILENAME, &plugin_option, NULL, NULL },
    { "vmm-socket", 0, 0, G_OPTION_ARG_FILENAME, &vmm_socket_option, NULL, NULL },
    { "kubevirt", 0, 0, G_OPTION_ARG_NONE, &kubevirt_option, NULL, NULL },
    { "vmi", 0, 0, G_OPTION_ARG_STRING, &vmi_option, NULL, NULL },
    { "domain", 0, 0, G_OPTION_ARG_STRING, &domain_option, NULL, NULL },
    { 0 },
};

const struct cli_command cli_domxml = {
    .name = "domxml",
    .usage = "[DOMAIN] [--remove] [--define] [--diff]",
    .summary = "make a libvirt domain one that can be tiered",
    .details = "Reads a domain's XML from stdin, or a DOMAIN's from libvirt, and prints it with what tiering\n"
               "needs: RAM that is a shared file, the plugin, a channel for the agent, settings. What keeps a\n"
               "domain from being tiered (VFIO, vhost-user, SEV...) is said with its line.\n\n"
               "  --remove          undo it: gives back what was there before\n"
               "  --define          define DOMAIN anew, rather than print\n"
               "  -c, --connect URI libvirt's (" LIBVIRT_URI ")\n"
               "  --diff            print what changes only\n"
               "  --mode on|observe|off, --min SIZE|PCT%, --max SIZE|PCT%, --weight N, --granule SIZE\n"
               "                    settings for a domain that has none; --required: no start without them\n"
               "  --hugepages       RAM of hugetlb pages\n"
               "  --no-agent        no channel for the agent\n"
               "  --plugin PATH, --vmm-socket PATH    vmtier-qemu.so, and where it finds the daemon\n"
               "  --kubevirt --vmi JSON --domain XML  as the sidecar hook onDefineDomain is called\n\n"
               "  vmtier domxml web1 --diff\n  vmtier domxml web1 --max 4G --define\n"
               "  vmtier domxml <plain.xml >tiered.xml",
    .options = options,
    .max_args = 1,
    .run = run_domxml,
};
