#!/usr/bin/env bash
# The examples run, say what they should, and refuse what they should.
# usage: examples.sh EXAMPLES_DIR   SPDX-License-Identifier: MIT
set -eu
bin=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

refused() { # refused WORDS ARGUMENTS...: exits non-zero with WORDS on standard error
    local words=$1
    shift
    if "$bin/digits" "$@" >"$dir/out" 2>"$dir/err"; then echo "accepted: $*"; exit 1; fi
    grep -qi -- "$words" "$dir/err" || { echo "digits $*: said"; cat "$dir/err"; exit 1; }
}

for net in fnn cnn rnn; do
    "$bin/digits" --net $net --epochs 1 --save-curve "$dir/$net.svg" >"$dir/$net"
    grep -q '^test: .*accuracy' "$dir/$net"
    grep -q '^<svg\|^<?xml' "$dir/$net.svg"
    python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$dir/$net.svg"
done
"$bin/digits" --help >"$dir/help"
refused net --net nothing
refused epochs --epochs -3
refused batch --batch many
refused "cannot be opened" --data "$dir/missing"
refused option --no-such-option
mkdir "$dir/damaged"
for f in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
    printf 'not an IDX file' >"$dir/damaged/$f"
done
refused "train-images" --data "$dir/damaged"
refused "no/such/folder" --epochs 1 --save-curve "$dir/no/such/folder/x.svg"
"$bin/check_gradients" >"$dir/check"
