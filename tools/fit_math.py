#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fit the polynomials and constants of src/codegen/math.h.

    python3 tools/fit_math.py           print the generated section and each fit's error
    python3 tools/fit_math.py --write   and put it into src/codegen/math.h

Needs mpmath.  Each polynomial P keeps |w(x) * (P(x) - f(x))| small over an interval, w being what
turns P's error into the function's relative error: weighted least squares over Chebyshev nodes,
which is within a fraction of a bit of the best possible.  Coefficients are rounded to the target
format one at a time, lowest power first, and the rest is fitted again after each, so that later
coefficients make up for the rounding of earlier ones.  The error given is measured with the rounded
coefficients.  Arithmetic has 60 digits.
"""
import os
import re
import sys

from mpmath import mp, mpf, matrix, lu_solve, exp, log, sin, cos, tanh, erf, erfc, sqrt, pi
from mpmath import expm1, log1p, atanh, nstr, floor, frexp, ldexp

mp.dps = 60
HEADER = os.path.join(os.path.dirname(__file__), '..', 'src', 'codegen', 'math.h')
BITS = {'f32': 24, 'f64': 53}


def rounded(x, bits):
    """x rounded to the nearest number of so many bits (no fit comes near the exponent range)."""
    x = mpf(x)
    if x == 0:
        return x
    m, e = frexp(x)
    return ldexp(mp.nint(ldexp(m, bits)), e - bits)


def hexfloat(x, dtype):
    """C's hexadecimal notation, exact."""
    m, e = frexp(abs(x))
    digits = 6 if dtype == 'f32' else 13
    frac = int((m * 2 - 1) * mpf(16) ** digits)
    text = ('%0*x' % (digits, frac)).rstrip('0')
    sign = '-' if x < 0 else ''
    return '%s0x1%s%sp%+d%s' % (sign, '.' if text else '', text, e - 1, 'f' * (dtype == 'f32'))


def least_squares(f, w, lo, hi, powers):
    """Coefficients for the powers by weighted least squares over Chebyshev nodes."""
    n, count = len(powers), 8 * len(powers) + 40
    a, b = matrix(n, n), matrix(n, 1)
    for i in range(count):
        x = (lo + hi) / 2 + (hi - lo) / 2 * cos(pi * (i + mpf('0.5')) / count)
        wx, fx = w(x) ** 2, f(x)
        for j, p in enumerate(powers):
            b[j] += wx * x ** p * fx
            for k, q in enumerate(powers):
                a[j, k] += wx * x ** (p + q)
    return list(lu_solve(a, b))


def fit(f, w, lo, hi, powers, bits):
    """Fit, round the lowest coefficient, fit the rest again, and so on."""
    done, powers = [], list(powers)

    def rest(x):
        return f(x) - sum(c * x ** p for c, p in done)

    while powers:
        c = least_squares(rest, w, lo, hi, powers)
        done.append((rounded(c[0], bits), powers.pop(0)))
    table = [lo + (hi - lo) * (i + mpf(1) / 3) / 1000 for i in range(1000)]
    worst = max(abs(w(x) * rest(x)) for x in table)
    return [c for c, _ in done], worst


def series(f, x, terms, at=mpf('1e-3')):
    """f(x), or its Taylor polynomial near 0, where the formula would cancel."""
    return f(x) if abs(x) > at else sum(t * x ** i for i, t in enumerate(terms))


LN2 = log(2)
HALF = LN2 / 2 * mpf('1.001')
FACT = [mp.factorial(i) for i in range(40)]


def exp_q(r):        # exp(r) = 1 + r + r^2 Q(r)
    return series(lambda t: (exp(t) - 1 - t) / t ** 2, r, [1 / FACT[i + 2] for i in range(25)])


def log_p(f):        # log1p(f) = f - f^2/2 + f^3 P(f)
    return series(lambda t: (log1p(t) - t + t * t / 2) / t ** 3, f,
                  [mpf((-1) ** i) / (i + 3) for i in range(25)])


def log_r(z):        # log((1+s)/(1-s)) = 2s + s z R(z), z = s^2
    return series(lambda t: (2 * atanh(sqrt(t)) / sqrt(t) - 2) / t, z,
                  [mpf(2) / (2 * i + 3) for i in range(25)])


def pow_r(z):        # log((1+s)/(1-s)) = 2s + s z (2/3 + z R(z))
    return series(lambda t: (2 * atanh(sqrt(t)) / sqrt(t) - 2 - 2 * t / 3) / t ** 2, z,
                  [mpf(2) / (2 * i + 5) for i in range(25)])


def sin_s(z):        # sin(r) = r + r z S(z), z = r^2
    return series(lambda t: (sin(sqrt(t)) / sqrt(t) - 1) / t, z,
                  [(-1) ** (i + 1) / FACT[2 * i + 3] for i in range(15)])


