// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The test guest's workload: settings, threads, commands. See workload.h and PROTOCOL.txt.
 *
 * The main thread hands a command to the worker through `pending` and waits until it was carried
 * out, so commands never overtake each other and only the worker touches the pages.
 */
#include "workload.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
    TICK_MS = 20,
    TICKS_PER_BEAT = 5,
};

static const char *const mode_names[] = {
    [MODE_HOTSET] = "hotset",
    [MODE_ZIGZAG] = "zigzag",
    [MODE_SCAN] = "scan",
    [MODE_ZIPF] = "zipf",
    [MODE_UNIFORM] = "uniform",
    [MODE_VERIFY] = "verify",
    [MODE_IDLE] = "idle",
};
_Static_assert(ARRAY_LEN(mode_names) == MODE_COUNT, "every mode has a name");

struct config cfg = {
    .foot = 700ull << 20, .hot = 160ull << 20, .share = 95, .writes = 30, .shifts = 1, .seed = 1,
    .zipf = 99, .dwell = 1, .disk_size = 256 << 10,
};

struct order {
    void (*run)(uint64_t arg);
    uint64_t arg;
};
static struct order pending;
static atomic_bool order_pending;
static bool running = true;             /* the worker's own */
static int port;

/* --- the worker ----------------------------------------------------------------------------- */

static void set_running(uint64_t on)
{
    running = on;
    say("VMT %s", on ? "RUNNING" : "PAUSED");
}

static void stop(uint64_t unused)
{
    running = false;
    sweep(unused);
    say("VMT STOPPED");
}

static void leave(uint64_t how)
{
    say("VMT QUIT");
    tcdrain(port);
    sync();
    reboot((int)how);
}

static void rest(void)
{
    static const struct timespec nap = { .tv_nsec = 5000000 };

    nanosleep(&nap, NULL);
}

static void work_once(void)
{
    if (!running || cfg.mode == MODE_IDLE)
        rest();
    else if (cfg.mode == MODE_VERIFY)
        sweep(0);
    else
        visit_some();
}

/* The first jump is due `shift` seconds after the start; returns when the next one is, or 0. */
static uint64_t shift_when_due(uint64_t due)
{
    if (!due || now_ms() < due)
        return due;
    choose_hot(0);
    return atomic_load(&phase) <= cfg.shifts ? due + cfg.shift * 1000 : 0;
}

static void *worker(void *unused)
{
    uint64_t shift_due = cfg.shift ? now_ms() + cfg.shift * 1000 : 0;

    for (;;) {
        if (atomic_load(&order_pending)) {
            pending.run(pending.arg);
            atomic_store(&order_pending, false);
        }
        work_once();
        shift_due = shift_when_due(shift_due);
    }
    return unused;
}

/* --- beats ---------------------------------------------------------------------------------- */

struct gaps {
    uint64_t last, longest, longest_ever;
};

static void tick(struct gaps *g)
{
    static const struct timespec nap = { .tv_nsec = TICK_MS * 1000000L };

    nanosleep(&nap, NULL);
    uint64_t now = now_ms(), gap = now - g->last;

    g->last = now;
    g->longest = gap > g->longest ? gap : g->longest;
    g->longest_ever = gap > g->longest_ever ? gap : g->longest_ever;
}

static void say_beat(const struct gaps *g, uint64_t start)
{
    say("VMT BEAT t=%llu phase=%u ops=%lu verified=%lu bad=%lu gap_ms=%llu maxgap_ms=%llu",
        (unsigned long long)(g->last - start), atomic_load(&phase), atomic_load(&ops),
        atomic_load(&verified), atomic_load(&bad), (unsigned long long)g->longest,
        (unsigned long long)g->longest_ever);
}

static void *beat(void *unused)
{
    struct sched_param real_time = { .sched_priority = 1 };
    uint64_t start = now_ms();
    struct gaps g = { .last = start };

    /* Ahead of the worker, so that a gap means the guest stood still, not that it was busy. */
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &real_time);
    for (;;) {
        g.longest = 0;
        for (int i = 0; i < TICKS_PER_BEAT; i++)
            tick(&g);
        say_beat(&g, start);
    }
    return unused;
}

/* --- commands ------------------------------------------------------------------------------- */

