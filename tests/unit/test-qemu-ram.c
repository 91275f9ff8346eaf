// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Unit tests of finding a QEMU's RAM without the plugin: by command lines and mappings, and by monitors
 * that lie, babble or say nothing.
 *
 * timeout: 60
 */
#include "host/qemu-ram.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* --- command lines ------------------------------------------------------------------------------------- */

#define HEAP     "555555554000-555555600000 rw-p 00000000 00:00 0 [heap]\n"
#define TCG_CODE "7f0000000000-7f0040000000 rwxp 00000000 00:00 0\n"         /* 1 GiB that is no RAM */
#define RAM_1G   "7f1000000000-7f1040000000 rw-p 00000000 00:00 0\n" \
                 "7f1040000000-7f1040001000 ---p 00000000 00:00 0\n"
#define MEMFD_1G "7f2000000000-7f2040000000 rw-s 00000000 00:01 77  /memfd:memory-backend-memfd (deleted)\n" \
                 "7f2040000000-7f2040001000 ---p 00000000 00:00 0\n"
/* Half of it has flags of its own. */
#define SPLIT_1G "7f3000000000-7f3020000000 rw-p 00000000 00:00 0\n" \
                 "7f3020000000-7f3040000000 rw-p 00000000 00:00 0\n" \
                 "7f3040000000-7f3040001000 ---p 00000000 00:00 0\n"
#define RAM_5G   "7f4000000000-7f4140000000 rw-p 00000000 00:00 0\n"

struct cmdline_case {
    const char *name, *line, *maps;
    const char *error;          /* a pattern; NULL: it is found */
    guint blocks;
    guint64 at, length;         /* of the first */
    guint slots;
    guint64 low;                /* length of the first */
};

static const struct cmdline_case cmdlines[] = {
    { "plain", "qemu -m 1G", HEAP TCG_CODE RAM_1G, NULL, 1, 0x7f1000000000, GIB, 1, GIB },
    { "mebibytes", "qemu -m 1024", RAM_1G, NULL, 1, 0x7f1000000000, GIB, 1, GIB },
    { "size-and-slots", "qemu -m size=1048576k,slots=4,maxmem=8G", RAM_1G, NULL, 1, 0x7f1000000000, GIB, 1,
      GIB },
    { "two-dashes", "qemu --m 1G", RAM_1G, NULL, 1, 0x7f1000000000, GIB, 1, GIB },
    { "split", "qemu -m 1G", SPLIT_1G, NULL, 1, 0x7f3000000000, GIB, 1, GIB },
    { "memfd", "qemu -machine q35,memory-backend=r0 -m 1G -object memory-backend-memfd,id=r0,size=1G,share=on",
      HEAP TCG_CODE MEMFD_1G, NULL, 1, 0x7f2000000000, GIB, 1, GIB },
    { "libvirt", "qemu -machine pc-q35-7.2,usb=off,memory-backend=pc.ram -m size=1048576k -object "
      "{\"qom-type\":\"memory-backend-memfd\",\"id\":\"pc.ram\",\"share\":true,\"size\":1073741824}",
      MEMFD_1G, NULL, 1, 0x7f2000000000, GIB, 1, GIB },
    { "other-objects", "qemu -object secret,id=s0,size=4G -m 1G", RAM_1G, NULL, 1, 0x7f1000000000, GIB, 1,
      GIB },
    { "numa-nodes", "qemu -m 2G -object memory-backend-ram,id=a,size=1G -object "
      "memory-backend-memfd,size=1G,id=b -numa node,memdev=a -numa node,memdev=b", RAM_1G MEMFD_1G, NULL, 2,
      0x7f1000000000, GIB, 0, 0 },
    { "high-pc", "qemu -m 5G", RAM_5G, NULL, 1, 0x7f4000000000, 5 * GIB, 2, 3 * GIB },
    { "high-q35", "qemu -M q35 -m 5G", RAM_5G, NULL, 1, 0x7f4000000000, 5 * GIB, 2, 2 * GIB },
    { "odd-split", "qemu -M q35,max-ram-below-4g=1G -m 5G", RAM_5G, NULL, 1, 0x7f4000000000, 5 * GIB, 0, 0 },
    { "other-machine", "qemu -M microvm -m 1G", RAM_1G, NULL, 1, 0x7f1000000000, GIB, 0, 0 },
    { "none", "qemu -m 1G", HEAP TCG_CODE, "*0 mappings of 1073741824*monitor*", .blocks = 0 },
    { "two", "qemu -m 1G", RAM_1G SPLIT_1G, "*2 mappings of 1073741824*monitor*", .blocks = 0 },
    { "default-size", "qemu", RAM_1G, "*0 mappings of 134217728*", .blocks = 0 },
    { "no-size", "qemu -m 1G -object memory-backend-ram,id=x", RAM_1G, "*without id or size*", .blocks = 0 },
    { "bad-size", "qemu -m lots", RAM_1G, "*without id or size*", .blocks = 0 },
    { "bad-json", "qemu -object { -m 1G", RAM_1G, NULL, 1, 0x7f1000000000, GIB, 1, GIB },
};

