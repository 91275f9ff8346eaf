// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VMs on every kind of memory: that what was got is what is shown (against smaps of the running QEMU),
 * and that moves keep the guest's memory on each of them.
 *
 * timeout: 150
 *
 * The guest is the test ROM under TCG, 64 MiB in granules of 2 MiB, at rate 0: nothing moves but what the
 * test moves. Huge pages are asked of the host, a tmpfs with huge=advise is mounted in a mount namespace
 * of this program's own; what cannot be had is a reason to skip.
 */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RAM      (64 * MIB)
#define ANSWER   20.0
#define HUGE_DIR "/sys/kernel/mm/hugepages/hugepages-%ukB/nr_hugepages"

/* The scan for what is touched again unmaps memory while the test counts what is mapped. */
static const char still_config[] = "[vm default]\nsources=dirty\nrate=0\nquota=16M\n";

static const struct rom_range all_pages = { .base = MIB, .stride = 4096,
                                            .count = (RAM - MIB) / 4096 };

/* --- what the host has to give ------------------------------------------------------------------ */

/* What a test takes has to be given back even if the test aborts: a process that outlives it does that. */
struct pool {
    char *path;
    gint64 before;
    pid_t keeper;
    int alive;                  /* closed when this process is no more */
};

static gint64 read_number(const char *path)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? g_ascii_strtoll(text, NULL, 10) : -1;
}

