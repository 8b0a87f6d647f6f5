#!/usr/bin/env bash
# Installs a build into a temporary folder and compiles a program outside the tree against it.
# SPDX-License-Identifier: MIT
set -eu
build=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
DESTDIR=$dir/root meson install -C "$build" --quiet
root=$dir/root$(meson introspect "$build" --buildoptions |
    python3 -c 'import json,sys; print([o["value"] for o in json.load(sys.stdin) if o["name"]=="prefix"][0])')
pc=$(dirname "$(find "$root" -name niz.pc)")
lib=$(dirname "$(find "$root" -name libniz.so)")
cat >"$dir/prog.c" <<'PROG'
#include <niz.h>
int main(void)
{
    niz *z = niz_open(NULL);
    NIZ_STEP(z);
    float x[] = {1, 2, 3};
    double sum = niz_item(niz_sum(niz_square(niz_from(z, NIZ_F32, NIZ_SHAPE(3), x))));
    printf("%g\n", sum);
    return sum != 14;
}
PROG
flags=$(PKG_CONFIG_SYSROOT_DIR=$dir/root PKG_CONFIG_PATH=$pc pkg-config --cflags --libs niz)
# shellcheck disable=SC2086
cc "$dir/prog.c" $flags -o "$dir/prog"
LD_LIBRARY_PATH=$lib "$dir/prog"
ls "$lib"/libniz.a "$lib"/libniz.so.* >/dev/null