static GPtrArray *split(const char *line)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) words = g_strsplit(line, " ", -1);

    for (char **w = words; *w; w++)
        g_ptr_array_add(argv, g_strdup(*w));
    return argv;
}

static void test_cmdline(gconstpointer data)
{
    const struct cmdline_case *c = data;
    g_autoptr(GPtrArray) argv = split(c->line);
    g_autoptr(GArray) maps = maps_parse(c->maps);
    g_autoptr(GError) error = NULL;
    struct qemu_ram ram;
    bool ok = qemu_ram_from_cmdline(&ram, argv, maps, &error);

    if (c->error) {
        g_assert_false(ok);
        if (!g_pattern_match_simple(c->error, error->message))
            g_error("%s", error->message);
        return;
    }
    g_assert_no_error(error);
    g_assert_true(ok);
    g_assert_cmpuint(ram.n_blocks, ==, c->blocks);
    g_assert_cmphex(ram.block[0].at, ==, c->at);
    g_assert_cmpuint(ram.block[0].length, ==, c->length);
    g_assert_cmpuint(ram.n_slots, ==, c->slots);
    if (c->slots)
        g_assert_cmpuint(ram.slot[0].length, ==, c->low);
    if (c->slots == 2) {
        g_assert_cmpuint(ram.slot[1].gpa, ==, 4 * GIB);
        g_assert_cmpuint(ram.slot[1].offset, ==, c->low);
        g_assert_cmpuint(ram.slot[1].length, ==, c->length - c->low);
    }
}

static void test_names(void)
{
    static const struct {
        const char *line, *name;
    } cases[] = {
        { "qemu -name web1", "web1" }, { "qemu -name guest=web1,debug-threads=on", "web1" },
        { "qemu -name debug-threads=on,guest=a,,b", "a,b" }, { "qemu -m 1G", NULL }, { "qemu -name", NULL },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GPtrArray) argv = split(cases[i].line);
        g_autofree char *name = qemu_cmdline_name(argv);

        g_assert_cmpstr(name, ==, cases[i].name);
    }
}

static void test_plugin(void)
{
    g_autoptr(GArray) with = maps_parse(RAM_1G "7f5000000000-7f5000010000 r-xp 00000000 08:01 123  "
                                        "/usr/local/lib/vmtier/vmtier-qemu.so\n");
    g_autoptr(GArray) without = maps_parse(RAM_1G HEAP);

    g_assert_true(qemu_has_plugin(with));
    g_assert_false(qemu_has_plugin(without));
}

