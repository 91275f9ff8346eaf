// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `vmtier domxml` on domains of different shapes: those in tests/libvirt/domains, written as the tools
 * that make such domains write them, and generated ones that combine what matters.
 *
 * Of each: it can be tiered afterwards, doing it again changes nothing, and undoing it gives back the same
 * bytes.
 */
#include "host/libvirt-domxml.h"
#include "host/libvirt-metadata.h"

#include <string.h>

#define DOMAINS "tests/libvirt/domains"

static const struct domxml_options usual = { .plugin = "/usr/lib/vmtier/vmtier-qemu.so" };

static char *add(const char *text, const struct domxml_options *options)
{
    g_autoptr(GError) error = NULL;
    char *changed = domxml_add(text, strlen(text), options, &error);

    g_assert_no_error(error);
    return changed;
}

static char *take_away(const char *text)
{
    g_autoptr(GError) error = NULL;
    char *changed = domxml_remove(text, strlen(text), &error);

    g_assert_no_error(error);
    return changed;
}

static void assert_tierable(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Xml) xml = xml_read(text, strlen(text), &error);
    struct domain_facts facts;
    struct tiering tiering;
    xmlNode *backing;

    g_assert_no_error(error);
    backing = xml_child(xml_root(xml), NULL, "memoryBacking");
    g_assert_true(xml_attribute_is(xml_child(backing, NULL, "access"), "mode", "shared"));
    g_assert_true(xml_child(backing, NULL, "hugepages") ||
                  xml_attribute_is(xml_child(backing, NULL, "source"), "type", "memfd") ||
                  xml_attribute_is(xml_child(backing, NULL, "source"), "type", "file"));
    domain_read(text, strlen(text), &facts, &tiering, &error);
    g_assert_no_error(error);
    g_assert_true(facts.plugin && tiering.given);
    domain_facts_clear(&facts);
}

static void check_round_trip(const char *text, const struct domxml_options *options)
{
    g_autofree char *changed = add(text, options), *again = add(changed, options);
    g_autofree char *back = take_away(changed), *untouched = take_away(text);

    assert_tierable(changed);
    g_assert_cmpstr(again, ==, changed);
    g_assert_cmpstr(back, ==, text);
    g_assert_cmpstr(untouched, ==, text);
}

/* --- domains in files ---------------------------------------------------------------------------------------- */

static char *domain_file(const char *name)
{
    g_autofree char *path = g_build_filename(DOMAINS, name, NULL);
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, NULL);
    g_assert_nonnull(text);
    return text;
}

static void test_files(void)
{
    static const struct domxml_options huge = { .hugepages = true, .no_agent = true };
    g_autoptr(GDir) dir = g_dir_open(DOMAINS, 0, NULL);
    const char *name;
    int n = 0;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *text = domain_file(name);

        g_test_message("%s", name);
        check_round_trip(text, &usual);
        check_round_trip(text, &huge);
        n++;
    }
    g_assert_cmpint(n, >=, 15);
}

static void test_by_hand(void)
{
    g_autofree char *text = domain_file("prepared-by-hand.xml"), *same = add(text, &usual);

    g_assert_cmpstr(same, ==, text);
}

/* --- combinations -------------------------------------------------------------------------------------------- */

static const char *const backings[] = {
    "", "<memoryBacking/>", "<memoryBacking></memoryBacking>",
    "<memoryBacking>\n    <hugepages/>\n  </memoryBacking>",
    "<memoryBacking>\n    <source type=\"anonymous\"/>\n  </memoryBacking>",
    "<memoryBacking>\n    <access mode=\"private\"/>\n    <nosharepages/>\n  </memoryBacking>",
    "<memoryBacking>\n    <source type='memfd'/>\n    <access mode='shared'/>\n  </memoryBacking>",
};
static const char *const metadatas[] = {
    "", "<metadata/>", "<metadata>\n    <a:b xmlns:a='urn:a' c='d &gt; e'/>\n  </metadata>",
    "<metadata><vmtier:tiering xmlns:vmtier='urn:vmtier:libvirt:1'/></metadata>",
};
static const char *const devices[] = {
    "<devices/>", "<devices>\n    <memballoon model='virtio'/>\n  </devices>",
    "<devices><channel type='unix'><target type='virtio' name='org.vmtier.agent.0'/></channel></devices>",
};
static const char *const commandlines[] = {
    "", "<qemu:commandline/>", "<qemu:commandline>\n    <qemu:arg value='-S'/>\n  </qemu:commandline>",
};
static const char *const cpus[] = {
    "", "<cpu><numa><cell id='0' cpus='0' memory='1' unit='GiB' memAccess='private'/></numa></cpu>",
};

