# SPDX-License-Identifier: GPL-2.0-or-later
#
# Bash completion of vmtier-agent(8).

_vmtier_agent() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words='' word

    COMPREPLY=()
    case "$previous" in
    --config | --port | --control | --cgroup)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --pid) words=$(ps -A -o pid= 2>/dev/null) ;;
    --comm) words=$(ps -A -o comm= 2>/dev/null) ;;
    --user) words=$(compgen -u) ;;
    --range | --for) return ;;
    *)
        words='--config --port --control --user --help --version hint status'
        for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
            [[ $word == hint ]] && words='--pid --comm --cgroup --range --for hot cold free pin none'
            [[ $word == status ]] && words=''
        done
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _vmtier_agent vmtier-agent
