// SPDX-License-Identifier: GPL-2.0-or-later
/* What the machine has to have for the demo, and which accelerator it can use. */
#include "demo.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define KVM_TRY_S 15.0

/* --- what is missing ------------------------------------------------------------------------- */

static char *missing_files(void)
{
    static const char *const files[][2] = {
        { "vmtierd", "make" }, { "vmtier-qemu.so", "make" },
        { "cache/kernel/vmlinuz", "tests/vm/fetch-kernel.sh" },
        { "cache/initrd.cpio", "tests/vm/mk-initrd.sh" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = lab_built(files[i][0]);

        if (access(path, R_OK) < 0)
            return g_strdup_printf("%s is missing: run '%s', or 'make demo', which does all that "
                                   "is needed.", path, files[i][1]);
    }
    return NULL;
}

static char *missing_userfaultfd(void)
{
    int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), error = errno;

    if (fd >= 0) {
        close(fd);
        return NULL;
    }
    if (error == ENOENT)
        return g_strdup("There is no /dev/userfaultfd: Linux 6.1 or newer with CONFIG_USERFAULTFD "
                        "is needed.");
    return g_strdup_printf(
        "vmtierd has to open /dev/userfaultfd: %s.\n"
        "Run this as root, or give your user access and run it again:\n"
        "    sudo setfacl -m u:$USER:rw /dev/userfaultfd\n"
        "Access to /dev/kvm is optional: without it the VM is emulated (TCG).\n"
        "Nothing else of this needs root.", g_strerror(error));
}

char *start_missing(void)
{
    g_autofree char *qemu = g_find_program_in_path("qemu-system-x86_64");
    char *missing = missing_files();

    if (!missing && !qemu)
        missing = g_strdup("qemu-system-x86_64 is missing: run 'make deps'.");
    return missing ? missing : missing_userfaultfd();
}

/* --- KVM or TCG ------------------------------------------------------------------------------ */

static bool says_ready(int fd)
{
    struct timeval tenth = { .tv_usec = 100000 };
    g_autoptr(GString) text = g_string_new(NULL);
    double end = lab_now() + KVM_TRY_S;
    char bytes[4096];
    ssize_t n = -1;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tenth, sizeof(tenth));
    while (n != 0 && lab_now() < end && !strstr(text->str, "VMT READY")) {
        n = recv(fd, bytes, sizeof(bytes), 0);
        g_string_append_len(text, bytes, MAX(n, 0));
    }
    return strstr(text->str, "VMT READY") != NULL;
}

/* Not vm_start(), which takes a QEMU that ends for an error of the test. */
static bool kvm_boots_linux(struct lab *lab)
{
    const struct vm_options options = {
        .accel = "kvm", .ram = "256M", .append = "vmt.foot=32M vmt.hot=8M" };
    g_autoptr(Vm) vm = vm_spawn(lab, "kvm-try", &options);
    int fd = lab_connect(vm->port_path, vm->qemu, KVM_TRY_S);
    bool ready = fd >= 0 && says_ready(fd);

    if (fd >= 0)
        close(fd);
    return ready;
}

static void choose(struct demo *demo, const char *accel, const char *why)
{
    demo->accel = accel;
    demo->accel_why = g_strdup(why);
}

void start_choose_accel(struct demo *demo)
{
    const char *const tcg = "tcg,thread=single";

    if (access("/dev/kvm", R_OK | W_OK) < 0)
        choose(demo, tcg, errno == ENOENT ? "there is no /dev/kvm" : "no access to /dev/kvm");
    else if (access("/sys/module/kvm_pvm", F_OK) == 0)
        choose(demo, tcg, "this host's KVM is kvm_pvm, which cannot boot Linux in QEMU");
    else if (kvm_boots_linux(demo->lab))
        choose(demo, "kvm", "it boots Linux here");
    else
        choose(demo, tcg, "KVM is there but did not boot Linux within 15 s");
}