static char *combine(guint i)
{
    const char *backing = backings[i % G_N_ELEMENTS(backings)], *metadata, *device, *line, *cpu;

    i /= G_N_ELEMENTS(backings);
    metadata = metadatas[i % G_N_ELEMENTS(metadatas)];
    i /= G_N_ELEMENTS(metadatas);
    device = devices[i % G_N_ELEMENTS(devices)];
    i /= G_N_ELEMENTS(devices);
    line = commandlines[i % G_N_ELEMENTS(commandlines)];
    i /= G_N_ELEMENTS(commandlines);
    cpu = cpus[i % G_N_ELEMENTS(cpus)];
    return g_strdup_printf("<domain type='qemu'%s>\n  <name>c%u</name>\n  %s\n  <memory unit='GiB'>1</memory>\n"
                           "  %s\n  <vcpu>1</vcpu>\n  <os><type arch='x86_64'>hvm</type></os>\n  %s\n  %s\n"
                           "  %s\n</domain>\n", line[0] ? " xmlns:qemu='" XML_NS_QEMU "'" : "", i, metadata,
                           backing, cpu, device, line);
}

static void test_combinations(void)
{
    guint n = G_N_ELEMENTS(backings) * G_N_ELEMENTS(metadatas) * G_N_ELEMENTS(devices) *
              G_N_ELEMENTS(commandlines) * G_N_ELEMENTS(cpus);

    g_assert_cmpuint(n, >=, 500);
    for (guint i = 0; i < n; i++) {
        g_autofree char *text = combine(i), *line = NULL;
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        check_round_trip(text, &usual);
        line = g_strjoinv("", lines);           /* all in one line, as programs write it */
        check_round_trip(line, &usual);
    }
}

/* --- settings -------------------------------------------------------------------------------------------------- */

static void test_settings(void)
{
    g_autofree char *text = domain_file("virt-install-debian.xml"), *changed = NULL, *back = NULL;
    const struct domxml_options o = {
        .mode = "observe", .min = "256M", .max = "50%", .weight = "3", .granule = "2M", .required = true,
        .plugin = "/opt/a,b/vmtier-qemu.so", .socket = "/run/x.sock",
    };
    const struct domxml_options other = { .max = "1G" }, wrong = { .max = "1024" };
    g_autoptr(GError) error = NULL;
    struct domain_facts facts;
    struct tiering t;

    check_round_trip(text, &o);
    changed = add(text, &o);
    g_assert_true(domain_read(changed, strlen(changed), &facts, &t, NULL));
    g_assert_cmpfloat(t.max.share, ==, 0.5);
    g_assert_true(t.required && t.mode == VM_OBSERVE && t.granule == 2 << 20 && t.weight == 3);
    g_assert_nonnull(strstr(changed, "value='/opt/a,,b/vmtier-qemu.so,socket=/run/x.sock,required=on'"));
    g_assert_null(domxml_add(changed, strlen(changed), &other, &error));
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, "<tiering>: the domain has other settings"));
    g_clear_error(&error);
    g_assert_null(domxml_add(text, strlen(text), &wrong, &error));
    g_assert_nonnull(strstr(error->message, "max '1024' has no unit"));
    back = take_away(changed);
    g_assert_cmpstr(back, ==, text);
    domain_facts_clear(&facts);
}

static void test_names(void)
{
    static const char form[] = "<domain type='kvm'><name>two words</name>%s<memory>65536</memory>"
                               "<devices/></domain>";
    g_autofree char *without = g_strdup_printf(form, "");
    g_autofree char *with = g_strdup_printf(form, "<uuid>5f9b9d60-6c56-4bcb-9a4c-8ff03f7c1005</uuid>");
    g_autofree char *a = add(without, &usual), *b = add(with, &usual);

    g_assert_nonnull(strstr(a, ",vm=two_words'"));
    g_assert_nonnull(strstr(b, ",vm=5f9b9d60-6c56-4bcb-9a4c-8ff03f7c1005'"));
}

/* What was changed by somebody else since stays. */
static void test_later_changes(void)
{
    static const char text[] = "<domain type='kvm'>\n  <name>a</name>\n  <memory>65536</memory>\n"
                               "  <devices/>\n</domain>\n";
    g_autofree char *changed = add(text, &usual), *back = NULL;
    g_auto(GStrv) parts = g_strsplit(changed, "<access mode='shared'/>", 2);
    g_autofree char *edited = g_strjoin("<discard/><access mode='shared'/>", parts[0], parts[1], NULL);

    back = take_away(edited);
    g_test_message("%s", back);
    g_assert_nonnull(strstr(back, "<discard/>"));
    g_assert_null(strstr(back, "<access"));
    g_assert_null(strstr(back, "qemu"));
    g_assert_null(strstr(back, "metadata"));
}

