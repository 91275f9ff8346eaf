# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tests. Each is a program or script that speaks TAP; tests/run-tests runs them, and its last line
# is the verdict: "N passed, N failed, N skipped".

#:
#:   demo             install what is missing, build, boot a VM and show its memory being tiered
#:   check            all tests: unit, vm, nested, libvirt, asan, fuzz (brief), lint
#:   check-unit       unit tests                 check-vm     tests that boot QEMU
#:   check-libvirt    tests with a libvirtd of their own
#:   check-nested     tests in a machine with two NUMA nodes and a real KVM (emulated)
#:   lab              that machine: vmtierd, a guest under KVM that is tiered, and a shell
#:   lab-kernel       build a kernel for it that tracks idle pages (8 min of CPU): build/cache/lab-kernel/vmlinuz
#:   LAB_KERNEL=FILE  boots another kernel there, such as that one
#:   check-asan       unit tests, sanitized      check-fuzz   fuzzing, FUZZ_SECONDS each
#:   check-lint       static analysis as tests   check-NAME   all tests with NAME in their path
#:   lint             like check-lint            asan, fuzz   like check-asan, check-fuzz
#:   bench            run the benchmarks in bench/ (BENCHMARKING.md)
#:   long-torn        100 million page moves under writers and device I/O (~15 min): build/long/torn.json
#:   bench-move       the mover's alone: speed, stalls, vCPUs (~15 min); bench-move-quick: < 50 s
#:   bench-place      placement policies on simulated loads (~8 min); bench-place-quick: < 60 s
#:   bench-probe      placement by probes alone on a simulated small guest, by its speed and a fault's cost (1 min)
#:   bench-round      CPU time of heat and placement in a round, 64 GiB and 4 TiB (< 2 min)
#:   bench-traces     record what real guests do, into build/cache/traces (~12 min)
#:   bench-track      what tracking costs a guest, and us (~20 min): build/bench/track.json
#:   bench-peers      the kernel's own tiering, DAMON's and vmtier's on one guest, in that machine (~30 min):
#:                    build/lab/report.json, peers.png; bench-peers-quick: three loads, half as long
#:   bench-io         what the fence costs: a guest's direct disk I/O, a submission (~6 min)
#:
#:   T=WORD           only tests with WORD in their path     make check T=qmp
#:   JOBS=N           VM tests at a time (2)                 V=1       show commands
#:   WERROR=1         warnings are errors                    CC=clang  another compiler
#:   FUZZ_SECONDS=N   per fuzz target (20; in check 5)       CFLAGS=…  instead of -O2 -g

JOBS      ?= 2
UNIT_JOBS ?= 2
LINT_JOBS ?= 2
ASAN      := $(BUILD)/asan
FUZZ      := $(BUILD)/fuzz
export BUILD LINT_JOBS

