# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bash completion of vmtier(1). Names of VMs and of QMP commands are asked of the daemon, which gets a
# second to answer; without one, nothing is offered.

# What the daemon says to a query, as the values of its "name" members.
_vmtier_names() {
    vmtier --timeout 1 qmp "$1" 2>/dev/null | sed -n 's/^    "name" : "\([A-Za-z0-9._:@+-]*\)",\{0,1\}$/\1/p'
}

# The words that may follow: $1 is the subcommand, $2 how many arguments it has already.
_vmtier_words() {
    case "$1:$2" in
    :*) echo "status top quota mode rate heatmap events sources attach detach report perf-read qmp version" ;;
    status:0 | quota:0 | mode:0 | rate:0 | heatmap:0 | sources:0 | detach:0 | report:0) _vmtier_names query-vmtier-vms ;;
    attach:0) pgrep -f '^[^ ]*(qemu-system-|qemu-kvm|/kvm )' ;;
    mode:1) echo "on observe off" ;;
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
    detach) echo "--home" ;;
    report) echo "--space --device --age" ;;
    perf-read) echo "--limit --counts" ;;
    esac
}

_vmtier() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' given=0 i

    COMPREPLY=()
    case "$previous" in
    --socket | --output | -o | --qmp | -q)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --space | -s)
        mapfile -t COMPREPLY < <(compgen -W "gpa hva hpa dpa" -- "$current")
        return
        ;;
    --timeout | --delay | -d | --name | -n | --device | -D | --age | -a | --limit | --min | --weight) return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
        --socket | --timeout | --output | -o | --delay | -d | --qmp | -q | --name | -n | --space | -s | \
            --device | -D | --age | -a | --limit | --min | --weight) ((i++)) ;;
        -*) ;;
        *) if [[ -n $command ]]; then ((given++)); else command=${COMP_WORDS[i]}; fi ;;
        esac
    done
    if [[ $command == perf-read && $current != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    elif [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_vmtier_options "$command")" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$(_vmtier_words "$command" "$given")" -- "$current")
    fi
}

complete -F _vmtier vmtier
