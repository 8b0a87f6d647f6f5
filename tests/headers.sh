#!/bin/sh
# headers.sh ROOT LIBRARY - what the public headers and the tree's includes promise:
#   each header compiles alone, without a warning, as C11 and C++17, by gcc and clang;
#   so does a program that uses every kind of macro, as a user would;
#   100 nested calls in one expression compile within a second;
#   the shared library exports niz_* and nothing else;
#   includes point one way: core <- graph <- ops <- diff <- passes <- codegen <- exec <- check;
#   nn, data and io see public headers only.
# Compilers that are not installed are left out.
#
# SPDX-License-Identifier: MIT
root=$1
library=$2
strict='-Wall -Wextra -Wpedantic -Wshadow -Werror'
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# Whether a compiler is there and finds its own library.
works() {
    command -v "$1" >/dev/null 2>&1 || return 1
    printf '%s\n' "$3" >"$work/probe.$2"
    "$1" -fsyntax-only "$work/probe.$2" 2>/dev/null
}

c_compilers=
for cc in gcc clang; do works $cc c '#include <stdio.h>' && c_compilers="$c_compilers $cc"; done
cpp_compilers=
for cc in g++ clang++; do works $cc cc '#include <type_traits>' && cpp_compilers="$cpp_compilers $cc"; done
echo "compilers:$c_compilers$cpp_compilers"
[ -n "$c_compilers" ] || fail "no C compiler"

# compiles COMPILER STANDARD FILE WHAT
compiles() {
    "$1" "-std=$2" $strict "-I$root/include" -fsyntax-only "$3" 2>"$work/log" && return
    cat "$work/log"
    fail "$4 by $1 as $2"
}

# ---- each header alone, and twice --------------------------------------------------------------