def cos_c(z):        # cos(r) = 1 - z/2 + z^2 C(z)
    return series(lambda t: (cos(sqrt(t)) - 1 + t / 2) / t ** 2, z,
                  [(-1) ** i / FACT[2 * i + 4] for i in range(15)])


TANH = mp.taylor(tanh, 0, 41)[1::2]
ERF = [2 / sqrt(pi) * (-1) ** i / FACT[i] / (2 * i + 1) for i in range(20)]


def tanh_t(z):       # tanh(x) = x + x z T(z), z = x^2
    return series(lambda t: (tanh(sqrt(t)) / sqrt(t) - 1) / t, z, TANH[1:], mpf('1e-2'))


def erf_e(z):        # erf(x) = x + x E(z), z = x^2
    return series(lambda t: erf(sqrt(t)) / sqrt(t) - 1, z, [ERF[0] - 1] + ERF[1:])


def erf_l(x):        # erf(x) = 1 - exp(L(x)), x > 0
    return log(erfc(x))


def erfc_g(t):       # erfc(x) = exp(-x^2) G(t) / (1 + 2x), t = (x - 4)/(x + 4)
    x = 4 * (1 + t) / (1 - t)
    return exp(x * x) * erfc(x) * (1 + 2 * x)


def erfc_h(t):       # G(t) = G(0) + t H(t), G(0) being kept as a sum of two
    return (erfc_g(t) - erfc_g(mpf(0))) / t


def fits():
    """(name, dtype, f, w, lo, hi, powers, what the comment says)."""
    a, b = sqrt(mpf(1) / 2) - 1, sqrt(mpf(2)) - 1
    zmax = (b / (2 + b)) ** 2 * mpf('1.001')
    quarter = (pi / 4 * mpf('1.01')) ** 2
    tiny = mpf('1e-30')

    def w_exp(r):
        return abs(r) if abs(r) < tiny else abs(r * r / expm1(r))

    def w_log(f):
        return f * f if abs(f) < tiny else f ** 3 / log1p(f)

    def w_half(z):
        return z / 2

    def w_sin(z):
        return z if z < tiny else z * sqrt(z) / sin(sqrt(z))

    def w_cos(z):
        return z * z / cos(sqrt(z))

    def w_tanh(z):
        return z if z < tiny else z * sqrt(z) / tanh(sqrt(z))

    def w_erf(z):
        return 1 / ERF[0] if z < tiny else sqrt(z) / erf(sqrt(z))

    both = lambda n: range(n)
    yield ('exp', 'f32', exp_q, w_exp, -HALF, HALF, both(6), 'exp(r) = 1 + r + r^2 Q(r)')
    yield ('exp', 'f64', exp_q, w_exp, -HALF, HALF, both(11), 'exp(r) = 1 + r + r^2 Q(r)')
    yield ('log', 'f32', log_p, w_log, a, b, both(9), 'log(1+f) = f - f^2/2 + f^3 P(f)')
    yield ('log', 'f64', log_r, w_half, mpf(0), zmax, both(7),
           'log((1+s)/(1-s)) = 2s + s z R(z), z = s^2')
    yield ('pow', 'f64', pow_r, lambda z: z * z / 2, mpf(0), zmax, both(8),
           'log((1+s)/(1-s)) = 2s + s z (2/3 + z R(z)), z = s^2')
    yield ('powf_log', 'f64', log_r, w_half, mpf(0), zmax, both(4),
           'as log, to the precision that pow of floats needs')
    yield ('powf_exp', 'f64', exp_q, w_exp, -HALF, HALF, both(6),
           'as exp, to the precision that pow of floats needs')
    yield ('sin', 'f32', sin_s, w_sin, mpf(0), quarter, both(3), 'sin(r) = r + r z S(z), z = r^2')
    yield ('sin', 'f64', sin_s, w_sin, mpf(0), quarter, both(6), 'sin(r) = r + r z S(z), z = r^2')
    yield ('cos', 'f32', cos_c, w_cos, mpf(0), quarter, both(3), 'cos(r) = 1 - z/2 + z^2 C(z)')
    yield ('cos', 'f64', cos_c, w_cos, mpf(0), quarter, both(6), 'cos(r) = 1 - z/2 + z^2 C(z)')
    t = mpf('0.5625') ** 2
    yield ('tanh', 'f32', tanh_t, w_tanh, mpf(0), t, both(5), 'tanh(x) = x + x z T(z), z = x^2')
    yield ('tanh', 'f64', tanh_t, w_tanh, mpf(0), t, both(11), 'tanh(x) = x + x z T(z), z = x^2')
    yield ('erf', 'f32', erf_e, w_erf, mpf(0), mpf('0.9') ** 2, both(7),
           'erf(x) = x + x E(z), z = x^2')
    yield ('erf', 'f64', erf_e, w_erf, mpf(0), mpf(1), both(13), 'erf(x) = x + x E(z), z = x^2')
    yield ('erf_log', 'f32', erf_l, lambda x: erfc(x) / erf(x), mpf('0.9'), mpf('3.9375'), both(8),
           'erf(x) = 1 - exp(L(x))')
    lo, hi = (mpf('0.5') - 4) / mpf('4.5'), (mpf(28) - 4) / mpf(32)
    yield ('erfc', 'f64', erfc_h, lambda t: abs(t) / erfc_g(t), lo, hi, both(21),
           'erfc(x) = exp(-x^2) (G(0) + t H(t)) / (1 + 2x), t = (x-4)/(x+4)')