static void test_cover(void)
{
    g_autoptr(GArray) maps = maps_parse("garbage\n1000-2000\n" SPLIT_1G "zz-yy rw-p 0 00:00 0\n"
                                        "9000-8000 rw-p 00000000 00:00 0\n");

    g_assert_cmpuint(maps->len, ==, 3);
    g_assert_true(maps_cover(maps, 0x7f3000000000, 0x7f3040000000));
    g_assert_true(maps_cover(maps, 0x7f3010000000, 0x7f3030000000));
    g_assert_false(maps_cover(maps, 0x7f2fffffffff, 0x7f3030000000));
    g_assert_false(maps_cover(maps, 0x7f3000000000, 0x7f3040000001));      /* inaccessible */
    g_assert_false(maps_cover(maps, 0, 4096));
}

/* --- monitors ------------------------------------------------------------------------------------------- */

struct monitor_case {
    const char *name;
    const char *const *says;    /* line by line, one after each that it gets; "": nothing any more */
    const char *error;
    guint blocks, slots;
};

#define HELLO    "{\"QMP\":{\"version\":{\"qemu\":{\"major\":7,\"minor\":2,\"micro\":22},\"package\":\"\"}," \
                 "\"capabilities\":[]}}"
#define YES      "{\"return\":{}}"
#define MEMDEV   "{\"return\":[{\"id\":\"r0\",\"size\":1073741824},{\"id\":\"unused\",\"size\":4096}]}"
#define FLAT(x)  "{\"return\":\"FlatView #0\\r\\n AS \\\"memory\\\", root: system\\r\\n" x \
                 "FlatView #1\\r\\n AS \\\"I/O\\\", root: io\\r\\n" \
                 "  0000000000000000-00000000000000ff (prio 0, ram): r0\\r\\n\"}"
#define LOW      "  0000000000000000-00000000000bffff (prio 0, ram): r0 KVM\\r\\n" \
                 "  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom\\r\\n"
#define MORE     "  0000000000100000-000000003fffffff (prio 0, ram): /objects/r0 @0000000000100000 KVM\\r\\n"
#define AT(x)    "{\"return\":\"Host virtual address for 0x0 (r0) is " x "\\r\\n\"}"

static const char *const good[] = { HELLO, YES, MEMDEV, FLAT(LOW MORE), AT("0x7f2000000000"),
                                    AT("0x7f2000100000"), NULL };
static const char *const events[] = { HELLO "\n{\"event\":\"STOP\"}", "{\"event\":\"RESUME\"}\n" YES, MEMDEV,
                                      FLAT(LOW), AT("0x7f2000000000"), NULL };
static const char *const mute[] = { "", NULL };
static const char *const hangs_up[] = { HELLO, NULL };
static const char *const no_qmp[] = { "220 mail ESMTP", NULL };
static const char *const no_version[] = { "{\"QMP\":{}}", YES, NULL };
static const char *const refuses[] = { HELLO, YES, "{\"error\":{\"class\":\"CommandNotFound\"}}", NULL };
static const char *const no_memdev[] = { HELLO, YES, "{\"return\":[]}", NULL };
static const char *const odd_memdev[] = { HELLO, YES, "{\"return\":[5,{\"id\":1,\"size\":\"x\"},{\"id\":\"a\","
                                          "\"size\":-1}]}", NULL };
/* NOLINTNEXTLINE(bugprone-suspicious-missing-comma) */
static const char *const no_text[] = { HELLO, YES, MEMDEV, "{\"return\":{\"a\":1}}", NULL };
static const char *const no_ram[] = { HELLO, YES, MEMDEV, FLAT(""), NULL };
static const char *const no_address[] = { HELLO, YES, MEMDEV, FLAT(LOW), "{\"return\":\"No memory is mapped\"}",
                                          NULL };
static const char *const elsewhere[] = { HELLO, YES, MEMDEV, FLAT(LOW), AT("0x7f1000000000"), NULL };
static const char *const in_two_places[] = { HELLO, YES, MEMDEV, FLAT(LOW MORE), AT("0x7f2000000000"),
                                             AT("0x7f2000000000"), NULL };