TESTS_UNIT := $(UNIT_PROGRAMS) $(wildcard tests/unit/test-*.sh)
TESTS_NESTED := $(wildcard tests/nested/test-*.sh)
TESTS_VM   := $(TESTS_NESTED) $(VM_PROGRAMS) $(wildcard tests/vm/test-*.sh)
TESTS_LIBVIRT := $(LIBVIRT_PROGRAMS) $(wildcard tests/libvirt/test-*.sh)
TESTS_ASAN := $(patsubst $(BUILD)/%,$(ASAN)/%,$(UNIT_PROGRAMS))
TESTS_FUZZ := $(if $(FUZZ_SRC),tests/fuzz/run-fuzz.sh)
TESTS_LINT := $(wildcard tests/lint/*.sh)
STAGES     := unit asan fuzz vm libvirt lint
# In check it is one of the VM tests, the first as it is the longest: it keeps one processor busy.
STAGES_APART := nested

# $(call selected,STAGE): the tests of a stage that T= (or check-NAME) lets through.
# Of the fuzz targets, which one script runs, it lets those through that have it in their names.
TESTS_OF = $(TESTS_$(shell echo $(1) | tr a-z A-Z))
FUZZ_ONLY := $(strip $(if $(T),$(foreach f,$(notdir $(FUZZ_PROGRAMS)),$(if $(findstring $(T),$(f)),$(f)))))
selected = $(strip $(if $(T),$(foreach t,$(TESTS_OF),$(if $(findstring $(T),$(t))$(if $(filter fuzz,$(1)),$(FUZZ_ONLY)),$(t))),$(TESTS_OF)))
export FUZZ_ONLY

STAGE_OPTIONS_unit := --jobs $(UNIT_JOBS)
STAGE_OPTIONS_asan := --jobs $(UNIT_JOBS) --slow 3
STAGE_OPTIONS_vm    = --jobs $(JOBS) --slow 3 --kernel-log
STAGE_OPTIONS_libvirt := --slow 3 --kernel-log

# One run of the driver over the stages in $(1), so that there is one verdict.
drive = tests/run-tests $(foreach s,$(1),$(if $(call selected,$(s)),--stage $(s) $(STAGE_OPTIONS_$(s)) $(call selected,$(s))))

# What has to be there before a stage runs; nothing if no test of the stage is selected.
needs = $(foreach s,$(1),$(if $(call selected,$(s)),need-$(s)))

check: export FUZZ_SECONDS := $(or $(FUZZ_SECONDS),5)
check: $(call needs,$(STAGES))
	@$(call drive,$(STAGES))

define stage_rules
check-$(1): $$(call needs,$(1))
	@$$(call drive,$(1))
endef
$(foreach s,$(STAGES) $(STAGES_APART),$(eval $(call stage_rules,$(s))))

lint asan fuzz: %: check-%

check-%:
	@$(MAKE) --no-print-directory check T=$*

need-unit: $(PROGRAMS) $(UNIT_PROGRAMS)
need-vm: $(PROGRAMS) $(VM_PROGRAMS) $(NESTED_PROGRAMS) $(DEMO) $(ROM) guest
need-libvirt: $(PROGRAMS) $(LIBVIRT_PROGRAMS) guest
need-nested: $(PROGRAMS) $(NESTED_PROGRAMS) $(ROM) guest
need-lint:

ASAN_FLAGS := SANITIZE=address,undefined
need-asan:
	@$(MAKE) --no-print-directory BUILD=$(ASAN) $(ASAN_FLAGS) unit-programs

# libFuzzer comes with clang. Without it gcc builds the same targets with a driver that replays.
CLANG      ?= $(shell command -v clang)
FUZZ_FLAGS := CC=clang SANITIZE=fuzzer-no-link,address,undefined FUZZ_ENGINE=-fsanitize=fuzzer
need-fuzz:
	@$(MAKE) --no-print-directory BUILD=$(FUZZ) $(if $(CLANG),$(FUZZ_FLAGS),$(ASAN_FLAGS)) fuzz-programs

# The test guest and QEMU 10. What could not be fetched is said by the tests that want it, so a
# machine without network still runs the others.
guest: export CC := $(CC)
guest: $(AGENT)
	@tests/vm/fetch-kernel.sh && tests/vm/mk-initrd.sh || echo 'make: no test guest: VM tests will fail' >&2
	@tests/vm/fetch-qemu10.sh || echo 'make: no QEMU 10: tests that need it will fail' >&2

# In steps, as the build can only look for what deps has installed.
demo:
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory programs demo-parts
	@$(BUILD)/tests/demo $(DEMO_ARGS)

demo-parts: $(DEMO) $(AGENT)
	@tests/vm/fetch-kernel.sh && CC='$(CC)' tests/vm/mk-initrd.sh

bench: $(PROGRAMS) $(BENCH_PROGRAMS) guest
	@$(if $(BENCH_PROGRAMS),set -e; for b in $(BENCH_PROGRAMS); do echo "# $$b"; $$b; done,echo 'bench/ has no programs yet')

bench-move: $(BUILD)/bench/move
	@$<
bench-move-quick: $(BUILD)/bench/move
	@$< --quick
long-torn: $(BUILD)/tests/long/torn
	@$<
bench-place: $(BUILD)/bench/place
	@$<
bench-place-quick: $(BUILD)/bench/place
	@$< --quick
bench-probe: $(BUILD)/bench/probe
	@$<
bench-round: $(BUILD)/bench/round
	@$<
bench-track: $(PROGRAMS) $(BUILD)/bench/track $(ROM) guest
	@$(BUILD)/bench/track
bench-io: $(PROGRAMS) $(BUILD)/bench/io guest
	@$(BUILD)/bench/io
bench-peers: $(PROGRAMS) $(PEERS) guest
	@bench/peers/run.sh
bench-peers-quick: $(PROGRAMS) $(PEERS) guest
	@bench/peers/run.sh --brief

# What there is to see with two NUMA nodes and KVM, on any machine.
LAB_OPTIONS := $(if $(LAB_KERNEL),-k $(LAB_KERNEL))
export LAB_KERNEL
lab: $(PROGRAMS) $(ROM) guest
	@tests/nested/run-l1 -i $(LAB_OPTIONS) tests/nested/lab
lab-kernel:
	@tests/nested/mk-kernel.sh

bench-traces: $(PROGRAMS) guest
	@bench/traces/record.sh

.PHONY: check $(STAGES:%=check-%) $(STAGES_APART:%=check-%) lint asan fuzz $(STAGES:%=need-%) $(STAGES_APART:%=need-%) guest demo demo-parts bench bench-move bench-move-quick bench-place bench-place-quick bench-probe bench-round bench-track bench-io bench-peers bench-peers-quick bench-traces long-torn lab lab-kernel
