// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Another process: who it is, for as long as it lives, and what /proc says of it.
 *
 * A pid is used again after its process has ended, so it is held through a pidfd, and named together
 * with the time it started.
 */
#ifndef VMTIER_PROCESS_H
#define VMTIER_PROCESS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

struct process {
    pid_t pid;
    int pidfd;
    guint64 start;              /* clock ticks after boot */
    char *exe;                  /* what it runs, without directory */
    GPtrArray *argv;            /* of char *; not NULL-terminated */
};

struct process *process_open(pid_t pid, GError **error);
void process_free(struct process *p);
typedef struct process Process;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Process, process_free)

bool process_ended(const struct process *p);

/* Does its name say that it is a QEMU? */
bool process_is_qemu(const struct process *p);

/* Has it a VM of KVM's open? */
bool process_has_kvm(const struct process *p);

/* Seconds since the epoch when it started. */
double process_started_at(const struct process *p);

/* One line of /proc/PID/maps. */
struct mapping {
    guint64 start, end;
    bool writable, executable, shared;
    guint64 inode;              /* 0: anonymous */
    char name[128];             /* as much of it as fits */
};

/* In the order of addresses; NULL with an error. */
GArray *process_maps(const struct process *p, GError **error);
GArray *maps_parse(const char *text);

/* Is all of [start, end) mapped, writable? */
bool maps_cover(const GArray *maps, guint64 start, guint64 end);

/* What smaps says of the mappings in a range. */
struct backing {
    guint32 page_size;          /* the largest of them */
    bool hugetlb, shared, device;
    guint64 present, huge;      /* bytes; huge: in huge pages that are mapped as such */
};
bool process_backing(const struct process *p, guint64 start, guint64 end, struct backing *backing,
                     GError **error);

#endif
