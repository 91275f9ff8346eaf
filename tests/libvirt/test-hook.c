// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * libvirt's hook, with a daemon that answers, hangs, is not there, and says no.
 *
 * timeout: 150
 */
#include "tests/libvirt/lv.h"

#include <gio/gio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define VM "hooked"
#define SETTLE 30.0
#define ATTEMPTS 8

static struct lab *lab;
static struct lv *lv;
static struct vt_daemon *daemon_;

/* --- the script by itself ------------------------------------------------------------------------------------- */

static char *script(void)
{
    return g_build_filename(lv->dir, "etc/libvirt/hooks/qemu.d/50-vmtier", NULL);
}

/* Its exit status; `socket`: the daemon's; NULL: of none. */
static int run_hook(const char *user, const char *socket, const char *operation, const char *xml)
{
    g_autofree char *path = script(), *absolute = socket ? g_canonicalize_filename(socket, NULL) : NULL;
    g_autoptr(GSubprocessLauncher) launcher = g_subprocess_launcher_new(
        G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDERR_SILENCE);
    g_autoptr(GSubprocess) hook = NULL;
    g_autoptr(GError) error = NULL;

    g_subprocess_launcher_setenv(launcher, "VMTIER_SOCKET", absolute ? absolute : "/nonexistent/qmp.sock", TRUE);
    hook = g_subprocess_launcher_spawn(launcher, &error, "setpriv", "--reuid", user, "--clear-groups", path,
                                       "someone", operation, "begin", "-", NULL);
    g_assert_no_error(error);
    g_subprocess_communicate_utf8(hook, xml, NULL, NULL, NULL, NULL);
    return g_subprocess_get_if_exited(hook) ? g_subprocess_get_exit_status(hook) : -1;
}

#define DOMAIN(metadata) \
    "<domain type='kvm'><name>someone</name><uuid>f4e2e487-49a8-4d8c-80f6-27b170b66f77</uuid>" \
    "<memory>1048576</memory><metadata>" metadata "</metadata>" \
    "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='vmtier-qemu.so'/>" \
    "</q:commandline></domain>"
#define TIERING(attributes, children) \
    "<t:tiering xmlns:t='urn:vmtier:libvirt:1' " attributes ">" children "</t:tiering>"

/* A no at prepare, and only there, and only for those that ask for it. */
static void test_says_no(void)
{
    static const char wrong[] = DOMAIN(TIERING("required='yes'", "<dramm/>"));
    static const char too_much[] = "<domain type='kvm'><name>big</name><uuid>f4e2e487-49a8-4d8c-80f6-27b170b66f78"
        "</uuid><memory unit='PiB'>1</memory><metadata>" TIERING("required='yes'", "<dram max='512T'/>")
        "</metadata><q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<q:arg value='vmtier-qemu.so'/></q:commandline></domain>";
    static const char optional[] = DOMAIN(TIERING("", "<dramm/>"));
    static const char good[] = DOMAIN(TIERING("required='yes'", "<dram max='8M'/>"));

    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "prepare", wrong), ==, 1);
    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "prepare", too_much), ==, 1);
    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "prepare", optional), ==, 0);
    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "prepare", good), ==, 0);
    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "prepare", "no XML at all"), ==, 0);
    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "reconnect", wrong), ==, 0);
    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "started", wrong), ==, 0);
    g_assert_cmpint(run_hook("0", daemon_->qmp_socket, "release", good), ==, 0);
}

/* Nobody to ask, or nobody who may: never a failure. */
static void test_nobody(void)
{
    static const char required[] = DOMAIN(TIERING("required='yes'", "<dram max='8M'/>"));

    g_assert_cmpint(run_hook("0", NULL, "prepare", required), ==, 0);
    g_assert_cmpint(run_hook("65534", NULL, "prepare", required), ==, 0);
    g_assert_cmpint(run_hook("65534", daemon_->qmp_socket, "prepare", required), ==, 0);
    g_assert_cmpint(run_hook("65534", daemon_->qmp_socket, "reconnect", required), ==, 0);
}

/* --- under libvirt ------------------------------------------------------------------------------------------------ */

