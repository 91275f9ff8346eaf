// SPDX-License-Identifier: GPL-2.0-or-later
/* A private libvirtd for tests: see lv.h. */
#include "tests/libvirt/lv.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define INSIDE "/run/vt/build"

/* --- the libvirtd ---------------------------------------------------------------------------------------- */

static void await_done(struct lv *lv, const char *command)
{
    char line[4096];

    while (fgets(line, sizeof(line), lv->from)) {
        if (!strcmp(line, "done 0\n"))
            return;
        g_test_message("%s: %s", command, g_strchomp(line));
        if (g_str_has_prefix(line, "done "))
            break;
    }
    g_error("libvirtd's namespace: %s failed", command);
}

void lv_shell(struct lv *lv, const char *command)
{
    g_assert_cmpint(dprintf(lv->to, "%s\n", command), >, 0);
    await_done(lv, command);
}

static void die_with_parent(gpointer unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static bool possible(void)
{
    g_autofree char *libvirtd = g_find_program_in_path("libvirtd");

    if (!libvirtd && !g_file_test("/usr/sbin/libvirtd", G_FILE_TEST_EXISTS))
        g_test_message("there is no libvirtd here: run 'make deps'");
    else if (geteuid() != 0)
        g_test_message("only root can have a libvirtd in namespaces of its own");
    else
        return true;
    return false;
}

/* A libvirtd needs the directories on the way to the lab, for a user who is not us. */
static void open_up(const char *dir)
{
    g_assert_cmpint(g_chmod(dir, 0755), ==, 0);
}

struct lv *lv_start(struct lab *lab, const char *name)
{
    g_autofree char *build = lab_built(""), *whole = g_canonicalize_filename(build, NULL), *log = NULL;
    g_autofree char *below = lab_path(lab, name);
    struct lv *lv;
    int to, from;
    char *argv[] = { "unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--kill-child", "--",
                     "tests/libvirt/ns-init.sh", NULL, whole, (char *)name, NULL };
    g_autoptr(GError) error = NULL;

    if (!possible())
        return NULL;
    lv = g_new0(struct lv, 1);
    lv->lab = lab;
    lv->dir = g_canonicalize_filename(below, NULL);
    argv[10] = lv->dir;
    lv->uri = g_strdup_printf("qemu+unix:///system?socket=%s/s/libvirt-sock", lv->dir);
    open_up(lab->dir);
    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                             die_with_parent, NULL, &lv->process, &to, &from, NULL, &error);
    g_assert_no_error(error);
    lv->to = to;
    lv->from = fdopen(from, "r");
    await_done(lv, "start");
    log = g_build_filename(lv->dir, "log", "libvirtd.log", NULL);
    lab_watch_log(log);
    return lv;
}

/* The files of a failed test stay for a look. */
static void remove_files(const struct lv *lv)
{
    g_autofree char *queue = lab_path(lv->lab, "q"), *domains = lab_path(lv->lab, "domains");
    char *argv[] = { "rm", "-rf", "--", lv->dir, queue, domains, NULL };

    if (!g_test_failed())
        g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

void lv_free(struct lv *lv)
{
    kill(lv->process, SIGKILL);
    waitpid(lv->process, NULL, 0);
    close(lv->to);
    fclose(lv->from);
    remove_files(lv);
    g_free(lv->dir);
    g_free(lv->uri);
    g_free(lv);
}

/* --- programs --------------------------------------------------------------------------------------------- */

static int run_program(char **argv, const char *input, char **out, char **err)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) process = NULL;

    process = g_subprocess_newv((const char *const *)argv,
                                G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                                G_SUBPROCESS_FLAGS_STDERR_PIPE, &error);
    g_assert_no_error(error);
    g_subprocess_communicate_utf8(process, input ? input : "", NULL, out, err, &error);
    g_assert_no_error(error);
    return g_subprocess_get_if_exited(process) ? g_subprocess_get_exit_status(process) : -1;
}

static bool virsh(struct lv *lv, char **out, char **err, const char *format, va_list args)
{
    g_autofree char *words = g_strdup_vprintf(format, args), *line = NULL;
    g_auto(GStrv) argv = NULL;

    line = g_strdup_printf("virsh -q -c '%s' %s", lv->uri, words);
    g_assert_true(g_shell_parse_argv(line, NULL, &argv, NULL));
    return run_program(argv, NULL, out, err) == 0;
}

bool lv_try(struct lv *lv, char **out, char **err, const char *format, ...)
{
    va_list args;
    bool good;

    va_start(args, format);
    good = virsh(lv, out, err, format, args);
    va_end(args);
    return good;
}