static void write_number(const char *path, gint64 number)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, number);
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, text, strlen(text)) < 0)
        g_test_message("%s: %s", path, g_strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void start_keeper(struct pool *p)
{
    int ends[2];
    char c;

    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    p->keeper = fork();
    if (p->keeper == 0) {
        close(ends[1]);
        while (read(ends[0], &c, 1) > 0)
            ;
        write_number(p->path, p->before);
        _exit(0);
    }
    close(ends[0]);
    p->alive = ends[1];
}

static void pool_put_back(struct pool *p)
{
    close(p->alive);
    waitpid(p->keeper, NULL, 0);
    g_free(p->path);
}

/* Makes the host's pool of huge pages larger by so many; false: it cannot. */
static bool pool_raise(struct pool *p, unsigned kib, gint64 pages)
{
    p->path = g_strdup_printf(HUGE_DIR, kib);
    p->before = read_number(p->path);
    if (p->before < 0) {
        g_free(p->path);
        return false;
    }
    start_keeper(p);
    write_number(p->path, p->before + pages);
    if (read_number(p->path) >= p->before + pages)
        return true;
    pool_put_back(p);
    return false;
}

/* A tmpfs with huge=advise that nobody else sees; NULL with the reason. */
static char *mount_huge(struct lab *lab)
{
    char *dir = lab_path(lab, "huge");

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    if (mount("vmtier-test", dir, "tmpfs", 0, "huge=advise,mode=0700") == 0)
        return dir;
    g_test_message("a tmpfs with huge=advise: %s", g_strerror(errno));
    g_free(dir);
    return NULL;
}

static void unmount_huge(char *dir)
{
    if (dir && umount2(dir, MNT_DETACH))
        g_test_message("%s: %s", dir, g_strerror(errno));
    g_free(dir);
}

/* --- rigs ----------------------------------------------------------------------------------------- */

static struct rig *start(const char *name, const char *config)
{
    struct rig *rig = rig_new(name);
    g_autofree char *path = lab_path(rig->lab, "vmtierd.conf");

    g_assert_true(g_file_set_contents(path, config, -1, NULL));
    rig_start_daemon(rig, NULL);
    return rig;
}

static struct vm *start_vm(struct rig *rig, const char *name, struct vm_options o)
{
    struct vm *vm = rig_another_vm(rig, name, o);

    daemon_wait_vm_state(rig->daemon, name, "tiering", ANSWER);
    rom_wait_alive(vm, 60);         /* the first page of 1 GiB has to be cleared */
    return vm;
}

static JsonObject *status_of(struct rig *rig, const char *name)
{
    JsonObject *vm = daemon_vm(rig->daemon, name);

    g_assert_nonnull(vm);
    return vm;
}

static void move(struct vm *vm, uint64_t offset, uint64_t length, const char *tier)
{
    g_autofree char *args = g_strdup_printf(
        "{\"block\":\"ram0\",\"offset\":%" PRIu64 ",\"length\":%" PRIu64 ",\"tier\":\"%s\"}", offset,
        length, tier);
    g_autoptr(JsonObject) result = ask(vm->qmp, "x-vmtier-move", args);

    if (json_int(result, "failed"))
        g_error("x-vmtier-move %s: %s", args, json_text(result, "status"));
}

static void expect_words(struct vm *vm, uint32_t value)
{
    struct rom_mailbox m = rom_run(vm, ROM_CHECK, all_pages, value, 30);

    if (m.result)
        g_error("%u words are wrong, the first at %#x", m.result, m.first_bad);
}

/* There and back for all of RAM, in parts of different sizes, while the guest writes between. */
static void move_about(struct vm *vm, uint64_t unit)
{
    uint32_t value = 1000;

    rom_run(vm, ROM_WRITE, all_pages, value, 30);
    for (int round = 0; round < 3; round++) {
        for (uint64_t at = 0, n = unit; at < RAM; at += n, n = n < 8 * unit ? 2 * n : unit)
            move(vm, at, MIN(n, RAM - at), at / unit % 2 == (uint64_t)round % 2 ? "cxl" : "dram");
        expect_words(vm, value);
        rom_run(vm, ROM_ADD, all_pages, 1, 30);
        value++;
        move(vm, 0, RAM, round % 2 ? "dram" : "cxl");
        expect_words(vm, value);
    }
}

/* Some in either tier, and all of it touched by the guest. */
static void settle(struct vm *vm)
{
    move_about(vm, GRANULE);
    move(vm, 0, RAM, "cxl");
    move(vm, RAM / 2, RAM / 2, "dram");
    rom_run(vm, ROM_READ, all_pages, 0, 30);
}

/* --- what is shown, against what smaps says ------------------------------------------------------- */

/* Bytes of one field of smaps, in all mappings within RAM. */
static uint64_t smaps_bytes(struct vm *vm, const char *field)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps", (int)vm->qemu->pid);
    g_autofree char *name = g_strdup_printf("%s: %%lu kB", field);
    FILE *f = fopen(path, "re");
    unsigned long from, to, kib;
    bool inside = false;
    uint64_t bytes = 0;
    char line[512];

    g_assert_nonnull(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from >= vm->ram_at && to <= vm->ram_at + RAM;
        else if (inside && g_str_has_prefix(line, field) && sscanf(strchr(line, ':') + 1, "%lu", &kib) == 1)
            bytes += kib * 1024;
    fclose(f);
    return bytes;
}

struct sums {
    gint64 mapped[2], huge[2];  /* by tier */
};

static struct sums sums_of(JsonObject *status)
{
    struct sums s = { 0 };

    for (int t = 0; t < 2; t++) {
        g_autofree char *mapped = g_strdup_printf("blocks.0.tiers.%d.mapped_bytes", t);
        g_autofree char *huge = g_strdup_printf("blocks.0.tiers.%d.huge_bytes", t);
        JsonNode *node = json_at(status, mapped);

        if (node && JSON_NODE_HOLDS_VALUE(node)) {
            s.mapped[t] = json_int(status, mapped);
            s.huge[t] = json_int(status, huge);
        }
    }
    return s;
}

static bool is_settled(JsonObject *status, void *arg)
{
    const gint64 half = RAM / 2;
    struct sums *s = arg;

    *s = sums_of(status);
    return s->mapped[0] == half && s->mapped[1] <= half && s->mapped[1] >= half - (gint64)(2 * MIB);
}

/* Waits until a look at the page table is shown that was begun after settle(). */
static struct sums wait_sums(struct rig *rig, const char *name)
{
    struct sums s = { 0 };

    if (!daemon_wait_vm(rig->daemon, name, is_settled, &s, 30))
        g_error("%s: %" G_GINT64_FORMAT " and %" G_GINT64_FORMAT " bytes are mapped", name, s.mapped[0],
                s.mapped[1]);
    return s;
}

static char *vmtier_status(struct rig *rig, const char *name)
{
    g_autofree char *vmtier = lab_built("vmtier");
    g_autofree char *line = g_strdup_printf("%s --socket %s status %s", vmtier, rig->daemon->qmp_socket,
                                            name);
    char *out = NULL;

    g_assert_true(g_spawn_command_line_sync(line, &out, NULL, NULL, NULL));
    return out;
}

static void expect_text(struct rig *rig, const char *name, const char *pattern)
{
    g_autofree char *out = vmtier_status(rig, name);

    says(out, pattern);
}

/* --- hugetlb, tmpfs, memfd -------------------------------------------------------------------------- */

static void check_hugetlb(struct rig *rig, struct vm *vm)
{
    struct sums s = wait_sums(rig, "hugetlb");
    g_autoptr(JsonObject) status = status_of(rig, "hugetlb");

    g_assert_cmpstr(json_text(status, "blocks.0.tiers.0.kind"), ==, "hugetlb, pages of 2 MiB");
    g_assert_cmpstr(json_text(status, "blocks.0.tiers.1.kind"), ==, "hugetlb, pages of 2 MiB");
    g_assert_cmpint(json_int(status, "blocks.0.tiers.1.page_bytes"), ==, 2 * MIB);
    for (int t = 0; t < 2; t++)
        g_assert_cmpint(s.huge[t], ==, s.mapped[t]);
    g_assert_cmpuint(s.huge[0] + s.huge[1], ==,
                     smaps_bytes(vm, "Shared_Hugetlb:") + smaps_bytes(vm, "Private_Hugetlb:"));
    expect_text(rig, "hugetlb", "*hugetlb, pages of 2 MiB, 100 % of what is mapped in pages of 2 MiB or "
                "more*ram0, dram: hugetlb, pages of 2 MiB; 32 MiB mapped, 100 % of it by 2 MiB or more*"
                "ram0, cxl: hugetlb, pages of 2 MiB; * mapped, 100 % of it by 2 MiB or more*");
}

static void check_huge(struct rig *rig, struct vm *vm)
{
    struct sums s = wait_sums(rig, "huge");
    g_autoptr(JsonObject) status = status_of(rig, "huge");

    g_assert_cmpint(json_int(status, "blocks.0.align_bytes"), >=, 2 * MIB);
    g_assert_cmpstr(json_text(status, "blocks.0.tiers.0.kind"), ==, "tmpfs, huge=advise");
    g_assert_cmpint(s.huge[0] + s.huge[1], ==, smaps_bytes(vm, "ShmemPmdMapped:"));
    for (int t = 0; t < 2; t++)
        g_assert_cmpint(s.huge[t], >=, s.mapped[t] * 9 / 10);
    g_assert_true(JSON_NODE_HOLDS_NULL(json_at(status, "blocks.0.hint")));
    g_assert_true(JSON_NODE_HOLDS_NULL(json_at(status, "blocks.0.tiers.1.note")));
    expect_text(rig, "huge", "*ram0, dram: tmpfs, huge=advise; 32 MiB mapped, * % of it by 2 MiB or more*"
                "ram0, cxl: tmpfs, huge=advise; * mapped, * % of it by 2 MiB or more*");
}

static void check_memfd(struct rig *rig, struct vm *vm)
{
    struct sums s = wait_sums(rig, "memfd");
    g_autoptr(JsonObject) status = status_of(rig, "memfd"), query = ask(vm->qmp, "x-vmtier-query", "{}");

    g_assert_cmpuint(vm->ram_at % (2 * MIB), !=, 0);
    g_assert_cmpint(json_int(status, "blocks.0.align_bytes"), ==, vm->ram_at & -vm->ram_at);
    g_assert_true(g_str_has_prefix(json_text(status, "blocks.0.tiers.0.kind"), "memfd"));
    g_assert_cmpint(s.huge[0] + s.huge[1], ==, 0);
    says(json_text(status, "blocks.0.hint"), "*which QEMU does not put on a 2 MiB border*-object "
         "memory-backend-memfd,id=ram0,share=on,size=64M,hugetlb=on,hugetlbsize=2M,*-object "
         "memory-backend-file,id=ram0,share=on,size=64M,align=2M,mem-path=DIR *huge=advise");
    g_assert_cmpstr(json_text(status, "blocks.0.hint"), ==, json_text(query, "blocks.0.backing.hint"));
    g_assert_cmpint(json_int(query, "blocks.0.backing.align"), ==, vm->ram_at & -vm->ram_at);
    expect_text(rig, "memfd", "*memfd*not on a 2 MiB border*hint: RAM block ram0 is a memfd, *");
    g_assert_true(log_says(rig->daemon->process, "memfd: RAM block ram0 is a memfd, ", 1));
}

/* Side by side, as each has to wait for the next look at its page table. */
static void test_kinds(void)
{
    g_autoptr(Rig) rig = start("kinds", still_config);
    g_autofree char *object = NULL;
    char *dir = mount_huge(rig->lab);
    struct pool pool;
    bool have_hugetlb = pool_raise(&pool, 2048, 2 * (gint64)(RAM / (2 * MIB)) + 16);
    struct vm *hugetlb = NULL, *huge = NULL, *memfd = NULL;

    memfd = start_vm(rig, "memfd", (struct vm_options){ 0 });
    settle(memfd);
    if (have_hugetlb) {
        hugetlb = start_vm(rig, "hugetlb", (struct vm_options){
            .backend = "memory-backend-memfd,id=ram0,size=%s,share=on,hugetlb=on,hugetlbsize=2M" });
        settle(hugetlb);
    }
    if (dir) {
        object = g_strdup_printf("memory-backend-file,id=ram0,size=%%s,share=on,align=2M,mem-path=%s", dir);
        huge = start_vm(rig, "huge", (struct vm_options){ .backend = object });
        settle(huge);
    }
    check_memfd(rig, memfd);
    if (hugetlb)
        check_hugetlb(rig, hugetlb);
    if (huge)
        check_huge(rig, huge);
    vm_free(memfd);
    g_clear_pointer(&hugetlb, vm_free);
    g_clear_pointer(&huge, vm_free);
    if (have_hugetlb)
        pool_put_back(&pool);
    unmount_huge(dir);
    if (!have_hugetlb || !dir)
        g_test_skip(have_hugetlb ? "no tmpfs with huge=advise" : "no pages of 2 MiB");
}

/* A page is a granule: two such pages are enough to move the whole VM there and back. */
static void test_gigantic(void)
{
    static const char config[] = "[vm default]\nsources=dirty\nrate=0\nquota=1G\ngranule=1G\n";
    static const struct rom_range some = { .base = MIB, .stride = 65536, .count = 16 * 1023 };
    struct pool pool;

    if (!pool_raise(&pool, 1048576, 2)) {
        g_test_skip("no two pages of 1 GiB");
        return;
    }
    struct rig *rig = start("gigantic", config);
    struct vm *vm = start_vm(rig, "vm", (struct vm_options){
        .ram = "1G",
        .backend = "memory-backend-memfd,id=ram0,size=%s,share=on,hugetlb=on,hugetlbsize=1G" });

    /* While QEMU cleared the first page on a busy machine, the daemon may have taken it for dead. */
    daemon_wait_vm_state(rig->daemon, "vm", "tiering", ANSWER);
    g_autoptr(JsonObject) status = status_of(rig, "vm");

    g_assert_cmpstr(json_text(status, "blocks.0.tiers.1.kind"), ==, "hugetlb, pages of 1 GiB");
    g_assert_cmpint(json_int(status, "granules"), ==, 1);
    for (uint32_t i = 0; i < 3; i++) {
        rom_run(vm, ROM_WRITE, some, i, 60);
        move(vm, 0, 512 * GRANULE, i % 2 ? "dram" : "cxl");
        g_assert_cmpuint(rom_run(vm, ROM_CHECK, some, i, 60).result, ==, 0);
    }
    vm_free(vm);
    rig_free(rig);
    pool_put_back(&pool);
}

/* --- a file that all VMs share ------------------------------------------------------------------------ */

static char *make_shared(struct lab *lab, uint64_t bytes)
{
    g_autofree char *name = g_path_get_basename(lab->dir);
    char *path = g_strdup_printf("/dev/shm/%s.tier", name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(ftruncate(fd, (off_t)bytes), ==, 0);
    close(fd);
    return path;
}

static struct rig *start_shared(const char *name, uint64_t bytes, char **path)
{
    struct rig *rig = rig_new(name);
    g_autofree char *file = lab_path(rig->lab, "vmtierd.conf"), *text = NULL;

    *path = make_shared(rig->lab, bytes);
    text = g_strdup_printf("[tier cxl]\npath=%s\n%s", *path, still_config);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    rig_start_daemon(rig, NULL);
    return rig;
}

static gint64 offset_of(struct rig *rig, const char *name)
{
    g_autoptr(JsonObject) status = status_of(rig, name);

    return json_int(status, "blocks.0.tiers.1.offset");
}

static gint64 cxl_bytes(struct rig *rig, const char *name)
{
    g_autoptr(JsonObject) status = status_of(rig, name);

    return json_int(status, "tiers.1.file_bytes");
}

static gint64 left_of_path(struct rig *rig)
{
    g_autoptr(JsonObject) all = ask(rig->daemon->qmp, "query-vmtier-status", "{}");

    return json_int(all, "tiers.1.path_unused_bytes");
}

struct room {
    struct rig *rig;
    gint64 left;
};

static bool has_room(void *arg)
{
    const struct room *r = arg;

    return left_of_path(r->rig) == r->left;
}

static void wait_left(struct rig *rig, gint64 left)
{
    if (!lab_wait(has_room, &(struct room){ rig, left }, ANSWER))
        g_error("%" G_GINT64_FORMAT " bytes of the file are left", left_of_path(rig));
}

static uint64_t bytes_of(const char *path)
{
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return (uint64_t)st.st_blocks * 512;
}

static bool is_empty(void *path)
{
    return bytes_of(path) == 0;
}

/* Two VMs; the daemon dies and comes back; one VM ends, and a third one gets what it had. */
static void test_shared(void)
{
    char *path;
    g_autoptr(Rig) rig = start_shared("shared", 2 * RAM + 2 * MIB, &path);
    struct vm *one = start_vm(rig, "one", (struct vm_options){ 0 });
    struct vm *two = start_vm(rig, "two", (struct vm_options){ 0 });

    g_assert_cmpint(offset_of(rig, "one"), ==, 0);
    g_assert_cmpint(offset_of(rig, "two"), ==, RAM);
    rom_run(one, ROM_WRITE, all_pages, 1, 30);
    move_about(two, GRANULE);
    expect_words(one, 1);
    move(one, 0, RAM, "cxl");
    move(two, 0, 8 * MIB, "dram");
    daemon_kill(rig->daemon);
    daemon_restart(rig->daemon);
    daemon_wait_vm_state(rig->daemon, "one", "tiering", ANSWER);
    daemon_wait_vm_state(rig->daemon, "two", "tiering", ANSWER);
    g_assert_cmpint(offset_of(rig, "two"), ==, RAM);
    wait_left(rig, 2 * MIB);
    g_assert_cmpint(cxl_bytes(rig, "one"), >=, (gint64)(RAM - MIB));
    g_assert_cmpint(cxl_bytes(rig, "one"), <=, (gint64)RAM);
    move_about(two, GRANULE);
    expect_words(one, 1);
    g_clear_pointer(&one, vm_free);
    wait_left(rig, RAM + 2 * MIB);
    struct vm *three = start_vm(rig, "three", (struct vm_options){ 0 });

    g_assert_cmpint(offset_of(rig, "three"), ==, 0);
    g_assert_cmpuint(rom_run(three, ROM_READ, all_pages, 0, 30).result, ==, 0);
    move_about(three, GRANULE);
    vm_free(two);
    vm_free(three);
    g_assert_true(lab_wait(is_empty, path, ANSWER));
    unlink(path);
    g_free(path);
}

/* There is nothing left for the second VM: it runs on, and both sides say why it is not tiered. */
static void test_shared_full(void)
{
    char *path;
    g_autoptr(Rig) rig = start_shared("full", RAM + 2 * MIB, &path);
    struct vm *one = start_vm(rig, "one", (struct vm_options){ 0 });
    struct vm *two = rig_another_vm(rig, "two", (struct vm_options){ 0 });

    rom_wait_alive(two, 20);
    daemon_wait_vm_state(rig->daemon, "two", "refused", ANSWER);
    g_autoptr(JsonObject) status = status_of(rig, "two"), query = ask(two->qmp, "x-vmtier-query", "{}");

    says(json_text(status, "reason"), "tier cxl: block ram0: /dev/shm/* has no 64 MiB in one piece: of its "
         "66 MiB 2 are unused, 2 at most together; make the file longer (truncate -s)");
    says(json_text(query, "reason"), "the daemon refuses this VM: tier cxl: block ram0: *");
    rom_run(two, ROM_WRITE, all_pages, 3, 30);
    expect_words(two, 3);
    vm_free(one);
    vm_free(two);
    unlink(path);
    g_free(path);
}

/* --- what is refused ----------------------------------------------------------------------------------- */

/* RAM in a file on disk: userfaultfd cannot protect it, and the reason names the file system. */
static void test_disk(void)
{
    g_autoptr(Rig) rig = start("disk", still_config);
    g_autofree char *file = lab_path(rig->lab, "ram"), *object = NULL;
    struct vm *vm;

    object = g_strdup_printf("memory-backend-file,id=ram0,size=%%s,share=on,mem-path=%s", file);
    vm = rig_another_vm(rig, "vm", (struct vm_options){ .backend = object });
    rom_wait_alive(vm, 20);
    if (bytes_of(rig->lab->dir) == 0) {
        g_test_skip("the tests' directory is on a tmpfs");
    } else {
        daemon_wait_vm_state(rig->daemon, "vm", "refused", ANSWER);
        g_autoptr(JsonObject) status = status_of(rig, "vm");

        says(json_text(status, "reason"), "RAM block 'ram0' is on *, which userfaultfd cannot write-protect "
             "(only tmpfs, memfd and hugetlbfs): start QEMU with -object memory-backend-memfd,*");
    }
    vm_free(vm);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        g_test_message("no mount namespace: %s", g_strerror(errno));
    g_test_add_func("/backing/kinds", test_kinds);
    g_test_add_func("/backing/gigantic", test_gigantic);
    g_test_add_func("/backing/shared", test_shared);
    g_test_add_func("/backing/shared-full", test_shared_full);
    g_test_add_func("/backing/disk", test_disk);
    return g_test_run();
}