static void test_refused(void)
{
    g_autofree char *xml = lv_domain(lab, "refused", ""), *said = NULL;
    g_auto(GStrv) parts = g_strsplit(xml, "<vcpu>", 2);
    g_autofree char *bad = g_strdup_printf("%s<metadata>" TIERING("required='yes'", "<ram/>")
                                           "</metadata><vcpu>%s", parts[0], parts[1]);
    g_autofree char *file = lab_path(lab, "refused.xml");

    g_assert_true(g_file_set_contents(file, bad, -1, NULL));
    g_free(lv_virsh(lv, "define '%s'", file));
    said = lv_fails(lv, "start refused");
    g_test_message("%s", said);
    g_assert_nonnull(strstr(said, "<ram>: unknown element"));
    lv_assert_state(lv, "refused", "shut off");
}

static double seconds_to_start(void)
{
    double from = lab_now();

    g_free(lv_virsh(lv, "start " VM));
    return lab_now() - from;
}

struct lister {
    GThread *thread;
    gint stop;
    double longest;
};

static gpointer list(gpointer arg)
{
    struct lister *l = arg;

    while (!g_atomic_int_get(&l->stop)) {
        double from = lab_now();

        g_free(lv_virsh(lv, "list"));
        l->longest = MAX(l->longest, lab_now() - from);
    }
    return NULL;
}

static bool is_gone(void *unused)
{
    g_autoptr(JsonObject) vm = daemon_vm(daemon_, VM);

    (void)unused;
    return !vm;
}

/* What a start takes with a daemon that answers, and with one that is stopped; and `virsh list` meanwhile. */
static double measure_delay(double *listed)
{
    struct lister lister = { 0 };
    double usual, hung;

    usual = seconds_to_start();
    daemon_wait_vm_state(daemon_, VM, "tiering", SETTLE);
    g_free(lv_virsh(lv, "destroy " VM));
    g_assert_true(lab_wait(is_gone, NULL, SETTLE));
    child_kill(daemon_->process, SIGSTOP);
    lister.thread = g_thread_new("list", list, &lister);
    hung = seconds_to_start();
    g_atomic_int_set(&lister.stop, 1);
    g_thread_join(lister.thread);
    lv_assert_state(lv, VM, "running");
    child_kill(daemon_->process, SIGCONT);
    daemon_wait_vm_state(daemon_, VM, "tiering", SETTLE);   /* by itself */
    g_free(lv_virsh(lv, "destroy " VM));
    g_assert_true(lab_wait(is_gone, NULL, SETTLE));
    g_test_message("start: %.2f s, with a daemon that hangs %.2f s; virsh list: %.2f s at most", usual, hung,
                   lister.longest);
    *listed = lister.longest;
    return hung - usual;
}

/* What is ours is a second and a half; a machine that is busy with others adds to it, so the best of some counts. */
static void test_daemon_hangs(void)
{
    g_autofree char *xml = lv_domain(lab, VM, "vmt.mode=idle vmt.foot=8M vmt.hot=2M");
    double best = 1e9, best_list = 1e9;

    lv_define(lv, VM, xml, "--max 64M");
    for (int i = 0; i < ATTEMPTS && (best > 2 || best_list > 2); i++) {
        double listed, delay = measure_delay(&listed);

        best = MIN(best, delay);
        best_list = MIN(best_list, listed);
    }
    g_assert_cmpfloat(best, <=, 2.0);
    g_assert_cmpfloat(best_list, <=, 2.0);
}

static void step(gconstpointer run)
{
    if (lv)
        ((void (*)(void))run)();
    else
        g_test_skip("there is no libvirtd");
}

static void end(void)
{
    g_clear_pointer(&lv, lv_free);
    g_clear_pointer(&daemon_, daemon_free);
    g_clear_pointer(&lab, lab_free);
}

int main(int argc, char **argv)
{
    const char *const arguments[] = { "--vmm-group", "kvm", NULL };
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);           /* a hook that has nothing to ask does not read the XML */
    lab = lab_new("hook");
    lv = lv_start(lab, "lv");
    daemon_ = daemon_start(lab, arguments);
    g_test_add_data_func("/libvirt/hook/says-no", (gconstpointer)test_says_no, step);
    g_test_add_data_func("/libvirt/hook/nobody", (gconstpointer)test_nobody, step);
    g_test_add_data_func("/libvirt/hook/refused", (gconstpointer)test_refused, step);
    g_test_add_data_func("/libvirt/hook/daemon-hangs", (gconstpointer)test_daemon_hangs, step);
    g_test_add_func("/libvirt/hook/end", end);
    return g_test_run();
}