static const char *const wraps[] = { HELLO, YES, MEMDEV, FLAT(LOW), AT("0xffffffffffff0000"), NULL };
#define OPEN     "[[[[[[[[[[[[[[[["
#define DEEP     "{\"return\":" OPEN OPEN OPEN OPEN OPEN
static const char *const deep[] = { HELLO, YES, DEEP, NULL };

static const struct monitor_case monitors[] = {
    { "good", good, NULL, 1, 2 },
    { "events", events, NULL, 1, 1 },
    { "mute", mute, "*one client at a time*", 0, 0 },
    { "hangs-up", hangs_up, "*hung up*", 0, 0 },
    { "no-qmp", no_qmp, "*no QEMU monitor*", 0, 0 },
    { "no-version", no_version, "*no QEMU monitor*", 0, 0 },
    { "refuses", refuses, "*refuses*", 0, 0 },
    { "no-memdev", no_memdev, "*names no memory backend*", 0, 0 },
    { "odd-memdev", odd_memdev, "*names no memory backend*", 0, 0 },
    { "no-text", no_text, "*gave no text*", 0, 0 },
    { "no-ram", no_ram, "*no RAM that is a backend*", 0, 0 },
    { "no-address", no_address, "*gave no address*", 0, 0 },
    { "elsewhere", elsewhere, "*another QEMU's monitor*", 0, 0 },
    { "in-two-places", in_two_places, "*more than one place*", 0, 0 },
    { "wraps", wraps, "*another QEMU's monitor*", 0, 0 },
    { "deep", deep, "*no QEMU monitor*", 0, 0 },
};

struct server {
    int fd;
    const char *const *says;
};

static gpointer serve(gpointer data)
{
    struct server *s = data;
    int client = accept(s->fd, NULL, NULL);
    char bytes[4096];

    for (const char *const *line = s->says; *line; line++) {
        if (!(*line)[0]) {
            while (recv(client, bytes, sizeof(bytes), 0) > 0)
                ;
            break;
        }
        send(client, *line, strlen(*line), MSG_NOSIGNAL);
        send(client, "\r\n", 2, MSG_NOSIGNAL);
        if (recv(client, bytes, sizeof(bytes), 0) <= 0)
            break;
    }
    close(client);
    return NULL;
}

static bool ask(const char *const *says, struct qemu_ram *ram, GError **error)
{
    g_autofree char *dir = g_dir_make_tmp("vmtier-ram-XXXXXX", NULL);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct server s = { socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), says };
    g_autoptr(GArray) maps = maps_parse(MEMFD_1G);
    GThread *thread;
    bool ok;

    g_snprintf(a.sun_path, sizeof(a.sun_path), "%s/q", dir);
    g_assert_true(bind(s.fd, (const struct sockaddr *)&a, sizeof(a)) == 0 && listen(s.fd, 1) == 0);
    thread = g_thread_new("monitor", serve, &s);
    ok = qemu_ram_from_monitor(ram, a.sun_path, maps, error);
    g_thread_join(thread);
    close(s.fd);
    unlink(a.sun_path);
    rmdir(dir);
    return ok;
}

static void test_monitor(gconstpointer data)
{
    const struct monitor_case *c = data;
    g_autoptr(GError) error = NULL;
    struct qemu_ram ram;
    bool ok = ask(c->says, &ram, &error);

    if (c->error) {
        g_assert_false(ok);
        if (!g_pattern_match_simple(c->error, error->message))
            g_error("%s", error->message);
        return;
    }
    g_assert_no_error(error);
    g_assert_true(ok);
    g_assert_cmpstr(ram.version, ==, "7.2.22");
    g_assert_cmpuint(ram.n_blocks, ==, c->blocks);
    g_assert_cmpuint(ram.n_slots, ==, c->slots);
    g_assert_cmpstr(ram.block[0].name, ==, "r0");
    g_assert_cmphex(ram.block[0].at, ==, 0x7f2000000000);
}