char *lv_virsh(struct lv *lv, const char *format, ...)
{
    g_autofree char *err = NULL;
    char *out = NULL;
    va_list args;
    bool good;

    va_start(args, format);
    good = virsh(lv, &out, &err, format, args);
    va_end(args);
    if (!good)
        g_error("virsh %s: %s", format, err);
    return g_strstrip(out);
}

char *lv_fails(struct lv *lv, const char *format, ...)
{
    g_autofree char *out = NULL;
    char *err = NULL;
    va_list args;
    bool good;

    va_start(args, format);
    good = virsh(lv, &out, &err, format, args);
    va_end(args);
    if (good)
        g_error("virsh %s was to fail", format);
    return g_strstrip(err);
}

char *lv_vmtier(struct lab *lab, const char *input, int status, const char *format, ...)
{
    g_autofree char *program = lab_built("vmtier"), *socket = lab_path(lab, "qmp.sock");
    g_autofree char *words = NULL, *line = NULL, *err = NULL;
    g_auto(GStrv) argv = NULL;
    char *out = NULL;
    va_list args;
    int is;

    va_start(args, format);
    words = g_strdup_vprintf(format, args);
    va_end(args);
    line = g_strdup_printf("'%s' --socket '%s' %s", program, socket, words);
    g_assert_true(g_shell_parse_argv(line, NULL, &argv, NULL));
    is = run_program(argv, input, &out, &err);
    if (is != status)
        g_error("vmtier %s: status %d: %s", words, is, err);
    if (!status)
        return out;
    g_free(out);
    return g_steal_pointer(&err);
}

/* --- domains ------------------------------------------------------------------------------------------------ */

char *lv_inside(const struct lab *lab, const char *name)
{
    g_autofree char *build = lab_built("");

    g_assert_true(g_str_has_prefix(lab->dir, build));
    return g_build_filename(INSIDE, lab->dir + strlen(build), name, NULL);
}

char *lv_home(const char *name)
{
    return g_build_filename("/run/vmtier", name, NULL);
}

/* Where QEMU makes the guest's port. */
static char *port_of(const char *name)
{
    return g_strdup_printf("q/%s.port", name);
}

char *lv_domain(struct lab *lab, const char *name, const char *append)
{
    g_autofree char *port = port_of(name), *path = lv_home(port), *dir = lab_path(lab, "q");

    g_mkdir_with_parents(dir, 0777);
    g_assert_cmpint(g_chmod(dir, 0777), ==, 0);
    return g_strdup_printf(
        "<domain type='qemu'>\n  <name>%s</name>\n  <memory unit='MiB'>256</memory>\n  <vcpu>1</vcpu>\n"
        "  <os>\n    <type arch='x86_64' machine='pc'>hvm</type>\n"
        "    <kernel>" INSIDE "/cache/kernel/vmlinuz</kernel>\n"
        "    <initrd>" INSIDE "/cache/initrd.cpio</initrd>\n"
        "    <cmdline>" GUEST_CMDLINE " %s</cmdline>\n  </os>\n"
        "  <features>\n    <acpi/>\n  </features>\n"
        "  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>restart</on_reboot>\n"
        "  <devices>\n    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n"
        "    <serial type='null'/>\n"
        "    <serial type='unix'>\n      <source mode='bind' path='%s'/>\n      <target port='1'/>\n"
        "    </serial>\n    <memballoon model='virtio'/>\n  </devices>\n</domain>\n", name, append, path);
}

char *lv_tierable(struct lab *lab, const char *xml, const char *words)
{
    g_autofree char *socket = lv_home("vmm.sock");

    return lv_vmtier(lab, xml, 0, "domxml --plugin " INSIDE "/vmtier-qemu.so --vmm-socket '%s' %s", socket, words);
}

void lv_define(struct lv *lv, const char *xml, const char *words)
{
    g_autofree char *file = lab_path(lv->lab, "domain.xml"), *changed = lv_tierable(lv->lab, xml, words);

    g_assert_true(g_file_set_contents(file, changed, -1, NULL));
    g_free(lv_virsh(lv, "define --validate '%s'", file));
}

void lv_assert_state(struct lv *lv, const char *domain, const char *state)
{
    g_autofree char *is = lv_virsh(lv, "domstate %s", domain);

    g_assert_cmpstr(is, ==, state);
}

struct guest *lv_guest(struct lab *lab, const char *name, double timeout)
{
    g_autofree char *port = port_of(name), *path = lab_path(lab, port);

    return guest_open(path, NULL, timeout);
}
