// SPDX-License-Identifier: GPL-2.0-or-later
/* See diskvm.h. */
#include "diskvm.h"

#include <fcntl.h>
#include <unistd.h>

#define SECTOR  512u
#define GRANULE (64u << 10)
#define BOOT_S  90.0
#define PATIENCE_S 60.0             /* for a request that is under way */

/* --- the disk ------------------------------------------------------------------------------- */

/* What guest/disk.c expects of sector n. */
static uint64_t signature(uint64_t sector)
{
    return (sector + 1) * 0x9e3779b97f4a7c15u;
}

char *diskvm_make_disk(struct lab *lab, const char *name)
{
    char *path = lab_path(lab, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_autofree uint64_t *data = g_malloc(DISK_BYTES);

    for (uint64_t i = 0; i < DISK_BYTES / sizeof(*data); i++)
        data[i] = signature(i * sizeof(*data) / SECTOR);
    g_assert_cmpint(write(fd, data, DISK_BYTES), ==, DISK_BYTES);
    close(fd);
    return path;
}

bool diskvm_can_direct(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* --- the VM --------------------------------------------------------------------------------- */

static void add_drive(GPtrArray *args, const struct diskvm_options *o, const char *disk)
{
    const char *const drive[] = { "-drive", NULL, "-device",
        o->iothread ? "virtio-blk-pci,drive=d0,id=v0,iothread=t0" : "virtio-blk-pci,drive=d0,id=v0" };

    if (o->iothread) {
        g_ptr_array_add(args, g_strdup("-object"));
        g_ptr_array_add(args, g_strdup("iothread,id=t0"));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(drive); i++)
        g_ptr_array_add(args, drive[i] ? g_strdup(drive[i]) : g_strdup_printf(
            "if=none,id=d0,format=raw,file=%s,cache=none,aio=%s", disk, o->aio));
}

static void add_extra(GPtrArray *args, const struct diskvm_options *o)
{
    for (const char *const *arg = o->extra; arg && *arg; arg++)
        g_ptr_array_add(args, g_strdup(*arg));
    g_ptr_array_add(args, NULL);
}

static bool is_there(void *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Returns its -drive. */
static char *start_nbd(struct diskvm *d)
{
    g_autofree char *disk = diskvm_make_disk(d->lab, "other.raw");
    g_autofree char *path = lab_path(d->lab, "nbd");
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);     /* it wants that */
    const char *const argv[] = { "qemu-nbd", "--persistent", "--format=raw", "--shared=2",
                                 "--socket", absolute, disk, NULL };

    d->nbd = child_start(d->lab, "qemu-nbd", argv);
    if (!lab_wait(is_there, path, BOOT_S))
        g_error("qemu-nbd does not listen");
    return g_strdup_printf("if=none,id=d1,format=raw,file=nbd:unix:%s", absolute);
}

static void add_nbd(GPtrArray *args, struct diskvm *d)
{
    const char *const rest[] = { "-device", "virtio-blk-pci,drive=d1,id=v1" };

    g_ptr_array_add(args, g_strdup("-drive"));
    g_ptr_array_add(args, start_nbd(d));
    for (gsize i = 0; i < G_N_ELEMENTS(rest); i++)
        g_ptr_array_add(args, g_strdup(rest[i]));
}

static void start_vm(struct diskvm *d, const char *name, const struct diskvm_options *o,
                     const char *plugin, const char *disk)
{
    g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *append = g_strconcat(
        "vmt.foot=32M vmt.hot=8M vmt.mode=idle ",
        o->disk ? o->disk : "vmt.disk=4 vmt.diskwrites=1", o->nbd ? " vmt.otherdisk=1" : NULL, NULL);
    g_autofree char *qemu10 = o->qemu10 ? vm_qemu10() : NULL;

    add_drive(args, o, disk);
    if (o->nbd)
        add_nbd(args, d);
    add_extra(args, o);
    if (o->no_fence)
        g_setenv("VMTIER_TEST_NO_FENCE", "1", TRUE);
    d->vm = vm_start(d->lab, name, &(struct vm_options){
        .qemu = qemu10, .ram = "256M", .plugin = plugin, .append = append,
        .extra = (const char *const *)args->pdata,
    });
    if (o->no_fence) {
        g_autofree char *file = g_strconcat(name, ".console", NULL);

        d->console = lab_path(d->lab, file);
        g_unsetenv("VMTIER_TEST_NO_FENCE");
    }
    g_free(guest_expect(d->vm->guest, "VMT DISK", BOOT_S));
}

bool diskvm_start(struct diskvm *d, const char *name, const struct diskvm_options *o)
{
    *d = (struct diskvm){ .options = *o, .lab = lab_new(name) };
    g_autofree char *disk = diskvm_make_disk(d->lab, "disk.raw");
    g_autofree char *so = lab_built("vmtier-qemu.so"), *socket = lab_path(d->lab, "vmm");
    g_autofree char *plugin = g_strdup_printf("%s,socket=%s,vm=%s", so, socket, name);

    if (!diskvm_can_direct(disk)) {
        g_test_skip("the file system of the build directory has no O_DIRECT");
        lab_free(d->lab);
        return false;
    }
    if (!o->no_plugin)
        d->pusher = pusher_start(socket, o->granule ? o->granule : GRANULE);
    start_vm(d, name, o, o->no_plugin ? NULL : plugin, disk);
    return true;
}

void diskvm_end(struct diskvm *d)
{
    if (d->pusher)
        pusher_end(d->pusher);
    vm_free(d->vm);
    if (d->nbd)
        child_free(d->nbd);
    g_free(d->console);
    lab_free(d->lab);
}

/* --- what it does --------------------------------------------------------------------------- */

/* Without the fence I/O may go to pages of the kernel or of a program, and no count comes any more. */
static bool guest_is_hit(const struct diskvm *d)
{
    static const char *const words[] = { "Oops", "BUG:", "Kernel panic", "general protection", "Segmentation fault",
                                         "the workload ended" };
    g_autofree char *text = NULL;

    if (!d->console || !g_file_get_contents(d->console, &text, NULL, NULL))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        if (strstr(text, words[i])) {
            g_test_message("the guest says '%s'", words[i]);
            return true;
        }
    return false;
}

/* NULL: the guest was hit. */
static char *next_count(struct diskvm *d, const char *prefix)
{
    double end = lab_deadline(PATIENCE_S);
    char *line;

    while (!(line = guest_wait_line(d->vm->guest, prefix, 1)) && !guest_is_hit(d))
        if (lab_now() > end)
            g_error("the guest did not say '%s' within %.0f s", prefix, PATIENCE_S * LAB_PATIENCE);
    return line;
}

struct disk_count diskvm_count(struct diskvm *d, const char *disk)
{
    g_autofree char *prefix = g_strdup_printf("VMT %s ", disk);
    g_autofree char *line = NULL, *newer;

    /* The last of those that have come, or the next one. */
    while ((newer = guest_wait_line(d->vm->guest, prefix, 0))) {
        g_free(line);
        line = newer;
    }
    if (!line && !(line = next_count(d, prefix)))
        return (struct disk_count){ .bad = 1 };
    return (struct disk_count){ guest_number(line, "ops"), guest_number(line, "bad") };
}

uint64_t diskvm_requests(struct diskvm *d)
{
    g_autoptr(JsonNode) node = qmp_ok(d->vm->qmp, "query-blockstats", NULL);
    JsonArray *all = json_node_get_array(node);

    for (guint i = 0; i < json_array_get_length(all); i++) {
        JsonObject *one = json_array_get_object_element(all, i);
        JsonObject *stats = json_object_get_object_member(one, "stats");

        if (g_strcmp0(json_object_get_string_member(one, "device"), "d0") == 0)
            return (uint64_t)(json_object_get_int_member(stats, "rd_operations") +
                              json_object_get_int_member(stats, "wr_operations"));
    }
    g_error("no drive d0");
}

/* Has the device nothing to do, because all that the guest asked for is done? */
static bool guest_stopped(struct diskvm *d)
{
    g_autoptr(JsonNode) node = qmp_ok(d->vm->qmp, "x-query-virtio-queue-status",
        "{\"path\":\"/machine/peripheral/v0/virtio-backend\",\"queue\":0}");
    JsonObject *queue = json_node_get_object(node);
    gint64 inuse = json_object_get_int_member(queue, "inuse");
    gint64 used = json_object_get_int_member(queue, "used-idx");
    gint64 taken = json_object_get_int_member_with_default(queue, "last-avail-idx", -1);
    gint64 offered = json_object_get_int_member_with_default(queue, "shadow-avail-idx", -1);

    g_test_message("no read for %.0f s: in use %d, used %d, taken %d, offered %d", STALL_S,
                   (int)inuse, (int)used, (int)taken, (int)offered);
    return !inuse && used == taken && taken == offered;
}

/* A machine that is very busy may make a request take that long. */
static enum disk_state stalled(struct diskvm *d, uint64_t ops)
{
    double end = lab_deadline(PATIENCE_S);

    while (!guest_stopped(d)) {
        if (diskvm_count(d, "DISK").ops != ops)
            return DISK_FINE;
        if (lab_now() > end)
            g_error("requests of the guest's do not end");
        lab_sleep(1);
    }
    g_test_message("STALL: the guest has not noticed that its requests are complete. QEMU without "
                   "vmtier does that, too; this run says nothing");
    return DISK_STALLED;
}

struct progress {
    uint64_t ops;
    double since;
};

/* Looks at the guest once. */
static enum disk_state look(struct diskvm *d, struct progress *p)
{
    struct disk_count now = diskvm_count(d, "DISK");

    if (now.bad)
        return DISK_BAD;
    if (now.ops != p->ops)
        *p = (struct progress){ now.ops, lab_now() };
    return lab_now() - p->since < STALL_S ? DISK_FINE : stalled(d, p->ops);
}

enum disk_state diskvm_wait_ops(struct diskvm *d, uint64_t more)
{
    struct progress p = { diskvm_count(d, "DISK").ops, lab_now() };
    uint64_t goal = p.ops + more;
    enum disk_state state;

    do
        state = look(d, &p);
    while (state == DISK_FINE && p.ops < goal);
    return state;
}

enum disk_state diskvm_let_run(struct diskvm *d, double seconds)
{
    struct progress p = { UINT64_MAX, lab_now() };
    double end = lab_now() + seconds;
    enum disk_state state;

    do
        state = look(d, &p);
    while (state == DISK_FINE && lab_now() < end);
    return state;
}
