#!/usr/bin/env bash
# The same training run by several builds, with 1, 2 and 4 threads, on every instruction set,
# interpreted and compiled, must print the same lines but for times: the weights' hash among them.
# SPDX-License-Identifier: MIT
set -eu
declare -A reference
absent=0

# An instruction set that the machine lacks would be another one under its name.
has() { # has ISA
    case $1 in
    avx512) grep -qm1 avx512vl /proc/cpuinfo ;;
    avx2) grep -qm1 avx2 /proc/cpuinfo ;;
    esac
}

compare() { # compare BUILD NET THREADS ISA JIT
    local out
    has "$4" || { absent=$((absent + 1)); return; }
    out=$(NIZ_THREADS=$3 NIZ_ISA=$4 NIZ_JIT=$5 "$1/examples/digits" --net "$2" --epochs 2 --seed 3 |
        sed 's/\[[0-9.]* s\]//')
    if [ -z "${reference[$2]:-}" ]; then
        reference[$2]=$out
    elif [ "${reference[$2]}" != "$out" ]; then
        echo "$1 --net $2 with $3 threads on $4, NIZ_JIT=$5, differs:"
        diff <(echo "${reference[$2]}") <(echo "$out") || true
        exit 1
    fi
}

for build in "$@"; do
    for net in fnn cnn rnn; do
        for threads in 1 2 4; do
            for isa in avx512 avx2; do compare "$build" $net $threads $isa off; done
        done
        for isa in avx512 avx2; do compare "$build" $net 2 $isa sync; done
    done
    # without FMA hardware fma is a function call a lane: one short run is enough there
    compare "$build" fnn 1 sse2 off
done
echo "all the same; $absent runs could not be made on this machine"
