# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bash completion of vmtier(1). Names of VMs and of QMP commands are asked of the daemon, which gets a
# second to answer; without one, nothing is offered.

# What the daemon says to a query, as the values of its "name" members.
_vmtier_names() {
    vmtier --timeout 1 qmp "$1" 2>/dev/null | sed -n 's/^    "name" : "\([A-Za-z0-9._:@+-]*\)",\{0,1\}$/\1/p'
}

# The host's tiers, each with $1 behind it.
_vmtier_tiers() {
    vmtier --timeout 1 qmp query-vmtier-status 2>/dev/null | sed -n '/^  "tiers" /,/^  \]/s/^      "name" : "\(.*\)",$/\1/p' |
        sed "s/\$/${1-}/"
}

# The words that may follow: $1 is the subcommand, $2 how many arguments it has already, $3 what is typed.
_vmtier_words() {
    case "$1:$2" in
    :*) echo "status top quota mode rate interleave pin heatmap events sources attach detach report" \
        "record replay capacity perf-read domxml qmp version" ;;
    status:0 | quota:0 | mode:0 | rate:0 | interleave:0 | pin:0 | heatmap:0 | sources:0 | detach:0 | report:0 | record:0)
        _vmtier_names query-vmtier-vms
        ;;
    replay:0 | capacity:0) compgen -f -X '!*.vmtrace' -- "$3" ;;
    attach:0) pgrep -f '^[^ ]*(qemu-system-|qemu-kvm|/kvm )' ;;
    domxml:0) virsh -q list --all --name 2>/dev/null ;;
    mode:1) echo "on observe off" ;;
    interleave:[1-9]*) _vmtier_tiers "=" && echo off ;;
    pin:1) _vmtier_tiers ;;
    quota:1) echo "10% 25% 50%" ;;
    qmp:0) _vmtier_names query-commands ;;
    esac
}

_vmtier_options() {
    echo "--socket --timeout --json --help"
    case "$1" in
    top) echo "--once --delay" ;;
    heatmap) echo "--output" ;;
    events) echo "--follow" ;;
    attach) echo "--name --qmp" ;;
    quota) echo "--min --weight" ;;
    pin) echo "--remove" ;;
    detach) echo "--home" ;;
    report) echo "--space --device --age" ;;
    record) echo "--output --seconds" ;;
    replay) echo "--dram --policy --rate --use --skip --window --output" ;;
    capacity) echo "--slow --policy --rate --use" ;;
    perf-read) echo "--limit --counts" ;;
    domxml)
        echo "--remove --define --connect --diff --mode --min --max --weight --granule --required"
        echo "--hugepages --no-agent --plugin --vmm-socket --kubevirt --vmi --domain"
        ;;
    esac
}

_vmtier() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' given=0 i

    COMPREPLY=()
    case "$previous" in
    --socket | --output | -o | --qmp | -q | --plugin | --vmm-socket)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --space)
        mapfile -t COMPREPLY < <(compgen -W "gpa hva hpa dpa" -- "$current")
        return
        ;;
    --use | -u)
        mapfile -t COMPREPLY < <(compgen -W "samples probes recorded" -- "$current")
        return
        ;;
    --mode)
        mapfile -t COMPREPLY < <(compgen -W "on observe off" -- "$current")
        return
        ;;
    --timeout | --delay | -d | --name | -n | --device | -D | --age | -a | --limit | --min | --weight | \
        --seconds | -s | --dram | --policy | -p | --rate | -r | --skip | --window | --slow) return ;;
    --connect | -c | --max | --granule | --vmi | --domain) return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
        --socket | --timeout | --output | -o | --delay | -d | --qmp | -q | --name | -n | --space | \
            --device | -D | --age | -a | --limit | --min | --weight | --seconds | -s | --dram | --policy | \
            -p | --rate | -r | --use | -u | --skip | --window | --slow) ((i++)) ;;
        --connect | -c | --max | --granule | --mode | --plugin | --vmm-socket) ((i++)) ;;
        -*) ;;
        *) if [[ -n $command ]]; then ((given++)); else command=${COMP_WORDS[i]}; fi ;;
        esac
    done
    if [[ $command == perf-read && $current != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    elif [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_vmtier_options "$command")" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$(_vmtier_words "$command" "$given" "$current")" -- "$current")
    fi
}

complete -F _vmtier vmtier