for header in "$root"/include/niz.h "$root"/include/niz/*.h; do
    name=${header#"$root"/include/}
    printf '#include <%s>\n#include <%s>\n' "$name" "$name" >"$work/alone.c"
    cp "$work/alone.c" "$work/alone.cc"
    for cc in $c_compilers; do compiles "$cc" c11 "$work/alone.c" "$name"; done
    for cc in $cpp_compilers; do compiles "$cc" c++17 "$work/alone.cc" "$name"; done
done

# ---- the macros as a user writes them ------------------------------------------------------------

cat >"$work/use.c" <<'END'
#include <niz.h>

static niz_t net(niz_t x)
{
    niz *z = x.z;
    NIZ_SCOPE(z, "net%d", 1);
    niz_t h = niz_relu(niz_linear(x, 8, "fc1"));
    niz_t w = niz_param(z, "w", NIZ_F32, NIZ_SHAPE(8, 8), niz_normal_init(.std = .02));
    h = niz_add(1, niz_mul(niz_matmul(h, w), 0.5f));
    h = niz_where(niz_gt(h, 0), h, niz_sub(2.0, h));
    return niz_linear(niz_gelu(h, .tanh = true), 2, "fc2", .no_bias = true);
}

int use(niz *z, const float *data);
int use(niz *z, const float *data)
{
    niz_optim sgd = niz_sgd(.lr = .1, .momentum = 0.9), adam = niz_adam();
    for (int i = 0; i < 3; i++) {
        NIZ_STEP(z);
        niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(4, 2), data), w, g;
        niz_t c = niz_conv2d(niz_reshape(x, NIZ_SHAPE(1, 2, 2, 2)), 3, 1, "c", .pad = 1);
        niz_t loss = niz_add(niz_mean(niz_square(net(x)), .axis = -1), niz_sum(c));
        loss = niz_sum(loss, .axes = NIZ_AXES(0));
        w = niz_find(z, "net1.w");
        niz_grad(loss, 1, &w, &g);
        niz_minimize(i ? &sgd : &adam, loss);
        if (i == 1) continue;
        if (NIZ_RUN(z, loss, g) != NIZ_OK) return 1;
        if (niz_item(loss) < 0) break;
        NIZ_FUNCTION(z, NIZ_HERE, "mine");
        niz_assign(w, niz_sub(w, niz_permute(g, NIZ_AXES(1, 0))));
    }
    return niz_error(z) != NIZ_OK;
}
END
for cc in $c_compilers; do compiles "$cc" c11 "$work/use.c" "a program with every macro"; done

# ---- 100 nested calls ----------------------------------------------------------------------------

awk 'BEGIN {
    print "#include <niz.h>\nniz_t deep(niz_t x);\nniz_t deep(niz_t x) { return "
    for (i = 0; i < 100; i++) printf "niz_add("
    printf "x"
    for (i = 0; i < 100; i++) printf ", %s)", i % 2 ? "x" : i ".5"
    print "; }"
}' >"$work/deep.c"
cp "$work/deep.c" "$work/deep.cc"
# Sets spent to the processor time of the commands so far in milliseconds: another program may be
# running.
measure() {
    times >"$work/times"
    spent=$(awk 'NR == 2 { gsub(/[ms]/, " "); print int(1000 * (60 * ($1 + $3) + $2 + $4)) }' \
        "$work/times")
}

for cc in $c_compilers $cpp_compilers; do
    case $cc in *++) file=deep.cc standard=c++17 ;; *) file=deep.c standard=c11 ;; esac
    measure
    start=$spent
    if ! "$cc" -std=$standard $strict "-I$root/include" -c -o "$work/deep.o" "$work/$file" \
        2>"$work/log"; then
        grep -m 1 -o 'error.*' "$work/log"
        fail "100 nested calls by $cc"
        continue
    fi
    measure
    took=$((spent - start))
    echo "100 nested calls by $cc: $took ms"
    [ $took -lt 1000 ] || fail "100 nested calls take $took ms by $cc"
done

# ---- what is exported ----------------------------------------------------------------------------

if [ -n "$library" ]; then
    nm -D --defined-only "$library" | awk '$2 ~ /^[A-Z]$/ {print $3}' | sed 's/@.*//' |
        grep -v '^niz_[a-z]' >"$work/others"
    [ -s "$work/others" ] && fail "exported besides niz_*: $(tr '\n' ' ' <"$work/others")"
    nm -D --defined-only "$library" | grep -q ' T niz_open$' || fail "niz_open is not exported"
    # every declared function is there
    cat "$root"/include/niz/*.h | tr '\n' ' ' | grep -o 'NIZ_API [^;{]*(' | grep -o 'niz_[a-z0-9_]* *(' |
        tr -d ' (' | sort -u >"$work/declared"
    nm -D --defined-only "$library" | awk '{print $3}' | sed 's/@.*//' | sort -u >"$work/defined"
    missing=$(grep '^niz_' "$work/declared" | comm -23 - "$work/defined" | tr '\n' ' ')
    [ -z "$missing" ] || fail "declared but not in the library: $missing"
fi

# ---- includes point one way ------------------------------------------------------------------------

layers='core graph ops diff passes codegen exec check'
allowed=
for layer in $layers; do
    allowed="$allowed $layer"
    for file in "$root/src/$layer"/*.[ch]; do
        for included in $(sed -n 's/^ *# *include "\([a-z_0-9]*\)\/.*/\1/p' "$file" | sort -u); do
            case " $allowed " in
            *" $included "*) ;;
            *) fail "src/$layer/${file##*/} includes src/$included" ;;
            esac
        done
    done
done
for layer in nn data io; do
    for file in "$root/src/$layer"/*.[ch]; do
        for included in $(sed -n 's/^ *# *include "\([a-z_0-9]*\)\/.*/\1/p' "$file" | sort -u); do
            [ "$included" = $layer ] || fail "src/$layer/${file##*/} includes src/$included"
        done
    done
done
# nobody below knows what stands on top
for file in "$root"/src/core/*.[ch] "$root"/src/graph/*.[ch] "$root"/src/ops/*.[ch] \
    "$root"/src/diff/*.[ch] "$root"/src/passes/*.[ch] "$root"/src/exec/*.[ch]; do
    grep -nE '#include <niz/(nn|data|io|check)\.h>|#include <niz\.h>' "$file" /dev/null &&
        fail "${file#"$root"/} includes a header of what stands on it"
done

[ $failures -eq 0 ] && echo "all is well"
exit $((failures > 0))
