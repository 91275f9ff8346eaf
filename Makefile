# SPDX-License-Identifier: GPL-2.0-or-later
#
# vmtier's build: GNU make, no generator. A new source, subcommand or test is just a new file, as
# the lists below are made of the directories. `make help` says what there is.
#
#   mk/check.mk     tests, lint, sanitizers, fuzzing, bench
#   mk/install.mk   deps, install
#
# Everything that is generated is below $(BUILD). A build of another kind (sanitizers, fuzzing) is
# this same Makefile run with another $(BUILD), $(CC) and $(SANITIZE).

#: vmtier: targets of make
#:
#:   all (default)    the plugin, vmtierd, vmtier and the tests' programs, into build/
#:   clean            remove what was built; downloads stay in build/cache (distclean: those too)
#:   help             this

BUILD   ?= build
CFLAGS  ?= -O2 -g
PKG_CONFIG ?= pkg-config

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# V=1 shows the commands.
Q   := $(if $(filter 1,$(V)),,@)
say  = @printf '  %-7s %s\n' '$(1)' '$(2)'

# --- what there is --------------------------------------------------------------------------------

COMMON_SRC := $(wildcard common/*.c)
# libvirt's client library is in a module of its own, so that it is not needed to run.
MODULE_SRC := $(wildcard host/libvirt/*.c)
MODULE   := $(if $(MODULE_SRC),$(if $(shell $(PKG_CONFIG) --exists libvirt 2>/dev/null && echo yes),$(BUILD)/vmtier-libvirt.so))
# Between guest and daemon; QEMU's part has nothing to do with it.
AGENT_COMMON_SRC := $(wildcard common/agent-*.c)
AGENT_SRC  := $(wildcard guest-agent/*.c) $(AGENT_COMMON_SRC)
VMM_SRC    := $(wildcard vmm/*.c) $(filter-out $(AGENT_COMMON_SRC),$(COMMON_SRC))
HOST_SRC   := $(wildcard host/*.c host/source/*.c host/mover/*.c host/policy/*.c host/perf/*.c) $(COMMON_SRC)
CLI_SRC    := $(wildcard host/cli/*.c)
UNIT_SRC   := $(wildcard tests/unit/test-*.c)
VM_SRC     := $(wildcard tests/vm/test-*.c)
NESTED_SRC := $(wildcard tests/nested/test-*.c)
LIBVIRT_SRC := $(if $(MODULE),$(wildcard tests/libvirt/test-*.c))
DEMO_SRC   := $(wildcard tests/demo/*.c)
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz-*.c)
BENCH_SRC  := $(wildcard bench/*.c)
PEERS_SRC  := $(wildcard bench/peers/*.c)
LONG_SRC   := $(wildcard tests/long/*.c)
# What the programs of one directory share. bench/lib is for tests of the plugin as well.
UNIT_LIB_SRC := $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c))
VM_LIB_SRC   := $(filter-out $(VM_SRC),$(wildcard tests/vm/*.c))
LIBVIRT_LIB_SRC := $(filter-out $(LIBVIRT_SRC),$(wildcard tests/libvirt/*.c))
NESTED_LIB_SRC := $(filter-out $(NESTED_SRC),$(wildcard tests/nested/*.c))
BENCH_LIB_SRC := $(wildcard bench/lib/*.c)
PLACE_LIB_SRC := $(wildcard bench/place/*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
pic = $(patsubst %.c,$(BUILD)/pic/%.o,$(1))
exe = $(patsubst %.c,$(BUILD)/%,$(1))

PLUGIN   := $(if $(wildcard vmm/plugin.c),$(BUILD)/vmtier-qemu.so)
DAEMON   := $(if $(wildcard host/main.c),$(BUILD)/vmtierd)
CLI      := $(if $(wildcard host/cli/main.c),$(BUILD)/vmtier)
DEMO     := $(if $(DEMO_SRC),$(BUILD)/tests/demo)
PEERS    := $(if $(PEERS_SRC),$(BUILD)/bench/peers/peers)
AGENT    := $(if $(wildcard guest-agent/main.c),$(BUILD)/vmtier-agent)
ROM      := $(if $(wildcard tests/vm/rom.S),$(BUILD)/tests/rom.bin)
PROGRAMS := $(PLUGIN) $(DAEMON) $(CLI) $(MODULE) $(AGENT)

VMM_LIB  := $(BUILD)/libvmtier-qemu.a
HOST_LIB := $(BUILD)/libvmtierd.a
CLI_LIB  := $(BUILD)/libvmtiercli.a
UNIT_LIB := $(BUILD)/libunit.a
LAB_LIB  := $(BUILD)/liblab.a
BENCH_LIB := $(BUILD)/libbench.a
PLACE_LIB := $(BUILD)/libplace.a
LIBS     := $(VMM_LIB) $(HOST_LIB) $(CLI_LIB) $(UNIT_LIB) $(LAB_LIB) $(BENCH_LIB) $(PLACE_LIB)

UNIT_PROGRAMS  := $(call exe,$(UNIT_SRC))
VM_PROGRAMS    := $(call exe,$(VM_SRC))
LIBVIRT_PROGRAMS := $(call exe,$(LIBVIRT_SRC))
NESTED_PROGRAMS := $(call exe,$(NESTED_SRC))
FUZZ_PROGRAMS  := $(call exe,$(FUZZ_SRC))
BENCH_PROGRAMS := $(call exe,$(BENCH_SRC))
LONG_PROGRAMS  := $(call exe,$(LONG_SRC))

# --- flags ----------------------------------------------------------------------------------------

# Asked for when the first file is compiled, as `make demo` may have installed them by then.
PACKAGES   := glib-2.0 gio-2.0 gio-unix-2.0 gmodule-2.0 json-glib-1.0 cairo ncursesw libxml-2.0 zlib
PKG_CFLAGS  = $(eval PKG_CFLAGS := $$(shell $$(PKG_CONFIG) --cflags $$(PACKAGES)))$(PKG_CFLAGS)
PKG_LIBS    = $(eval PKG_LIBS := $$(shell $$(PKG_CONFIG) --libs $$(PACKAGES)))$(PKG_LIBS)

# What is switched off are GNU extensions that we use, and clang reports.
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(if $(filter 1,$(WERROR)),-Werror) \
	-Wno-gnu-variable-sized-type-not-at-end
# Fortified functions hide accesses from the sanitizers, and need optimisation.
HARDEN := $(if $(SANITIZE)$(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) -fstack-protector-strong
SAN    := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined -fno-omit-frame-pointer)

VT_CFLAGS  := -std=gnu11 $(WARN) -D_GNU_SOURCE $(HARDEN) -pthread -Iinclude -I. $(SAN)
VT_LDFLAGS := -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN)
VT_LIBS     = $(PKG_LIBS) -lnuma -lm

COMPILE = $(CC) $(VT_CFLAGS) $(OWN_CPPFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
LINK    = $(CC) $(VT_LDFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(VT_LIBS) $(OWN_LIBS)

# --- the programs ---------------------------------------------------------------------------------

all: $(PROGRAMS) $(UNIT_PROGRAMS) $(VM_PROGRAMS) $(LIBVIRT_PROGRAMS) $(NESTED_PROGRAMS) $(BENCH_PROGRAMS) $(LONG_PROGRAMS) $(DEMO) $(PEERS) $(ROM)
programs: $(PROGRAMS)
unit-programs: $(UNIT_PROGRAMS)
fuzz-programs: $(FUZZ_PROGRAMS)

$(BUILD)/vmtier-qemu.so: $(call pic,$(VMM_SRC)) $(BUILD)/.sources
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(VT_LDFLAGS) -Wl,-z,defs $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^)

$(BUILD)/vmtierd: $(call obj,$(HOST_SRC)) $(BUILD)/.sources
	$(call say,LINK,$@)
	$(Q)$(LINK)

$(BUILD)/vmtier-libvirt.so: $(call pic,$(MODULE_SRC)) $(BUILD)/.sources
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(VT_LDFLAGS) -Wl,-z,defs $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) \
	    $(shell $(PKG_CONFIG) --libs libvirt) $(PKG_LIBS)

# The daemon's library is for the helpers that both have; only what is used gets in.
$(BUILD)/vmtier: $(call obj,$(CLI_SRC)) $(HOST_LIB)
	$(call say,LINK,$@)
	$(Q)$(LINK)

# For any guest: static, libc only.
$(BUILD)/vmtier-agent: $(call obj,$(AGENT_SRC)) $(BUILD)/.sources
	$(call say,LINK,$@)
	$(Q)$(CC) -static $(VT_LDFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^)

$(VMM_LIB): $(call pic,$(VMM_SRC))
$(HOST_LIB): $(call obj,$(filter-out host/main.c,$(HOST_SRC)))
$(CLI_LIB): $(call obj,$(filter-out host/cli/main.c,$(CLI_SRC)))
$(UNIT_LIB): $(call obj,$(UNIT_LIB_SRC))
$(LAB_LIB): $(call obj,$(VM_LIB_SRC))
$(BENCH_LIB): $(call obj,$(BENCH_LIB_SRC))
$(PLACE_LIB): $(call obj,$(PLACE_LIB_SRC))
$(LIBS): $(BUILD)/.sources
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

# A test's name says what is tested: test-vmm-* the plugin's parts, test-cli-* the command line's,
# any other the daemon's.
#
# A test that is linked in its own way says so: "// link: FLAGS" in a line of its source.
$(BUILD)/tests/unit/test-%: OWN_LIBS = $(shell sed -n 's|^// link: ||p' $(patsubst $(BUILD)/obj/%.o,%.c,$<))

$(BUILD)/tests/unit/test-vmm-%: $(BUILD)/obj/tests/unit/test-vmm-%.o $(UNIT_LIB) $(BENCH_LIB) $(VMM_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/tests/unit/test-cli-%: $(BUILD)/obj/tests/unit/test-cli-%.o $(UNIT_LIB) $(CLI_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/tests/unit/test-%: $(BUILD)/obj/tests/unit/test-%.o $(UNIT_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/tests/vm/test-%: $(BUILD)/obj/tests/vm/test-%.o $(LAB_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/tests/libvirt/test-%: OWN_LIBS = $(shell $(PKG_CONFIG) --libs libvirt)
$(BUILD)/tests/libvirt/test-%: $(BUILD)/obj/tests/libvirt/test-%.o $(call obj,$(LIBVIRT_LIB_SRC)) $(call pic,$(MODULE_SRC)) \
	    $(LAB_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/tests/nested/test-%: $(BUILD)/obj/tests/nested/test-%.o $(call obj,$(NESTED_LIB_SRC) $(LIBVIRT_LIB_SRC)) $(LAB_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/tests/long/%: $(BUILD)/obj/tests/long/%.o $(BENCH_LIB) $(VMM_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/tests/demo: $(call obj,$(DEMO_SRC)) $(LAB_LIB) $(CLI_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/bench/%: OWN_LIBS = $(shell sed -n 's|^// link: ||p' $(patsubst $(BUILD)/obj/%.o,%.c,$<))

$(BUILD)/bench/place: $(BUILD)/obj/bench/place.o $(PLACE_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(PEERS): $(call obj,$(PEERS_SRC)) $(BENCH_LIB) $(LAB_LIB) $(VMM_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(BENCH_LIB) $(LAB_LIB) $(VMM_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

# clang brings the engine; without it, replay.c runs the corpus once.
FUZZ_ENGINE ?= $(BUILD)/obj/tests/fuzz/replay.o
$(BUILD)/tests/fuzz/fuzz-%: $(BUILD)/obj/tests/fuzz/fuzz-%.o $(filter %.o,$(FUZZ_ENGINE)) $(VMM_LIB) $(HOST_LIB)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) $(filter-out %.o,$(FUZZ_ENGINE))

$(BUILD)/tests/rom.bin: tests/vm/rom.S tests/vm/rom.h
	$(call say,ROM,$@)
	@mkdir -p $(@D) $(BUILD)/obj/tests/vm
	$(Q)$(CC) -m32 -c -o $(BUILD)/obj/tests/vm/rom.o $<
	$(Q)ld -m elf_i386 -Ttext=0xf0000 --oformat binary -o $@ $(BUILD)/obj/tests/vm/rom.o

$(BUILD)/obj/%.o: %.c $(BUILD)/.flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) $(PKG_CFLAGS)

$(BUILD)/pic/host/libvirt/%.o: host/libvirt/%.c $(BUILD)/.flags
	$(call say,CC,$< (module))
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -fPIC -fvisibility=hidden $(PKG_CFLAGS) $(shell $(PKG_CONFIG) --cflags libvirt)

# Where what is installed is looked for.
$(BUILD)/obj/host/paths.o: OWN_CPPFLAGS = -DVMTIER_LIBDIR='"$(libdir)/vmtier"'

# Objects of what QEMU loads: libc only, and nothing exported that is not marked so.
$(BUILD)/pic/%.o: %.c $(BUILD)/.flags
	$(call say,CC,$< (plugin))
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -fPIC -fvisibility=hidden

# Touched only when their text changes: other flags compile anew, other sources link anew.
define stamp
@mkdir -p $(@D)
@printf '%s\n' '$(1)' | cmp -s - $@ || printf '%s\n' '$(1)' >$@
endef

$(BUILD)/.flags: FORCE | toolchain
	$(call stamp,$(CC) $(VT_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(VT_LDFLAGS) $(LDFLAGS))

$(BUILD)/.sources: FORCE
	$(call stamp,$(sort $(VMM_SRC) $(AGENT_SRC) $(HOST_SRC) $(MODULE_SRC) $(CLI_SRC) $(UNIT_LIB_SRC) $(VM_LIB_SRC) $(BENCH_LIB_SRC) $(PLACE_LIB_SRC) $(DEMO_SRC) $(PEERS_SRC)))

toolchain:
	@$(PKG_CONFIG) --exists --print-errors $(PACKAGES) && command -v $(firstword $(CC)) >/dev/null || \
	    { echo "Something that the build needs is missing: run 'make deps'." >&2; exit 1; }

clean:
	rm -rf $(filter-out $(BUILD)/cache,$(wildcard $(BUILD)/* $(BUILD)/.flags $(BUILD)/.sources))

distclean: clean
	rm -rf $(BUILD)

# Each line "#: ..." of the makefiles is a line of the help.
help:
	@sed -n 's/^#: \{0,1\}//p' $(filter-out %.d,$(MAKEFILE_LIST))

include mk/check.mk mk/install.mk

.PHONY: all programs unit-programs fuzz-programs toolchain clean distclean help FORCE
FORCE:

# Objects are kept, else make would throw away those that only chained rules name.
.SECONDARY:

-include $(shell test -d $(BUILD) && find $(BUILD)/obj $(BUILD)/pic -name '*.d' 2>/dev/null)
