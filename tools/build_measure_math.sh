#!/bin/sh
# SPDX-License-Identifier: MIT
# Build tools/measure_math.c:  tools/build_measure_math.sh [CC] [OUTPUT] [LEVEL]
# The functions are compiled with -O2, as kernels are, or with another LEVEL to compare bits.
set -eu
cc=${1:-cc}
out=${2:-/tmp/measure_math}
level=${3:--O2}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kernel="-std=gnu11 $level -ffp-contract=off -fno-math-errno -fno-trapping-math -fwrapv
        -fno-strict-aliasing -Wall -Wextra"

isa() { # bytes, flags
    bytes=$1
    shift
    # shellcheck disable=SC2086
    "$cc" $kernel "-DNIZ_VECTOR_BYTES=$bytes" "$@" -c "$root/tests/math_isa.c" -o "$work/$bytes.o"
}

isa 16 -march=x86-64
isa 32 -march=x86-64-v3
isa 64 -march=x86-64-v4 -mprefer-vector-width=512
"$cc" -std=gnu11 -O2 -Wall -Wextra "$root/tools/measure_math.c" "$work"/*.o -o "$out" \
    -lmpfr -lgmp -lm
