#!/bin/sh
# SPDX-License-Identifier: MIT
# Do all builds of src/codegen/math.h give the same bits?  Every compiler, level and instruction
# set at hand is run over the same inputs; each line printed is one build's digest of all results.
#
#     tools/compare_math.sh [STRIDE] [COUNT]
#
# STRIDE: every how many of the 2^32 floats (default 4001); COUNT: doubles a function (200000).
# Fails if two digests differ.
set -eu
stride=${1:-4001}
count=${2:-200000}
root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for cc in gcc clang; do
    command -v "$cc" >/dev/null || continue
    for level in -O0 -O1 -O2 -O3; do
        "$root/tools/build_measure_math.sh" "$cc" "$dir/measure" "$level"
        for bytes in 16 32 64; do
            "$dir/measure" hash -i "$bytes" -s "$stride" -n "$count" >"$dir/hash" 2>/dev/null ||
                { echo "$cc $level $bytes: not run, this CPU cannot"; continue; }
            digest=$(md5sum <"$dir/hash" | cut -d' ' -f1)
            echo "$cc $level $bytes: $digest"
            echo "$digest" >>"$dir/all"
        done
    done
done
builds=$(wc -l <"$dir/all")
kinds=$(sort -u "$dir/all" | wc -l)
echo "$builds builds, $kinds different results"
test "$kinds" -eq 1