static const struct command {
    const char *name;
    struct order order;
} commands[] = {
    { "shift", { choose_hot, 0 } },
    { "sweep", { sweep, 0 } },
    { "stop", { stop, 0 } },
    { "pause", { set_running, 0 } },
    { "run", { set_running, 1 } },
    { "free", { release, 0 } },
    { "grow", { grow, 0 } },
    { "hot", { print_hot, 0 } },
    { "pieces", { print_pieces, 0 } },
    { "quit", { leave, RB_POWER_OFF } },
    { "reboot", { leave, RB_AUTOBOOT } },
};

static void give_order(struct order order, const char *arg)
{
    pending = order;
    if (arg)
        pending.arg = parse_size(arg);
    atomic_store(&order_pending, true);
    while (atomic_load(&order_pending))
        rest();
}

/* A command for the shell; what it says, line by line, and how it ended. */
static void run_shell(char *command)
{
    char line[200];
    FILE *out;

    command[strcspn(command, "\r\n")] = 0;
    out = popen(command, "r");      /* NOLINT(cert-env33-c): a shell is what is asked for */
    while (out && fgets(line, sizeof(line), out)) {
        line[strcspn(line, "\n")] = 0;
        say("VMT SAYS %s", line);
    }
    say("VMT RAN status=%d", out ? pclose(out) : -1);
}

static void obey(char *line)
{
    char *save = NULL, *word;

    if (!strncmp(line, "sh ", 3)) {
        run_shell(line + 3);
        return;
    }
    word = strtok_r(line, " \r\n", &save);

    for (size_t i = 0; word && i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, word) == 0) {
            give_order(commands[i].order, strtok_r(NULL, " \r\n", &save));
            return;
        }
    }
    if (word)
        say("VMT UNKNOWN %s", word);
}

static void obey_forever(void)
{
    char line[1024];
    FILE *in = fdopen(port, "r");

    while (in && fgets(line, sizeof(line), in))
        obey(line);
    give_up("reading commands");
}

/* --- settings ------------------------------------------------------------------------------- */

static const struct setting {
    const char *name;
    uint64_t *value;
} settings[] = {
    { "foot", &cfg.foot },     { "hot", &cfg.hot },     { "share", &cfg.share },
    { "writes", &cfg.writes }, { "shift", &cfg.shift }, { "shifts", &cfg.shifts },
    { "seed", &cfg.seed },     { "zipf", &cfg.zipf },   { "dwell", &cfg.dwell },
    { "disk", &cfg.disk },     { "diskwrites", &cfg.disk_writes },
    { "disksize", &cfg.disk_size },                     { "otherdisk", &cfg.other_disk },
};

static void set_mode(const char *name)
{
    for (int i = 0; i < MODE_COUNT; i++)
        if (strcmp(name, mode_names[i]) == 0)
            cfg.mode = (enum mode)i;
}

/* One word of the kernel's command line, "vmt.NAME=VALUE"; all others are not for us. */
static void configure(char *word)
{
    char *value = strchr(word, '=');

    if (strncmp(word, "vmt.", 4) != 0 || !value)
        return;
    *value++ = 0;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (strcmp(settings[i].name, word + 4) == 0)
            *settings[i].value = parse_size(value);
    if (strcmp(word, "vmt.mode") == 0)
        set_mode(value);
}

static void read_command_line(void)
{
    static char text[4096];
    char *save = NULL, *word;
    FILE *f = fopen("/proc/cmdline", "re");

    if (!f || !fgets(text, sizeof(text), f))
        give_up("/proc/cmdline");
    fclose(f);
    for (word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
        configure(word);
}

/* --- start ---------------------------------------------------------------------------------- */

static void start_thread(void *(*body)(void *))
{
    pthread_t thread;

    errno = pthread_create(&thread, NULL, body, NULL);
    if (errno)
        give_up("starting a thread");
}

int main(int argc, char **argv)
{
    uint64_t start = now_ms();

    if (argc > 2 && !strcmp(argv[1], "pool"))
        return run_pool(argv[2]);
    port = open_port(argc > 1 ? argv[1] : "/dev/ttyS1");
    read_command_line();
    make_footprint();
    say("VMT READY foot=%zu pieces=%u huge=%u hot=%llu mode=%s populate_ms=%llu boot_ms=%llu",
        pieces * PIECE, pieces, huge_pieces(), (unsigned long long)cfg.hot, mode_names[cfg.mode],
        (unsigned long long)(now_ms() - start), (unsigned long long)now_ms());
    choose_hot(0);
    start_thread(worker);
    start_thread(beat);
    start_disks();
    obey_forever();
}
