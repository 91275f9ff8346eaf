// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Direct disk I/O of a guest whose memory is moved as fast as it goes: no sector may come out wrong,
 * with each of QEMU's I/O engines. With the fence switched off, the same test must find damage.
 *
 * VMTIER_DMA_SECONDS makes each case that long (6).
 *
 * timeout: 240
 */
#include "harness.h"
#include "pusher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DISK_BYTES (64u << 20)
#define SECTOR     512u
#define GRANULE    (64u << 10)

struct engine {
    const char *name, *drive;   /* what follows the file in -drive */
    bool iothread, qemu10;
};

static const struct engine engines[] = {
    { "native", "cache=none,aio=native", false, false },
    { "io_uring", "cache=none,aio=io_uring", false, false },
    { "threads", "cache=none,aio=threads", false, false },
    { "native-iothread", "cache=none,aio=native", true, false },
    { "native-qemu10", "cache=none,aio=native", false, true },
};

/* What guest/disk.c expects of sector n. */
static uint64_t signature(uint64_t sector)
{
    return (sector + 1) * 0x9e3779b97f4a7c15u;
}

static char *make_disk(struct lab *lab)
{
    char *path = lab_path(lab, "disk.raw");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_autofree uint64_t *data = g_malloc(DISK_BYTES);

    for (uint64_t i = 0; i < DISK_BYTES / sizeof(*data); i++)
        data[i] = signature(i * sizeof(*data) / SECTOR);
    g_assert_cmpint(write(fd, data, DISK_BYTES), ==, DISK_BYTES);
    close(fd);
    return path;
}

static bool can_direct(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* A guest with the disk, and the pusher at its RAM. */
struct rig {
    struct lab *lab;
    struct pusher *pusher;
    struct vm *vm;
};

static void rig_start(struct rig *r, const struct engine *e, const char *disk)
{
    g_autofree char *socket = lab_path(r->lab, "vmm"), *so = lab_built("vmtier-qemu.so");
    g_autofree char *plugin = g_strdup_printf("%s,socket=%s,vm=dma", so, socket);
    g_autofree char *drive = g_strdup_printf("if=none,id=d0,format=raw,file=%s,%s", disk, e->drive);
    const char *plain[] = { "-drive", drive, "-device", "virtio-blk-pci,drive=d0", NULL };
    const char *threaded[] = { "-object", "iothread,id=t0", "-drive", drive, "-device",
                               "virtio-blk-pci,drive=d0,iothread=t0", NULL };

    r->pusher = pusher_start(socket, GRANULE);
    r->vm = vm_start(r->lab, "dma", &(struct vm_options){
        .qemu = e->qemu10 ? vm_qemu10() : NULL, .ram = "256M", .plugin = plugin,
        .append = "vmt.foot=32M vmt.hot=8M vmt.mode=idle vmt.disk=4 vmt.diskwrites=1",
        .extra = e->iothread ? threaded : plain,
    });
    g_free(guest_expect(r->vm->guest, "VMT DISK", 60));
    pusher_go(r->pusher);
}

static uint64_t disk_number(struct rig *r, const char *what)
{
    g_autofree char *line = guest_expect(r->vm->guest, "VMT DISK ", 10);

    return guest_number(line, what);
}

static double seconds(void)
{
    const char *text = g_getenv("VMTIER_DMA_SECONDS");

    return text ? g_ascii_strtod(text, NULL) : 6;
}

/* Lets guest and pusher run; ends early at the first bad sector. Returns the bad sectors. */
static uint64_t let_run(struct rig *r, double for_s)
{
    double end = lab_now() + for_s;
    uint64_t bad;

    do
        bad = disk_number(r, "bad");
    while (!bad && lab_now() < end);
    return bad;
}

static void rig_end(struct rig *r)
{
    pusher_end(r->pusher);
    vm_free(r->vm);
    lab_free(r->lab);
}

static void test_engine(gconstpointer data)
{
    const struct engine *e = data;
    struct rig r = { .lab = lab_new("dma") };
    g_autofree char *disk = make_disk(r.lab);
    struct pusher_count count;
    uint64_t before, ops;

    if (!can_direct(disk)) {
        g_test_skip("the file system of the build directory has no O_DIRECT");
        lab_free(r.lab);
        return;
    }
    rig_start(&r, e, disk);
    before = disk_number(&r, "ops");
    g_assert_cmpuint(let_run(&r, seconds()), ==, 0);
    ops = disk_number(&r, "ops") - before;
    count = pusher_get_count(r.pusher);
    g_test_message("%s: %" PRIu64 " operations, %" PRIu64 " granules moved, %" PRIu64
                   " left for later", e->name, ops, count.moved, count.busy);
    g_assert_cmpuint(ops, >, 100);
    g_assert_cmpuint(count.moved, >, 1000);
    g_assert_cmpuint(guest_sweep(r.vm->guest, 30), ==, 0);
    rig_end(&r);
}

/* The proof that this test sees what it is there for. */
static void test_without_fence(void)
{
    struct rig r = { .lab = lab_new("dma") };
    g_autofree char *disk = make_disk(r.lab);

    if (!can_direct(disk)) {
        g_test_skip("the file system of the build directory has no O_DIRECT");
        lab_free(r.lab);
        return;
    }
    g_setenv("VMTIER_TEST_NO_FENCE", "1", TRUE);
    rig_start(&r, &engines[0], disk);
    g_unsetenv("VMTIER_TEST_NO_FENCE");
    g_assert_cmpuint(let_run(&r, 40), >, 0);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(engines); i++) {
        g_autofree char *path = g_strdup_printf("/dma/%s", engines[i].name);

        g_test_add_data_func(path, &engines[i], test_engine);
    }
    g_test_add_func("/dma/without-fence", test_without_fence);
    return g_test_run();
}
