# SPDX-License-Identifier: GPL-2.0-or-later
#
# Dependencies of the build, and installation.

#:
#:   deps             install missing packages with apt (packaging/debian/build-deps)
#:   install-libvirt  libvirt's hook (/etc/libvirt/hooks/qemu.d) and AppArmor rules for its VMs
#:   install          PREFIX=/usr/local DESTDIR=      uninstall: remove it; configuration stays
#:   install-agent    in a guest: vmtier-agent         uninstall-agent

PREFIX     ?= /usr/local
bindir     ?= $(PREFIX)/bin
sbindir    ?= $(PREFIX)/sbin
libdir     ?= $(PREFIX)/lib
datadir    ?= $(PREFIX)/share
mandir     ?= $(datadir)/man
sysconfdir ?= /etc
unitdir    ?= $(libdir)/systemd/system
rulesdir   ?= $(libdir)/udev/rules.d
usersdir   ?= $(libdir)/sysusers.d
INSTALL    ?= install

AGENT_PAGES := $(wildcard man/vmtier-agent.*)
MAN_PAGES  := $(filter-out $(AGENT_PAGES),$(wildcard man/*.[1-9]))
AGENT_COMPLETION := completion/vmtier-agent.bash
COMPLETION := $(filter-out $(AGENT_COMPLETION),$(wildcard completion/vmtier completion/*.bash))
UNITS      := $(wildcard packaging/systemd/*.service)
CONFIG     := $(DESTDIR)$(sysconfdir)/vmtier/vmtierd.conf

deps:
	@mk/deps.sh packaging/debian/build-deps

# $(call page,FILE): where a man page goes; its suffix is the section.
page = $(DESTDIR)$(mandir)/man$(subst .,,$(suffix $(1)))/$(notdir $(1))
completion = $(DESTDIR)$(datadir)/bash-completion/completions/$(basename $(notdir $(1)))
unit = $(DESTDIR)$(unitdir)/$(notdir $(1))

INSTALLED = $(DESTDIR)$(bindir)/vmtier $(DESTDIR)$(sbindir)/vmtierd $(DESTDIR)$(libdir)/vmtier/vmtier-qemu.so \
	$(DESTDIR)$(libdir)/vmtier/vmtier-libvirt.so \
	$(foreach f,$(MAN_PAGES),$(call page,$(f))) $(foreach f,$(COMPLETION),$(call completion,$(f))) \
	$(foreach f,$(UNITS),$(call unit,$(f)))

define newline


endef
put = $(INSTALL) -D -m $(1) $(2) $(3)$(newline)

install: $(filter-out $(AGENT),$(PROGRAMS))
	$(if $(CLI),$(call put,755,$(CLI),$(DESTDIR)$(bindir)/vmtier))
	$(if $(DAEMON),$(call put,755,$(DAEMON),$(DESTDIR)$(sbindir)/vmtierd))
	$(if $(PLUGIN),$(call put,644,$(PLUGIN),$(DESTDIR)$(libdir)/vmtier/vmtier-qemu.so))
	$(if $(MODULE),$(call put,644,$(MODULE),$(DESTDIR)$(libdir)/vmtier/vmtier-libvirt.so))
	$(foreach f,$(MAN_PAGES),$(call put,644,$(f),$(call page,$(f))))
	$(foreach f,$(COMPLETION),$(call put,644,$(f),$(call completion,$(f))))
	$(foreach f,$(UNITS),$(call put,644,$(f),$(call unit,$(f))))
	$(foreach f,$(UNITS),sed -i 's|@sbindir@|$(sbindir)|g' $(call unit,$(f))$(newline))
	test -e $(CONFIG) || $(INSTALL) -D -m 644 packaging/vmtierd.conf $(CONFIG)

HOOK     := $(DESTDIR)$(sysconfdir)/libvirt/hooks/qemu.d/50-vmtier
APPARMOR := $(DESTDIR)$(sysconfdir)/apparmor.d/abstractions/vmtier
SHARED   := $(DESTDIR)$(datadir)/vmtier

install-libvirt: install
	$(INSTALL) -D -m 755 libvirt-hooks/50-vmtier $(HOOK)
	sed -i 's|@bindir@|$(bindir)|g' $(HOOK)
	$(INSTALL) -D -m 644 libvirt-hooks/apparmor/vmtier $(APPARMOR)
	sed -i 's|@libdir@|$(libdir)|g' $(APPARMOR)
	$(INSTALL) -D -m 644 libvirt-hooks/apparmor/libvirtd-vmtier $(SHARED)/apparmor/libvirtd-vmtier
	sed -i 's|@bindir@|$(bindir)|g' $(SHARED)/apparmor/libvirtd-vmtier
	$(INSTALL) -D -m 644 libvirt-hooks/vmtier-tiering.rng $(SHARED)/vmtier-tiering.rng
	$(INSTALL) -D -m 755 libvirt-hooks/onDefineDomain $(SHARED)/onDefineDomain

uninstall:
	rm -f $(HOOK) $(APPARMOR) $(SHARED)/apparmor/libvirtd-vmtier $(SHARED)/vmtier-tiering.rng $(SHARED)/onDefineDomain
	rm -f $(INSTALLED)
	-rmdir $(DESTDIR)$(libdir)/vmtier

# The guest's part, apart from the host's.
AGENT_CONFIG := $(DESTDIR)$(sysconfdir)/vmtier/vmtier-agent.conf
AGENT_FILES = $(DESTDIR)$(sbindir)/vmtier-agent $(DESTDIR)$(unitdir)/vmtier-agent.service \
	$(DESTDIR)$(rulesdir)/60-vmtier-agent.rules $(DESTDIR)$(usersdir)/vmtier-agent.conf \
	$(foreach f,$(AGENT_PAGES),$(call page,$(f))) $(call completion,$(AGENT_COMPLETION))

install-agent: $(AGENT)
	$(call put,755,$(AGENT),$(DESTDIR)$(sbindir)/vmtier-agent)
	$(call put,644,packaging/guest/vmtier-agent.service,$(DESTDIR)$(unitdir)/vmtier-agent.service)
	sed -i 's|@sbindir@|$(sbindir)|g' $(DESTDIR)$(unitdir)/vmtier-agent.service
	$(call put,644,packaging/guest/60-vmtier-agent.rules,$(DESTDIR)$(rulesdir)/60-vmtier-agent.rules)
	$(call put,644,packaging/guest/vmtier-agent.sysusers,$(DESTDIR)$(usersdir)/vmtier-agent.conf)
	$(foreach f,$(AGENT_PAGES),$(call put,644,$(f),$(call page,$(f))))
	$(call put,644,$(AGENT_COMPLETION),$(call completion,$(AGENT_COMPLETION)))
	test -e $(AGENT_CONFIG) || $(INSTALL) -D -m 644 packaging/guest/vmtier-agent.conf $(AGENT_CONFIG)

uninstall-agent:
	rm -f $(AGENT_FILES)

.PHONY: deps install install-libvirt uninstall install-agent uninstall-agent
