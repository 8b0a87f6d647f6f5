#!/usr/bin/env bash
# The programs in README.md and at the head of niz.h compile as they stand, and learn.
# usage: readme.sh SOURCE_ROOT LIBRARY CC LINK_FLAGS...   SPDX-License-Identifier: MIT
set -eu
root=$1 library=$2 cc=$3
shift 3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

awk '/^```c$/{on=1;next} /^```$/{if(on) exit} on' "$root/README.md" >"$dir/readme.c"
awk '/^ \*   #include/{on=1} on && /^ \* Build it/{exit} on' "$root/include/niz.h" |
    sed 's/^ \*\( \{1,3\}\)\{0,1\}//' >"$dir/head.c"

for program in readme head; do
    grep -q 'int main' "$dir/$program.c" || { echo "no program found for $program"; exit 1; }
    $cc -std=c11 -Wall -Wextra -I"$root/include" "$dir/$program.c" "$library" "$@" -o "$dir/$program"
    "$dir/$program" | tee "$dir/out"
    # the loss falls to a tenth between the first line and the last
    awk 'NR==1{first=$2} {last=$2} END{exit !(NR>=3 && last < first/10)}' "$dir/out"
done