/* --- refusals --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *xml, *said;
} refused[] = {
    { "<devices>\n<hostdev mode='subsystem' type='pci' managed='yes'/></devices>",
      "line 3: <hostdev type='pci'>: VFIO pins RAM" },
    { "<devices>\n<hostdev mode='subsystem' type='mdev'/></devices>", "line 3: <hostdev type='mdev'>" },
    { "<devices><hostdev type='scsi_host'/></devices>", "vhost-scsi" },
    { "<devices><interface type='hostdev'/></devices>", "<interface type='hostdev'>" },
    { "<devices><interface type='vhostuser'/></devices>", "vhost-user maps the RAM file" },
    { "<devices><interface type='vdpa'/></devices>", "vDPA" },
    { "<devices><disk type='vhostuser'/></devices>", "<disk type='vhostuser'>" },
    { "<devices><disk type='nvme'/></devices>", "<disk type='nvme'>" },
    { "<devices><disk type='network'>\n\n<source protocol='rbd' name='p/i'/></disk></devices>",
      "line 4: <source protocol='rbd'>" },
    { "<devices><filesystem><driver type='virtiofs'/></filesystem></devices>", "<driver type='virtiofs'>" },
    { "<devices><shmem name='s'/></devices>", "<shmem>" },
    { "<devices><memory model='nvdimm'/></devices>", "<memory model='nvdimm'>" },
    { "<devices><memory model='sgx-epc'/></devices>", "enclaves" },
    { "<launchSecurity type='sev'/>", "<launchSecurity>: encrypts RAM" },
    { "<launchSecurity type='tdx'/>", "<launchSecurity>: encrypts RAM" },
    { "<memoryBacking><locked/></memoryBacking>", "<locked>: pins all RAM" },
    { "<cpu><feature policy='require' name='vmx'/></cpu>", "<feature name='vmx'>" },
    { "<os><type arch='aarch64'>hvm</type></os>", "<type>: only x86" },
    { "<q:commandline><q:arg value='-device'/>\n<q:arg value='vfio-pci,host=1'/></q:commandline>",
      "line 3: <arg vfio->" },
    { "<q:commandline><q:arg value='memory-backend-ram,id=a'/></q:commandline>", "no file" },
};

static void test_refused(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autofree char *text = g_strdup_printf(
            "<domain type='kvm' xmlns:q='" XML_NS_QEMU "'>\n<memory>65536</memory>%s</domain>", refused[i].xml);
        g_autoptr(GError) error = NULL;

        g_assert_null(domxml_add(text, strlen(text), &usual, &error));
        g_test_message("%s", error->message);
        g_assert_nonnull(strstr(error->message, refused[i].said));
    }
}

/* All of them are said, not only the first. */
static void test_refused_all(void)
{
    static const char text[] = "<domain type='xen'><memory>1</memory><devices><shmem/>"
                               "<hostdev type='pci'/></devices></domain>";
    g_autoptr(GError) error = NULL;

    g_assert_null(domxml_add(text, strlen(text), &usual, &error));
    g_assert_nonnull(strstr(error->message, "neither kvm nor qemu"));
    g_assert_nonnull(strstr(error->message, "<shmem>"));
    g_assert_nonnull(strstr(error->message, "<hostdev type='pci'>"));
}

/* --- KubeVirt ----------------------------------------------------------------------------------------------------- */

static void test_vmi(void)
{
    static const char vmi[] = "{\"metadata\": {\"name\": \"a\", \"annotations\": {\"other/x\": \"1\","
        "\"vmtier.org/dram-max\": \"2Gi\", \"vmtier.org/mode\": \"observe\", \"vmtier.org/required\": \"true\"}},"
        "\"spec\": {}}";
    g_autofree char *text = domain_file("kubevirt.xml");
    struct domxml_options o = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(domxml_vmi_options(vmi, &o, &error));
    g_assert_cmpstr(o.max, ==, "2Gi");
    g_assert_cmpstr(o.mode, ==, "observe");
    g_assert_true(o.required);
    check_round_trip(text, &o);
    g_assert_true(domxml_vmi_options("{}", &o, &error));
    g_assert_false(domxml_vmi_options("{\"metadata\":{\"annotations\":{\"vmtier.org/max\":\"1\"}}}", &o, &error));
    g_assert_nonnull(strstr(error->message, "vmtier.org/max"));
    g_clear_error(&error);
    g_assert_false(domxml_vmi_options("{", &o, &error));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/domxml/files", test_files);
    g_test_add_func("/libvirt/domxml/by-hand", test_by_hand);
    g_test_add_func("/libvirt/domxml/combinations", test_combinations);
    g_test_add_func("/libvirt/domxml/settings", test_settings);
    g_test_add_func("/libvirt/domxml/names", test_names);
    g_test_add_func("/libvirt/domxml/later-changes", test_later_changes);
    g_test_add_func("/libvirt/domxml/refused", test_refused);
    g_test_add_func("/libvirt/domxml/refused-all", test_refused_all);
    g_test_add_func("/libvirt/domxml/vmi", test_vmi);
    return g_test_run();
}