static void test_no_monitor(void)
{
    g_autoptr(GArray) maps = maps_parse(MEMFD_1G);
    g_autoptr(GError) none = NULL, long_path = NULL;
    g_autofree char *path = g_strnfill(200, 'x');
    struct qemu_ram ram;

    g_assert_false(qemu_ram_from_monitor(&ram, "/nonexistent/q", maps, &none));
    g_assert_true(strstr(none->message, "No such file") != NULL);
    g_assert_false(qemu_ram_from_monitor(&ram, path, maps, &long_path));
    g_assert_true(strstr(long_path->message, "too long") != NULL);
}

/* It sends, and sends, and no line ends. */
static gpointer babble(gpointer data)
{
    static char bytes[1 << 16];
    int client = accept(GPOINTER_TO_INT(data), NULL, NULL);

    memset(bytes, 'a', sizeof(bytes));
    while (send(client, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0)
        ;
    close(client);
    return NULL;
}

static void test_babbles(void)
{
    g_autofree char *dir = g_dir_make_tmp("vmtier-ram-XXXXXX", NULL);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autoptr(GArray) maps = maps_parse(MEMFD_1G);
    g_autoptr(GError) error = NULL;
    struct qemu_ram ram;
    GThread *thread;

    g_snprintf(a.sun_path, sizeof(a.sun_path), "%s/q", dir);
    g_assert_true(bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0);
    thread = g_thread_new("monitor", babble, GINT_TO_POINTER(fd));
    g_assert_false(qemu_ram_from_monitor(&ram, a.sun_path, maps, &error));
    g_assert_true(strstr(error->message, "lines without end") != NULL);
    g_thread_join(thread);
    close(fd);
    unlink(a.sun_path);
    rmdir(dir);
}

/* --- this process ------------------------------------------------------------------------------------------ */

static void test_process(void)
{
    g_autoptr(GError) error = NULL, none = NULL;
    g_autoptr(Process) p = process_open(getpid(), &error);
    g_autoptr(GArray) maps = NULL;
    struct backing backing;
    guint64 at = (guint64)(uintptr_t)&backing & ~4095ull;

    g_assert_no_error(error);
    g_assert_cmpstr(p->exe, ==, "test-qemu-ram");
    g_assert_false(process_is_qemu(p));
    g_assert_false(process_ended(p));
    g_assert_cmpuint(p->argv->len, >=, 1);
    g_assert_cmpfloat_with_epsilon(process_started_at(p), (double)g_get_real_time() / 1e6, 60);
    maps = process_maps(p, &error);
    g_assert_true(maps_cover(maps, at, at + 4096));
    g_assert_true(process_backing(p, at, at + 4096, &backing, &error));
    g_assert_cmpuint(backing.page_size, ==, 4096);
    g_assert_false(backing.shared || backing.hugetlb || backing.device);
    g_assert_cmpuint(backing.present, >, 0);
    g_assert_null(process_open(4194303, &none));
    g_assert_true(strstr(none->message, "No such process") != NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(cmdlines); i++) {
        g_autofree char *path = g_strconcat("/qemu-ram/cmdline/", cmdlines[i].name, NULL);

        g_test_add_data_func(path, &cmdlines[i], test_cmdline);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(monitors); i++) {
        g_autofree char *path = g_strconcat("/qemu-ram/monitor/", monitors[i].name, NULL);

        g_test_add_data_func(path, &monitors[i], test_monitor);
    }
    g_test_add_func("/qemu-ram/names", test_names);
    g_test_add_func("/qemu-ram/plugin", test_plugin);
    g_test_add_func("/qemu-ram/cover", test_cover);
    g_test_add_func("/qemu-ram/no-monitor", test_no_monitor);
    g_test_add_func("/qemu-ram/babbles", test_babbles);
    g_test_add_func("/qemu-ram/process", test_process);
    return g_test_run();
}
