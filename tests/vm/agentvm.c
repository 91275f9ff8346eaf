// SPDX-License-Identifier: GPL-2.0-or-later
/* A tiered guest with an agent: see agentvm.h. */
#include "agentvm.h"

#include <string.h>

struct tiered *agentvm;

JsonObject *agent_of(void)
{
    g_autoptr(JsonObject) vm = daemon_vm(agentvm->daemon, agentvm->name);

    g_assert_nonnull(vm);
    return json_object_ref(json_object_get_object_member(vm, "agent"));
}

gint64 agent_int(const char *name)
{
    g_autoptr(JsonObject) agent = agent_of();

    return json_int(agent, name);
}

struct bound {
    const char *name;
    gint64 low, high;
};

static bool is_within(void *arg)
{
    const struct bound *b = arg;
    gint64 value = agent_int(b->name);

    return value >= b->low && value <= b->high;
}

void wait_agent(const char *name, gint64 low, gint64 high, double timeout)
{
    struct bound b = { name, low, high };

    if (!lab_wait(is_within, &b, timeout)) {
        g_autoptr(JsonObject) agent = agent_of();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), agent);
        g_autofree char *text = json_to_string(node, FALSE);

        g_error("%s is not %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT ": %s", name, low, high, text);
    }
}

/* A command in the guest's shell; what it said. */
char *in_guest(const char *command, unsigned *status)
{
    g_autofree char *line = g_strconcat("sh ", command, NULL);
    g_autoptr(GString) said = g_string_new(NULL);

    guest_command(agentvm->vm->guest, line);
    for (;;) {
        g_autofree char *answer = guest_expect(agentvm->vm->guest, "VMT ", 20);

        if (g_str_has_prefix(answer, "VMT SAYS "))
            g_string_append_printf(said, "%s\n", answer + strlen("VMT SAYS "));
        if (g_str_has_prefix(answer, "VMT RAN ")) {
            *status = (unsigned)guest_number(answer, "status");
            return g_string_free(g_steal_pointer(&said), FALSE);
        }
    }
}

static void write_config(struct lab *lab)
{
    g_autofree char *path = lab_path(lab, "vmtierd.conf");
    g_autofree char *pattern = lab_path(lab, "agent/%n.sock");
    g_autofree char *absolute = g_canonicalize_filename(pattern, NULL);
    g_autofree char *text = g_strdup_printf("[vm default]\nagent=%s\nsample-use=measure\n",
                                             absolute);

    g_file_set_contents(path, text, -1, NULL);
}

/* A QEMU with all that it takes: the channel, and a balloon that reports free pages. */
struct vm *agentvm_qemu(const char *name, const char *incoming)
{
    g_autofree char *socket = g_strdup_printf("agent/%s.sock", name);   /* in the daemon's directory for them */
    g_autofree char *path = lab_path(agentvm->lab, socket), *qemu10 = vm_qemu10();
    g_autofree char *chardev = g_strdup_printf("socket,id=agent,path=%s,server=on,wait=off", path);
    const char *extra[] = {
        "-device", "virtio-serial-pci", "-chardev", chardev,
        "-device", "virtserialport,chardev=agent,name=org.vmtier.agent.0",
        "-device", "virtio-balloon-pci,free-page-reporting=on", incoming ? "-incoming" : NULL, incoming,
        "-S", NULL,
    };

    return tiered_vm(agentvm, name, &(struct tiered_options){
        .qemu = qemu10, .ram = "384M", .extra = extra,
        .append = "vmt.foot=240M vmt.hot=32M vmt.share=80 vmt.agent=cpu=150,pass=2,refresh=2" });
}

void agentvm_start(void)
{
    const char *const arguments[] = { "--quota", "160M", "--rate", "1G", NULL };

    agentvm = g_new0(struct tiered, 1);
    agentvm->lab = lab_new("agent");
    agentvm->name = "vm";
    agentvm->quota = AGENTVM_QUOTA;
    write_config(agentvm->lab);
    agentvm->daemon = daemon_start(agentvm->lab, arguments);
    agentvm->vm = agentvm_qemu("vm", NULL);
    g_free(guest_expect(agentvm->vm->guest, "VMT READY", BOOT_TIMEOUT));
}

void agentvm_end(void)
{
    if (!agentvm)
        return;
    vm_free(agentvm->vm);
    daemon_free(agentvm->daemon);
    lab_free(agentvm->lab);
    g_free(agentvm->monitor);
    g_clear_pointer(&agentvm, g_free);
}

