#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Text: a licence in the first line, no path of somebody's machine, no blanks at a line's end, no
# tabs in C, no line above 120 characters.
set -u
. tests/lint/common

sources() {
    files \( -name '*.[chS]' -o -name '*.sh' -o -name '*.mk' -o -name Makefile -o -name '*.[1-9]' \
        -o -name '*.service' -o -name '*.conf' -o -name run-tests -o -path './.ci/*' \
        -o -path './tests/lint/*' -o -path './completion/*' -o -name '.clang-*' \)
}

# The second line where the first is #!.
has_licence() {
    sources | while read -r file; do
        head -n 2 "$file" | sed '1{/^#!/d};q' | grep -q 'SPDX-License-Identifier: GPL-2.0-or-later' ||
            { head -n 1 "$file" | grep -q '^#!' && sed -n 2p "$file" | grep -q 'SPDX-License-Identifier: GPL-2.0-or-later'; } ||
            echo "$file: the first line has to be SPDX-License-Identifier: GPL-2.0-or-later"
    done
}

# The brackets keep the patterns from matching themselves.
has_machine_path() {
    files -size -200k ! -path './tests/fuzz/corpus/*' ! -name COPYING | tr '\n' '\0' |
        xargs -0 grep -nIP '(^|[\s=:(<`]|(?<![\w}])["\x27])/(wor[k]|hom[e]|roo[t])/\w|/tmp/vmtie[r]/' |
        sed 's/$/: a path of one machine/'
}

has_bad_blanks() {
    sources | tr '\n' '\0' | xargs -0 grep -nE '[[:blank:]]+$' | sed 's/$/: blanks at the end/'
    # Assembler keeps its columns with tabs.
    files -name '*.[ch]' | tr '\n' '\0' | xargs -0 grep -nP '\t' | sed 's/$/: a tab/'
    files -name '*.[ch]' | tr '\n' '\0' | xargs -0 grep -nE '^.{121,}' | sed 's/$/: a long line/'
}

run() {
    local complaints

    complaints=$(has_licence; has_machine_path; has_bad_blanks)
    [ -z "$complaints" ] || { echo "$complaints" && false; }
}

check "text: $(sources | wc -l) files" run