def polynomial(name, dtype, text, c, worst):
    """One C function, Horner's scheme."""
    vec = {'f32': 'niz_vf', 'f64': 'niz_vd'}[dtype]
    out = ['/* %s; error 2^%s. */' % (text, nstr(log(worst) / LN2, 4)),
           'NIZ_VEC %s niz_poly_%s_%s(%s x)' % (vec, name, dtype, vec), '{']
    out.append('    %s p = niz_splat_%s(%s);' % (vec, dtype, hexfloat(c[-1], dtype)))
    out.append('')
    for k in reversed(c[:-1]):
        out.append('    p = niz_step_%s(p, x, %s);' % (dtype, hexfloat(k, dtype)))
    return out + ['    return p;', '}', '']


def parts(x, sizes):
    """x as a sum of numbers of so many bits each."""
    out = []
    for bits in sizes:
        out.append(rounded(x, bits))
        x -= out[-1]
    return out


def constants():
    """The #defines: splits of ln 2, pi/2 and friends."""
    def define(name, x, dtype):
        return '#define NIZ_%s_%s %s' % (name, dtype.upper(), hexfloat(x, dtype))

    out = ['/* n * LN2_HI is exact for every exponent n; HALF_PI in three parts. */']
    for dtype, short in (('f32', 15), ('f64', 41)):
        bits = BITS[dtype]
        hi, lo = parts(LN2, (short, bits))
        out += [define('LN2_HI', hi, dtype), define('LN2_LO', lo, dtype),
                define('LOG2E', rounded(1 / LN2, bits), dtype),
                define('TWO_OVER_PI', rounded(2 / pi, bits), dtype)]
        for i, x in enumerate(parts(pi / 2, (bits,) * 3)):
            out.append(define('HALF_PI_%d' % (i + 1), x, dtype))
    hi, lo = parts(mpf(2) / 3, (53, 53))
    out += [define('TWO_THIRDS_HI', hi, 'f64'), define('TWO_THIRDS_LO', lo, 'f64')]
    hi, lo = parts(erfc_g(mpf(0)), (53, 53))
    out += [define('ERFC_HI', hi, 'f64'), define('ERFC_LO', lo, 'f64')]
    return out + ['']


def two_over_pi_words(n=21):
    """A word of zero and then the binary digits of 2/pi, the most significant first."""
    mp.dps = 500
    digits = int(floor(2 / pi * mpf(2) ** (64 * (n - 1))))
    mp.dps = 60
    words = [0] + [(digits >> (64 * (n - 2 - i))) & (2 ** 64 - 1) for i in range(n - 1)]
    out = ['/* 64 zero bits and then the binary digits of 2/pi. */',
           'static const __UINT64_TYPE__ niz_two_over_pi[%d] __attribute__((unused)) = {' % n]
    for i in range(0, n, 4):
        out.append('    ' + ' '.join('0x%016x,' % w for w in words[i:i + 4]))
    return out + ['};', '']


def section():
    out = constants() + two_over_pi_words()
    for name, dtype, f, w, lo, hi, powers, text in fits():
        c, worst = fit(f, w, lo, hi, powers, BITS[dtype])
        print('%-9s %s  %2d coefficients  error 2^%s' % (
            name, dtype, len(c), nstr(log(worst) / LN2, 4)), file=sys.stderr)
        out += polynomial(name, dtype, text, c, worst)
    return '\n'.join(out)


def main():
    text = section()
    if '--write' not in sys.argv:
        print(text)
        return
    with open(HEADER) as f:
        old = f.read()
    mark = re.compile(r'(/\* fit_math.py: begin \*/\n).*(/\* fit_math.py: end \*/\n)', re.S)
    with open(HEADER, 'w') as f:
        f.write(mark.sub(lambda m: m.group(1) + '\n' + text + m.group(2), old))


if __name__ == '__main__':
    main()
