#!/usr/bin/env bash
# The same training run by two builds, with 1, 2 and 4 threads and on every instruction set, must
# print the same lines but for times: the weights' hash among them.
# SPDX-License-Identifier: MIT
set -eu
for build in "$@"; do
    for net in fnn cnn rnn; do
        for threads in 1 2 4; do
            for isa in avx512 avx2 sse2; do
                # without FMA hardware fma is a function call a lane: one short run is enough there
                [ $isa != sse2 ] || [ "$net$threads" = fnn1 ] || continue
                out=$(NIZ_ISA=$isa NIZ_THREADS=$threads "$build/examples/digits" --net $net \
                    --epochs 2 --seed 3 | sed 's/\[[0-9.]* s\]//')
                eval "seen=\${reference_$net:-}"
                if [ -z "$seen" ]; then
                    eval "reference_$net=\$out"
                elif [ "$seen" != "$out" ]; then
                    echo "$build --net $net with $threads threads on $isa differs:"
                    diff <(echo "$seen") <(echo "$out") || true
                    exit 1
                fi
            done
        done
    done
done
echo "all the same"
