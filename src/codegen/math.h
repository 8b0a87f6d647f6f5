/* SPDX-License-Identifier: 0BSD */
/*
 * math.h - exp, expm1, log, log1p, sin, cos, tanh, erf, erfc and pow on vectors.
 *
 * One text for the interpreter and for the kernels that libniz writes; it includes nothing and
 * needs vector.h ahead of it.  Every function y = f(x) is a fixed sequence of operations that
 * round once each, so its bits are the same at every vector width and with every compiler, NaN
 * payloads aside, and a lane's result never depends on the other lanes.  docs/math.md has the
 * measured errors.
 *
 * Each function reduces its argument to a small interval, evaluates a short polynomial there by
 * Horner's scheme in fused multiply-adds, and puts the result back together so that the last
 * addition is the only rounding that matters: what comes before it is small beside the result, or
 * carried as an unevaluated sum hi + lo.  The polynomials are our own fits: tools/fit_math.py
 * writes the section marked below.
 *
 * Edges are those of C99 Annex F.  Selections replace branches; the one branch is for sines of
 * huge arguments.
 */
#ifndef NIZ_CODEGEN_MATH_H
#define NIZ_CODEGEN_MATH_H

/* fit_math.py: begin */

/* n * LN2_HI is exact for every exponent n; HALF_PI in three parts. */
#define NIZ_LN2_HI_F32 0x1.62e4p-1f
#define NIZ_LN2_LO_F32 0x1.7f7d1cp-20f
#define NIZ_LOG2E_F32 0x1.715476p+0f
#define NIZ_TWO_OVER_PI_F32 0x1.45f306p-1f
#define NIZ_HALF_PI_1_F32 0x1.921fb6p+0f
#define NIZ_HALF_PI_2_F32 -0x1.777a5cp-25f
#define NIZ_HALF_PI_3_F32 -0x1.ee59dap-50f
#define NIZ_LN2_HI_F64 0x1.62e42fefa4p-1
#define NIZ_LN2_LO_F64 -0x1.8432a1b0e2634p-43
#define NIZ_LOG2E_F64 0x1.71547652b82fep+0
#define NIZ_TWO_OVER_PI_F64 0x1.45f306dc9c883p-1
#define NIZ_HALF_PI_1_F64 0x1.921fb54442d18p+0
#define NIZ_HALF_PI_2_F64 0x1.1a62633145c07p-54
#define NIZ_HALF_PI_3_F64 -0x1.f1976b7ed8fbcp-110
#define NIZ_TWO_THIRDS_HI_F64 0x1.5555555555555p-1
#define NIZ_TWO_THIRDS_LO_F64 0x1.5555555555555p-55
#define NIZ_ERFC_HI_F64 0x1.3ba5916e9fd7fp+0
#define NIZ_ERFC_LO_F64 -0x1.aa9c415679e6fp-55

/* 64 zero bits and then the binary digits of 2/pi. */
static const __UINT64_TYPE__ niz_two_over_pi[21] __attribute__((unused)) = {
    0x0000000000000000, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041,
    0xfe5163abdebbc561, 0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e,
    0xe88235f52ebb4484, 0xe99c7026b45f7e41, 0x3991d639835339f4, 0x9c845f8bbdf9283b,
    0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7, 0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab,
    0xf0cfbc209af4361d,
};

/* exp(r) = 1 + r + r^2 Q(r); error 2^-30.98. */
NIZ_VEC niz_vf niz_poly_exp_f32(niz_vf x)
{
    niz_vf p = niz_splat_f32(0x1.9e0812p-13f);

    p = niz_step_f32(p, x, 0x1.6d4388p-10f);
    p = niz_step_f32(p, x, 0x1.111308p-7f);
    p = niz_step_f32(p, x, 0x1.5554fp-5f);
    p = niz_step_f32(p, x, 0x1.555554p-3f);
    p = niz_step_f32(p, x, 0x1p-1f);
    return p;
}

/* exp(r) = 1 + r + r^2 Q(r); error 2^-61.51. */
NIZ_VEC niz_vd niz_poly_exp_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(0x1.1f107d14a1626p-29);

    p = niz_step_f64(p, x, 0x1.af5f5e1bfc32ap-26);
    p = niz_step_f64(p, x, 0x1.27e51969ca95fp-22);
    p = niz_step_f64(p, x, 0x1.71ddf7f822582p-19);
    p = niz_step_f64(p, x, 0x1.a01a018b482d1p-16);
    p = niz_step_f64(p, x, 0x1.a01a01b00a52p-13);
    p = niz_step_f64(p, x, 0x1.6c16c16c1b327p-10);
    p = niz_step_f64(p, x, 0x1.111111110f64bp-7);
    p = niz_step_f64(p, x, 0x1.555555555554cp-5);
    p = niz_step_f64(p, x, 0x1.5555555555559p-3);
    p = niz_step_f64(p, x, 0x1p-1);
    return p;
}

/* log(1+f) = f - f^2/2 + f^3 P(f); error 2^-30.06. */
NIZ_VEC niz_vf niz_poly_log_f32(niz_vf x)
{
    niz_vf p = niz_splat_f32(0x1.11c874p-4f);

    p = niz_step_f32(p, x, -0x1.dd651p-4f);
    p = niz_step_f32(p, x, 0x1.e7a54ep-4f);
    p = niz_step_f32(p, x, -0x1.fc4dap-4f);
    p = niz_step_f32(p, x, 0x1.232cfap-3f);
    p = niz_step_f32(p, x, -0x1.555ae4p-3f);
    p = niz_step_f32(p, x, 0x1.99a546p-3f);
    p = niz_step_f32(p, x, -0x1.00000ap-2f);
    p = niz_step_f32(p, x, 0x1.555546p-2f);
    return p;
}

/* log((1+s)/(1-s)) = 2s + s z R(z), z = s^2; error 2^-59.41. */
NIZ_VEC niz_vd niz_poly_log_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(0x1.2f17efa94bb3cp-3);

    p = niz_step_f64(p, x, 0x1.399fd376aebe3p-3);
    p = niz_step_f64(p, x, 0x1.746652b1500b2p-3);
    p = niz_step_f64(p, x, 0x1.c71c51a26870dp-3);
    p = niz_step_f64(p, x, 0x1.249249427c47dp-2);
    p = niz_step_f64(p, x, 0x1.999999997f26cp-2);
    p = niz_step_f64(p, x, 0x1.5555555555595p-1);
    return p;
}

/* log((1+s)/(1-s)) = 2s + s z (2/3 + z R(z)), z = s^2; error 2^-73.24. */
NIZ_VEC niz_vd niz_poly_pow_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(0x1.eb7e3f7d17bbdp-4);

    p = niz_step_f64(p, x, 0x1.de25389d2da68p-4);
    p = niz_step_f64(p, x, 0x1.112117e6e98e1p-3);
    p = niz_step_f64(p, x, 0x1.3b135fe084404p-3);
    p = niz_step_f64(p, x, 0x1.745d183e4e87ap-3);
    p = niz_step_f64(p, x, 0x1.c71c71c563a8ep-3);
    p = niz_step_f64(p, x, 0x1.2492492493153p-2);
    p = niz_step_f64(p, x, 0x1.9999999999995p-2);
    return p;
}

/* as log, to the precision that pow of floats needs; error 2^-37.55. */
NIZ_VEC niz_vd niz_poly_powf_log_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(0x1.e30ee352238fep-3);

    p = niz_step_f64(p, x, 0x1.243821ae142f7p-2);
    p = niz_step_f64(p, x, 0x1.999a7dd604ebap-2);
    p = niz_step_f64(p, x, 0x1.555554fb4b97ap-1);
    return p;
}

/* as exp, to the precision that pow of floats needs; error 2^-31.87. */
NIZ_VEC niz_vd niz_poly_powf_exp_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(0x1.a05185f02b861p-13);

    p = niz_step_f64(p, x, 0x1.6d7507d1b4b87p-10);
    p = niz_step_f64(p, x, 0x1.111172984cc73p-7);
    p = niz_step_f64(p, x, 0x1.5554ad3f05eb2p-5);
    p = niz_step_f64(p, x, 0x1.555554ffbc4bp-3);
    p = niz_step_f64(p, x, 0x1.000000283772fp-1);
    return p;
}

/* sin(r) = r + r z S(z), z = r^2; error 2^-27.84. */
NIZ_VEC niz_vf niz_poly_sin_f32(niz_vf x)
{
    niz_vf p = niz_splat_f32(-0x1.991e08p-13f);

    p = niz_step_f32(p, x, 0x1.1106cap-7f);
    p = niz_step_f32(p, x, -0x1.555544p-3f);
    return p;
}

/* sin(r) = r + r z S(z), z = r^2; error 2^-57.63. */
NIZ_VEC niz_vd niz_poly_sin_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(0x1.5d7ad448eb8c3p-33);

    p = niz_step_f64(p, x, -0x1.ae5e121d70cfcp-26);
    p = niz_step_f64(p, x, 0x1.71de350ad8822p-19);
    p = niz_step_f64(p, x, -0x1.a01a019b9163bp-13);
    p = niz_step_f64(p, x, 0x1.111111110f454p-7);
    p = niz_step_f64(p, x, -0x1.5555555555546p-3);
    return p;
}

/* cos(r) = 1 - z/2 + z^2 C(z); error 2^-32.54. */
NIZ_VEC niz_vf niz_poly_cos_f32(niz_vf x)
{
    niz_vf p = niz_splat_f32(0x1.99a138p-16f);

    p = niz_step_f32(p, x, -0x1.6c0b16p-10f);
    p = niz_step_f32(p, x, 0x1.555548p-5f);
    return p;
}

/* cos(r) = 1 - z/2 + z^2 C(z); error 2^-63.66. */
NIZ_VEC niz_vd niz_poly_cos_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(-0x1.8f8df1ac649f4p-37);

    p = niz_step_f64(p, x, 0x1.1ee9abf8191b5p-29);
    p = niz_step_f64(p, x, -0x1.27e4f7aa54633p-22);
    p = niz_step_f64(p, x, 0x1.a01a019c2ab16p-16);
    p = niz_step_f64(p, x, -0x1.6c16c16c14bf2p-10);
    p = niz_step_f64(p, x, 0x1.5555555555549p-5);
    return p;
}

/* tanh(x) = x + x z T(z), z = x^2; error 2^-29.43. */
NIZ_VEC niz_vf niz_poly_tanh_f32(niz_vf x)
{
    niz_vf p = niz_splat_f32(-0x1.94a5bap-8f);

    p = niz_step_f32(p, x, 0x1.581e06p-6f);
    p = niz_step_f32(p, x, -0x1.b906e2p-5f);
    p = niz_step_f32(p, x, 0x1.110c62p-3f);
    p = niz_step_f32(p, x, -0x1.555548p-2f);
    return p;
}

/* tanh(x) = x + x z T(z), z = x^2; error 2^-59.8. */
NIZ_VEC niz_vd niz_poly_tanh_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(-0x1.3cd4e90c7b026p-16);

    p = niz_step_f64(p, x, 0x1.594e385ff96a7p-14);
    p = niz_step_f64(p, x, -0x1.e7fcf7b74986bp-13);
    p = niz_step_f64(p, x, 0x1.345f3a4251efcp-11);
    p = niz_step_f64(p, x, -0x1.7d8b650886c3p-10);
    p = niz_step_f64(p, x, 0x1.d6d243717f239p-9);
    p = niz_step_f64(p, x, -0x1.226e2ce5a6c96p-7);
    p = niz_step_f64(p, x, 0x1.664f48485e724p-6);
    p = niz_step_f64(p, x, -0x1.ba1ba1b9310d2p-5);
    p = niz_step_f64(p, x, 0x1.1111111110255p-3);
    p = niz_step_f64(p, x, -0x1.555555555554bp-2);
    return p;
}

/* erf(x) = x + x E(z), z = x^2; error 2^-30.14. */
NIZ_VEC niz_vf niz_poly_erf_f32(niz_vf x)
{
    niz_vf p = niz_splat_f32(0x1.5fff4cp-14f);

    p = niz_step_f32(p, x, -0x1.aafd0ap-11f);
    p = niz_step_f32(p, x, 0x1.54d5a2p-8f);
    p = niz_step_f32(p, x, -0x1.b80ee8p-6f);
    p = niz_step_f32(p, x, 0x1.ce2dfap-4f);
    p = niz_step_f32(p, x, -0x1.812742p-2f);
    p = niz_step_f32(p, x, 0x1.06eba8p-3f);
    return p;
}

/* erf(x) = x + x E(z), z = x^2; error 2^-56.38. */
NIZ_VEC niz_vd niz_poly_erf_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(0x1.2600810671331p-34);

    p = niz_step_f64(p, x, -0x1.453261200b184p-30);
    p = niz_step_f64(p, x, 0x1.fc0fdaf91b897p-27);
    p = niz_step_f64(p, x, -0x1.5f8e89288ca2ap-23);
    p = niz_step_f64(p, x, 0x1.b9ed791a90f17p-20);
    p = niz_step_f64(p, x, -0x1.f4d31e13b86f4p-17);
    p = niz_step_f64(p, x, 0x1.f9a334289efeap-14);
    p = niz_step_f64(p, x, -0x1.c02db49267ac7p-11);
    p = niz_step_f64(p, x, 0x1.565bcd126eb03p-8);
    p = niz_step_f64(p, x, -0x1.b82ce312ab114p-6);
    p = niz_step_f64(p, x, 0x1.ce2f21a04361p-4);
    p = niz_step_f64(p, x, -0x1.812746b0379fdp-2);
    p = niz_step_f64(p, x, 0x1.06eba8214db69p-3);
    return p;
}

/* erf(x) = 1 - exp(L(x)); error 2^-33.58. */
NIZ_VEC niz_vf niz_poly_erf_log_f32(niz_vf x)
{
    niz_vf p = niz_splat_f32(-0x1.6232c6p-16f);

    p = niz_step_f32(p, x, 0x1.c79cep-12f);
    p = niz_step_f32(p, x, -0x1.11525cp-8f);
    p = niz_step_f32(p, x, 0x1.9b814p-6f);
    p = niz_step_f32(p, x, -0x1.bb7be8p-4f);
    p = niz_step_f32(p, x, -0x1.444744p-1f);
    p = niz_step_f32(p, x, -0x1.212784p+0f);
    p = niz_step_f32(p, x, 0x1.6b6348p-13f);
    return p;
}

/* erfc(x) = exp(-x^2) (G(0) + t H(t)) / (1 + 2x), t = (x-4)/(x+4); error 2^-58.34. */
NIZ_VEC niz_vd niz_poly_erfc_f64(niz_vd x)
{
    niz_vd p = niz_splat_f64(-0x1.5ec86ce67f672p-27);

    p = niz_step_f64(p, x, -0x1.a2890c8487521p-27);
    p = niz_step_f64(p, x, 0x1.c25d7531c4a95p-24);
    p = niz_step_f64(p, x, 0x1.1f64d2829415fp-24);
    p = niz_step_f64(p, x, -0x1.b906c874019fp-21);
    p = niz_step_f64(p, x, 0x1.41c5fc7b16b37p-22);
    p = niz_step_f64(p, x, 0x1.7f0bf2769ee72p-18);
    p = niz_step_f64(p, x, -0x1.78a446f298b5ep-17);
    p = niz_step_f64(p, x, -0x1.995744240caefp-16);
    p = niz_step_f64(p, x, 0x1.3be0d8e026d73p-13);
    p = niz_step_f64(p, x, -0x1.a1df30b56fc65p-13);
    p = niz_step_f64(p, x, -0x1.8d4aa18bcbc94p-11);
    p = niz_step_f64(p, x, 0x1.49c6729005258p-8);
    p = niz_step_f64(p, x, -0x1.0962387da63dfp-6);
    p = niz_step_f64(p, x, 0x1.3079edf66dffdp-5);
    p = niz_step_f64(p, x, -0x1.0fb06dfe6a701p-4);
    p = niz_step_f64(p, x, 0x1.7fee004e12bcbp-4);
    p = niz_step_f64(p, x, -0x1.9ddb23c3e7e74p-4);
    p = niz_step_f64(p, x, 0x1.16ecefcfa536bp-4);
    p = niz_step_f64(p, x, 0x1.f7f5df66fd5f5p-7);
    p = niz_step_f64(p, x, -0x1.1df1ad154a28ep-3);
    return p;
}
/* fit_math.py: end */

#define NIZ_INF_F32 __builtin_inff()
#define NIZ_INF_F64 __builtin_inf()
#define NIZ_NAN_F32 __builtin_nanf("")
#define NIZ_NAN_F64 __builtin_nan("")

/* ---- exp ---------------------------------------------------------------------------------- */

/* x = n ln 2 + r with n an integer and |r| <= ln(2)/2; n ln 2 is taken off in two parts, the first
 * of them without a rounding.  Adding 1.5 * 2^23 (or 2^52) rounds to an integer. */
NIZ_VEC niz_vf niz_exp_count_f32(niz_vf x)
{
    return niz_step_f32(x, niz_splat_f32(NIZ_LOG2E_F32), 0x1.8p23f) - 0x1.8p23f;
}

NIZ_VEC niz_vd niz_exp_count_f64(niz_vd x)
{
    return niz_step_f64(x, niz_splat_f64(NIZ_LOG2E_F64), 0x1.8p52) - 0x1.8p52;
}

NIZ_VEC niz_vf niz_exp_rest_f32(niz_vf x, niz_vf n)
{
    x = niz_fma_f32(n, niz_splat_f32(-NIZ_LN2_HI_F32), x);
    return niz_fma_f32(n, niz_splat_f32(-NIZ_LN2_LO_F32), x);
}

NIZ_VEC niz_vd niz_exp_rest_f64(niz_vd x, niz_vd n)
{
    x = niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_HI_F64), x);
    return niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_LO_F64), x);
}

/* exp(r) - 1 for |r| <= ln(2)/2. */
NIZ_VEC niz_vf niz_exp_less1_f32(niz_vf r)
{
    return niz_fma_f32(r * r, niz_poly_exp_f32(r), r);
}

NIZ_VEC niz_vd niz_exp_less1_f64(niz_vd r)
{
    return niz_fma_f64(r * r, niz_poly_exp_f64(r), r);
}

/* exp(x) = 2^n (1 + (exp(r) - 1)).  The limits lie where the result is infinite or zero for good,
 * and keep n small enough for niz_scale.  What is zero for good, as the masked scores of a softmax
 * are, is cleared before it is scaled: a result too small for its exponent costs the processor 150
 * cycles, and zero does not. */
NIZ_VEC niz_vf niz_exp_f32(niz_vf x)
{
    niz_vi gone = (niz_vi)(x <= -104.0f);
    niz_vf n, r, y;

    x = niz_clamp_f32(x, -104.0f, 89.0f);
    n = niz_exp_count_f32(x);
    r = niz_exp_rest_f32(x, n);
    y = 1.0f + niz_exp_less1_f32(r);
    return niz_scale_f32((niz_vf)((niz_vi)y & ~gone), n);
}

NIZ_VEC niz_vd niz_exp_f64(niz_vd x)
{
    niz_vl gone = (niz_vl)(x <= -746.0);
    niz_vd n, r, y;

    x = niz_clamp_f64(x, -746.0, 710.0);
    n = niz_exp_count_f64(x);
    r = niz_exp_rest_f64(x, n);
    y = 1.0 + niz_exp_less1_f64(r);
    return niz_scale_f64((niz_vd)((niz_vl)y & ~gone), n);
}

/* exp(x + xl) for |x| <= 1000, |xl| < 2^-32: as above, but with what r's rounding lost, and 1 + r
 * as a sum of two.  exp(r + rl) is exp(r) (1 + rl). */
NIZ_VEC niz_vd niz_exp_sum_f64(niz_vd x, niz_vd xl)
{
    niz_vd n = niz_exp_count_f64(x);
    niz_vd a = niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_HI_F64), x);
    niz_vd r = niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_LO_F64), a);
    niz_vd rl = niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_LO_F64), a - r) + xl;
    niz_vd h = 1.0 + r;
    niz_vd l = (1.0 - h) + r;
    niz_vd t = r * r * niz_poly_exp_f64(r);

    return niz_scale_f64(h + (l + niz_fma_f64(rl, h + t, t)), n);
}

/* ---- expm1 -------------------------------------------------------------------------------- */

/* expm1(x) = 2^n r + (2^n - 1) + 2^n (exp(r) - 1 - r): the first two terms as a sum of two and r
 * with what its rounding lost, since for n = 1 they cancel to half their size.  All of it at half
 * scale, for 2^128 is no float; tiny arguments, which halving could round, are their own result. */
NIZ_VEC niz_vf niz_expm1_f32(niz_vf x)
{
    niz_vf c = niz_clamp_f32(x, -18.0f, 89.0f);
    niz_vf n = niz_exp_count_f32(c);
    niz_vf a = niz_fma_f32(n, niz_splat_f32(-NIZ_LN2_HI_F32), c);
    niz_vf r = niz_fma_f32(n, niz_splat_f32(-NIZ_LN2_LO_F32), a);
    niz_vf rl = niz_fma_f32(n, niz_splat_f32(-NIZ_LN2_LO_F32), a - r);
    niz_vf s = niz_exp2i_f32(n - 1.0f);
    niz_vf b = s - 0.5f;
    niz_vf h = niz_fma_f32(s, r, b);
    niz_vf l = niz_fma_f32(s, r, b - h);
    niz_vf e = niz_fma_f32(r * r, niz_poly_exp_f32(r), niz_fma_f32(rl, r, rl));
    niz_vf y = 2.0f * (h + niz_fma_f32(s, e, l));

    return niz_select_f32((niz_vi)(niz_abs_f32(x) < 0x1p-26f), x, y);
}

NIZ_VEC niz_vd niz_expm1_f64(niz_vd x)
{
    niz_vd c = niz_clamp_f64(x, -38.0, 710.0);
    niz_vd n = niz_exp_count_f64(c);
    niz_vd a = niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_HI_F64), c);
    niz_vd r = niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_LO_F64), a);
    niz_vd rl = niz_fma_f64(n, niz_splat_f64(-NIZ_LN2_LO_F64), a - r);
    niz_vd s = niz_exp2i_f64(n - 1.0);
    niz_vd b = s - 0.5;
    niz_vd h = niz_fma_f64(s, r, b);
    niz_vd l = niz_fma_f64(s, r, b - h);
    niz_vd e = niz_fma_f64(r * r, niz_poly_exp_f64(r), niz_fma_f64(rl, r, rl));
    niz_vd y = 2.0 * (h + niz_fma_f64(s, e, l));

    return niz_select_f64((niz_vl)(niz_abs_f64(x) < 0x1p-55), x, y);
}

/* ---- log ---------------------------------------------------------------------------------- */

/* x = 2^k m with m in [sqrt(1/2), sqrt(2)), for positive normal x.  kk holds k in the exponent's
 * place: taking it off a number's bits divides the number by 2^k. */
typedef struct {
    niz_vf k, m;
    niz_vi kk;
} niz_binary_f32;

typedef struct {
    niz_vd k, m;
    niz_vl kk;
} niz_binary_f64;

NIZ_VEC niz_binary_f32 niz_split_f32(niz_vf x)
{
    niz_vi t = (niz_vi)x - 0x3f3504f3; /* sqrt(1/2) */
    niz_binary_f32 b;

    b.kk = t & -0x800000;
    b.m = (niz_vf)((niz_vi)x - b.kk);
    b.k = niz_f32_of_i32(t >> 23);
    return b;
}

/* No conversion of 64-bit integers below AVX-512, nor an arithmetic shift: the biased exponent in
 * the low bits of 2^52 is 2^52 + 1023 + k. */
NIZ_VEC niz_binary_f64 niz_split_f64(niz_vd x)
{
    niz_vl t = (niz_vl)x - 0x3fe6a09e667f3bcd; /* sqrt(1/2) */
    niz_vul e = (niz_vul)(t + 0x3ff0000000000000) >> 52;
    niz_binary_f64 b;

    b.kk = t & -0x10000000000000;
    b.m = (niz_vd)((niz_vl)x - b.kk);
    b.k = (niz_vd)((niz_vl)e | 0x4330000000000000) - (0x1p52 + 1023.0);
    return b;
}

/* k ln 2 + log(1 + f + fl), fl being tiny.  k LN2_HI is exact, and f is added to it as a sum of
 * two; all else is small beside the result. */
NIZ_VEC niz_vf niz_log_sum_f32(niz_vf k, niz_vf f, niz_vf fl)
{
    niz_vf h = niz_fma_f32(k, niz_splat_f32(NIZ_LN2_HI_F32), f);
    niz_vf l = f - niz_fma_f32(k, niz_splat_f32(-NIZ_LN2_HI_F32), h);
    niz_vf t = niz_step_f32(f, niz_poly_log_f32(f), -0.5f);

    l = niz_fma_f32(k, niz_splat_f32(NIZ_LN2_LO_F32), l + fl);
    return h + niz_fma_f32(f * f, t, l);
}

/* log(1+f) = f - (q - s (q + z R(z))), with q = f^2/2, s = f/(2+f), z = s^2. */
NIZ_VEC niz_vd niz_log_sum_f64(niz_vd k, niz_vd f, niz_vd fl)
{
    niz_vd s = f / (2.0 + f);
    niz_vd z = s * s;
    niz_vd q = 0.5 * f * f;
    niz_vd t = niz_fma_f64(s, niz_fma_f64(z, niz_poly_log_f64(z), q), -q);
    niz_vd h = niz_fma_f64(k, niz_splat_f64(NIZ_LN2_HI_F64), f);
    niz_vd l = f - niz_fma_f64(k, niz_splat_f64(-NIZ_LN2_HI_F64), h);

    l = niz_fma_f64(k, niz_splat_f64(NIZ_LN2_LO_F64), l + fl);
    return h + (t + l);
}

/* log's edges: zero -inf, below zero NaN, +inf and NaN themselves. */
NIZ_VEC niz_vf niz_log_edges_f32(niz_vf y, niz_vf x)
{
    y = niz_select_f32((niz_vi)(x < NIZ_INF_F32), y, x);
    y = niz_select_f32((niz_vi)(x == 0.0f), niz_splat_f32(-NIZ_INF_F32), y);
    return niz_select_f32((niz_vi)(x < 0.0f), niz_splat_f32(NIZ_NAN_F32), y);
}

NIZ_VEC niz_vd niz_log_edges_f64(niz_vd y, niz_vd x)
{
    y = niz_select_f64((niz_vl)(x < NIZ_INF_F64), y, x);
    y = niz_select_f64((niz_vl)(x == 0.0), niz_splat_f64(-NIZ_INF_F64), y);
    return niz_select_f64((niz_vl)(x < 0.0), niz_splat_f64(NIZ_NAN_F64), y);
}

/* log(x) = k ln 2 + log(m); subnormals are scaled up first. */
NIZ_VEC niz_vf niz_log_f32(niz_vf x)
{
    niz_vi small = (niz_vi)(x < 0x1p-126f);
    niz_binary_f32 b = niz_split_f32(niz_select_f32(small, x * 0x1p24f, x));
    niz_vf k = b.k - (niz_vf)(small & (niz_vi)niz_splat_f32(24.0f));

    return niz_log_edges_f32(niz_log_sum_f32(k, b.m - 1.0f, niz_splat_f32(0.0f)), x);
}

NIZ_VEC niz_vd niz_log_f64(niz_vd x)
{
    niz_vl small = (niz_vl)(x < 0x1p-1022);
    niz_binary_f64 b = niz_split_f64(niz_select_f64(small, x * 0x1p54, x));
    niz_vd k = b.k - (niz_vd)(small & (niz_vl)niz_splat_f64(54.0));

    return niz_log_edges_f64(niz_log_sum_f64(k, b.m - 1.0, niz_splat_f64(0.0)), x);
}

/* ---- log1p -------------------------------------------------------------------------------- */

/* u = 1 + x and c = what its rounding lost; both over 2^k are 1 + f + fl.  Where k is 0, f is x
 * itself.  From 2^64 on c is of no account and 2^-k may be no normal number.  A sum of +0 and -0
 * is +0, so zeros are passed through. */
NIZ_VEC niz_vf niz_log1p_f32(niz_vf x)
{
    niz_vf u = 1.0f + x;
    niz_vf v = u - 1.0f;
    niz_vf c = (x - v) + (1.0f - (u - v));
    niz_binary_f32 b = niz_split_f32(u);
    niz_vi scale = (0x3f800000 - b.kk) & (niz_vi)(b.k < 64.0f);
    niz_vf f, fl;

    c = c * (niz_vf)scale;
    f = (b.m - 1.0f) + c;
    fl = ((b.m - 1.0f) - f) + c;
    fl = niz_fma_f32(-fl, f, fl);
    u = niz_log_edges_f32(niz_log_sum_f32(b.k, f, fl), u);
    return niz_select_f32((niz_vi)(x == 0.0f), x, u);
}

NIZ_VEC niz_vd niz_log1p_f64(niz_vd x)
{
    niz_vd u = 1.0 + x;
    niz_vd v = u - 1.0;
    niz_vd c = (x - v) + (1.0 - (u - v));
    niz_binary_f64 b = niz_split_f64(u);
    niz_vl scale = (0x3ff0000000000000 - b.kk) & (niz_vl)(b.k < 64.0);
    niz_vd f, fl;

    c = c * (niz_vd)scale;
    f = (b.m - 1.0) + c;
    fl = ((b.m - 1.0) - f) + c;
    fl = niz_fma_f64(-fl, f, fl);
    u = niz_log_edges_f64(niz_log_sum_f64(b.k, f, fl), u);
    return niz_select_f64((niz_vl)(x == 0.0), x, u);
}

/* ---- sin, cos ----------------------------------------------------------------------------- */

/* x = n pi/2 + r + rl with |r| <= pi/4 or hardly more; q is n modulo 4 in its low two bits. */
typedef struct {
    niz_vf r, rl;
    niz_vi q;
} niz_angle_f32;

typedef struct {
    niz_vd r, rl;
    niz_vl q;
} niz_angle_f64;

/* Up to these, n times the three parts of pi/2 is exact enough for every argument. */
#define NIZ_ANGLE_MAX_F32 0x1p17f
#define NIZ_ANGLE_MAX_F64 0x1p30

/* x * 2/pi modulo 4 for 2^-20 < x < inf, by Payne and Hanek: x is an integer m of 53 bits times
 * 2^e; of 2/pi's digits those that give multiples of 4 are left out and the next 192 are multiplied
 * by m, modulo 2^192.  The product's top two bits are the quadrant, the others the fraction. */
typedef struct {
    __UINT64_TYPE__ hi, lo;
    __INT64_TYPE__ q;
} niz_turns;

static __attribute__((noinline, cold, unused)) niz_turns niz_angle_turns(double x)
{
    __extension__ typedef unsigned __int128 wide;
    union {
        double f;
        __UINT64_TYPE__ u;
    } b = {x};
    __UINT64_TYPE__ m = (b.u & 0xfffffffffffff) | 0x10000000000000, w[3];
    int first = (int)(b.u >> 52) - 1075 - 2 + 64, shift = first & 63;
    const __UINT64_TYPE__ *t = niz_two_over_pi + (first >> 6);
    wide p;
    niz_turns y;

    for (int i = 0; i < 3; i++) w[i] = (t[i] << shift) | (t[i + 1] >> 1 >> (63 - shift));
    p = (wide)m * w[2];
    y.lo = (__UINT64_TYPE__)p;
    p = (wide)m * w[1] + (p >> 64);
    y.hi = m * w[0] + (__UINT64_TYPE__)(p >> 64);
    y.q = (__INT64_TYPE__)(y.hi >> 62);
    y.hi = y.hi << 2 | (__UINT64_TYPE__)p >> 62;
    y.lo = (__UINT64_TYPE__)p << 2 | y.lo >> 62;
    return y;
}

/* The angle of a huge x, lane by lane: the fraction of turns, made signed, as a sum of two doubles,
 * times pi/2.  Returns the quadrant. */
static __attribute__((noinline, cold, unused)) __INT64_TYPE__ niz_angle_huge(double x, double *r,
                                                                             double *rl)
{
    niz_turns y;
    int up, zeros;
    double unit, a, b, h, l;

    if (!(__builtin_fabs(x) < NIZ_INF_F64)) {
        *r = *rl = NIZ_NAN_F64;
        return 0;
    }
    y = niz_angle_turns(__builtin_fabs(x));
    up = (int)(y.hi >> 63);
    if (up) { /* more than half a quadrant: count from the next one down */
        y.lo = ~y.lo + 1;
        y.hi = ~y.hi + (y.lo == 0);
    }
    zeros = __builtin_clzll(y.hi | 1);
    y.hi = y.hi << zeros | y.lo >> 1 >> (63 - zeros);
    y.lo <<= zeros;
    unit = 1.0 / (double)(1ull << zeros);
    a = (double)(y.hi >> 11) * 0x1p-53 * unit;
    b = (double)((y.hi & 0x7ff) << 42 | y.lo >> 22) * 0x1p-106 * unit;
    h = a * NIZ_HALF_PI_1_F64;
    l = __builtin_fma(a, NIZ_HALF_PI_1_F64, -h) + (a * NIZ_HALF_PI_2_F64 + b * NIZ_HALF_PI_1_F64);
    a = h + l;
    b = (h - a) + l;
    *r = up != (x < 0) ? -a : a;
    *rl = up != (x < 0) ? -b : b;
    return x < 0 ? -(y.q + up) : y.q + up;
}

static __attribute__((noinline, cold, unused)) void
niz_angle_lanes_f32(const float *x, float *r, float *rl, __INT32_TYPE__ *q)
{
    for (int i = 0; i < NIZ_LANES_F32; i++) {
        double h, l;

        if (__builtin_fabsf(x[i]) <= NIZ_ANGLE_MAX_F32) continue;
        q[i] = (__INT32_TYPE__)niz_angle_huge((double)x[i], &h, &l);
        r[i] = (float)h;
        rl[i] = (float)(h - (double)r[i]);
    }
}

static __attribute__((noinline, cold, unused)) void
niz_angle_lanes_f64(const double *x, double *r, double *rl, __INT64_TYPE__ *q)
{
    for (int i = 0; i < NIZ_LANES_F64; i++)
        if (!(__builtin_fabs(x[i]) <= NIZ_ANGLE_MAX_F64))
            q[i] = niz_angle_huge(x[i], &r[i], &rl[i]);
}

/* Through memory, so that the rare path keeps no vector register. */
NIZ_VEC niz_angle_f32 niz_angle_fix_f32(niz_vf x, niz_angle_f32 a)
{
    float xs[NIZ_LANES_F32], r[NIZ_LANES_F32], rl[NIZ_LANES_F32];
    __INT32_TYPE__ q[NIZ_LANES_F32];

    niz_store_f32(xs, x);
    niz_store_f32(r, a.r);
    niz_store_f32(rl, a.rl);
    niz_store_i32(q, a.q);
    niz_angle_lanes_f32(xs, r, rl, q);
    return (niz_angle_f32){niz_load_f32(r), niz_load_f32(rl), niz_load_i32(q)};
}

NIZ_VEC niz_angle_f64 niz_angle_fix_f64(niz_vd x, niz_angle_f64 a)
{
    double xs[NIZ_LANES_F64], r[NIZ_LANES_F64], rl[NIZ_LANES_F64];
    __INT64_TYPE__ q[NIZ_LANES_F64];

    niz_store_f64(xs, x);
    niz_store_f64(r, a.r);
    niz_store_f64(rl, a.rl);
    niz_store_i64(q, a.q);
    niz_angle_lanes_f64(xs, r, rl, q);
    return (niz_angle_f64){niz_load_f64(r), niz_load_f64(rl), niz_load_i64(q)};
}

/* Cody and Waite in three parts.  The first step is exact: x and n HALF_PI_1 nearly cancel and
 * have no bits below the last of HALF_PI_1.  What the product b and the difference r lose by
 * rounding goes into rl: a, a multiple of the last place of b, makes (a - r) - b exact even where
 * r is tiny. */
NIZ_VEC niz_angle_f32 niz_angle_of_f32(niz_vf x)
{
    niz_vf t = niz_step_f32(x, niz_splat_f32(NIZ_TWO_OVER_PI_F32), 0x1.8p23f);
    niz_vf n = t - 0x1.8p23f;
    niz_vf a = niz_fma_f32(n, niz_splat_f32(-NIZ_HALF_PI_1_F32), x);
    niz_vf b = n * NIZ_HALF_PI_2_F32;
    niz_vf r = a - b;
    niz_vf l = ((a - r) - b) - niz_fma_f32(n, niz_splat_f32(NIZ_HALF_PI_2_F32), -b);
    niz_angle_f32 y = {r, niz_fma_f32(n, niz_splat_f32(-NIZ_HALF_PI_3_F32), l), (niz_vi)t};
    niz_vi huge = ~(niz_vi)(niz_abs_f32(x) <= NIZ_ANGLE_MAX_F32);

    return __builtin_expect(niz_any_i32(huge), 0) ? niz_angle_fix_f32(x, y) : y;
}

NIZ_VEC niz_angle_f64 niz_angle_of_f64(niz_vd x)
{
    niz_vd t = niz_step_f64(x, niz_splat_f64(NIZ_TWO_OVER_PI_F64), 0x1.8p52);
    niz_vd n = t - 0x1.8p52;
    niz_vd a = niz_fma_f64(n, niz_splat_f64(-NIZ_HALF_PI_1_F64), x);
    niz_vd b = n * NIZ_HALF_PI_2_F64;
    niz_vd r = a - b;
    niz_vd l = ((a - r) - b) - niz_fma_f64(n, niz_splat_f64(NIZ_HALF_PI_2_F64), -b);
    niz_angle_f64 y = {r, niz_fma_f64(n, niz_splat_f64(-NIZ_HALF_PI_3_F64), l), (niz_vl)t};
    niz_vl huge = ~(niz_vl)(niz_abs_f64(x) <= NIZ_ANGLE_MAX_F64);

    return __builtin_expect(niz_any_i64(huge), 0) ? niz_angle_fix_f64(x, y) : y;
}

/* The sine (q even) or cosine (q odd) of r + rl, negated where q has bit 1.
 * sin = r + (rl (1 - z/2) + r z S(z)); cos = w + (((1 - w) - z/2) + (z^2 C(z) - r rl)), w = 1 - z/2
 */
NIZ_VEC niz_vf niz_sin_of_angle_f32(niz_angle_f32 a)
{
    niz_vf z = a.r * a.r;
    niz_vf half = 0.5f * z;
    niz_vf sl = niz_fma_f32(-half, a.rl, a.rl);
    niz_vf s = a.r + niz_fma_f32(a.r * z, niz_poly_sin_f32(z), sl);
    niz_vf w = 1.0f - half;
    niz_vf cl = niz_fma_f32(-a.r, a.rl, (1.0f - w) - half);
    niz_vf c = w + niz_fma_f32(z * z, niz_poly_cos_f32(z), cl);
    niz_vf y = niz_select_f32(-(a.q & 1), c, s);

    return (niz_vf)((niz_vi)y ^ (a.q >> 1 << 31));
}

NIZ_VEC niz_vd niz_sin_of_angle_f64(niz_angle_f64 a)
{
    niz_vd z = a.r * a.r;
    niz_vd half = 0.5 * z;
    niz_vd sl = niz_fma_f64(-half, a.rl, a.rl);
    niz_vd s = a.r + niz_fma_f64(a.r * z, niz_poly_sin_f64(z), sl);
    niz_vd w = 1.0 - half;
    niz_vd cl = niz_fma_f64(-a.r, a.rl, (1.0 - w) - half);
    niz_vd c = w + niz_fma_f64(z * z, niz_poly_cos_f64(z), cl);
    niz_vd y = niz_select_f64(-(a.q & 1), c, s);

    return (niz_vd)((niz_vl)y ^ (niz_vl)((niz_vul)a.q >> 1 << 63));
}

/* sin(-0) is -0, which the sums above would lose. */
NIZ_VEC niz_vf niz_sin_f32(niz_vf x)
{
    niz_vf y = niz_sin_of_angle_f32(niz_angle_of_f32(x));

    return niz_select_f32((niz_vi)(x == 0.0f), x, y);
}

NIZ_VEC niz_vd niz_sin_f64(niz_vd x)
{
    niz_vd y = niz_sin_of_angle_f64(niz_angle_of_f64(x));

    return niz_select_f64((niz_vl)(x == 0.0), x, y);
}

/* cos(x) = sin(x + pi/2): one quadrant on. */
NIZ_VEC niz_vf niz_cos_f32(niz_vf x)
{
    niz_angle_f32 a = niz_angle_of_f32(x);

    a.q += 1;
    return niz_sin_of_angle_f32(a);
}

NIZ_VEC niz_vd niz_cos_f64(niz_vd x)
{
    niz_angle_f64 a = niz_angle_of_f64(x);

    a.q += 1;
    return niz_sin_of_angle_f64(a);
}

/* ---- tanh --------------------------------------------------------------------------------- */

/* With a = |x|, and x's sign put on last: a + a z T(z), z = a^2, for small a, and otherwise
 * 1 - 2/(exp(2a) + 1); the limit on 2a is where the result has become 1. */
NIZ_VEC niz_vf niz_tanh_f32(niz_vf x)
{
    niz_vf a = niz_abs_f32(x);
    niz_vf z = x * x;
    niz_vf small = niz_fma_f32(a * z, niz_poly_tanh_f32(z), a);
    niz_vf b = niz_clamp_f32(a + a, 0.0f, 19.0f);
    niz_vf n = niz_exp_count_f32(b);
    niz_vf q = niz_exp_less1_f32(niz_exp_rest_f32(b, n));
    niz_vf s = niz_exp2i_f32(n);
    niz_vf large = 1.0f - 2.0f / niz_fma_f32(s, q, s + 1.0f);

    return niz_copysign_f32(niz_select_f32((niz_vi)(a < 0.5625f), small, large), x);
}

NIZ_VEC niz_vd niz_tanh_f64(niz_vd x)
{
    niz_vd a = niz_abs_f64(x);
    niz_vd z = x * x;
    niz_vd small = niz_fma_f64(a * z, niz_poly_tanh_f64(z), a);
    niz_vd b = niz_clamp_f64(a + a, 0.0, 39.0);
    niz_vd n = niz_exp_count_f64(b);
    niz_vd q = niz_exp_less1_f64(niz_exp_rest_f64(b, n));
    niz_vd s = niz_exp2i_f64(n);
    niz_vd large = 1.0 - 2.0 / niz_fma_f64(s, q, s + 1.0);

    return niz_copysign_f64(niz_select_f64((niz_vl)(a < 0.5625), small, large), x);
}

/* ---- erf, erfc ---------------------------------------------------------------------------- */

/* Small |x|: x + x E(z), z = x^2.  Otherwise 1 - exp(L(|x|)) with x's sign; the limit is where the
 * result has become 1. */
NIZ_VEC niz_vf niz_erf_f32(niz_vf x)
{
    niz_vf a = niz_abs_f32(x);
    niz_vf small = niz_fma_f32(x, niz_poly_erf_f32(x * x), x);
    niz_vf b = niz_poly_erf_log_f32(niz_clamp_f32(a, 0.875f, 3.9375f));
    niz_vf n = niz_exp_count_f32(b);
    niz_vf q = niz_exp_less1_f32(niz_exp_rest_f32(b, n));
    niz_vf s = niz_exp2i_f32(n);
    niz_vf large = niz_fma_f32(-s, q, 1.0f - s);

    return niz_select_f32((niz_vi)(a < 0.875f), small, niz_copysign_f32(large, x));
}

/* erfc(a) for a in [1/2, 28]: exp(-a^2) G(t) / (1 + 2a), t = (a-4)/(a+4), G(t) = G(0) + t H(t).
 * The square, G, the divisor and the quotient are sums of two: four roundings would add up. */
NIZ_VEC niz_vd niz_erfc_tail_f64(niz_vd a)
{
    niz_vd t = (a - 4.0) / (a + 4.0);
    niz_vd u = t * niz_poly_erfc_f64(t);
    niz_vd g = u + NIZ_ERFC_HI_F64;
    niz_vd gl = (u - (g - NIZ_ERFC_HI_F64)) + NIZ_ERFC_LO_F64;
    niz_vd d = (a + a) + 1.0, dl = 1.0 - (d - (a + a)), inv = 1.0 / d;
    niz_vd q = g * inv;
    niz_vd ql = (niz_fma_f64(-q, d, g) + niz_fma_f64(-q, dl, gl)) * inv;
    niz_vd h = a * a;
    niz_vd e = niz_exp_sum_f64(-h, -niz_fma_f64(a, a, -h));

    return niz_fma_f64(e, q, e * ql);
}

/* Small |x|: x + x E(z), z = x^2.  Otherwise 1 - erfc(|x|) with x's sign. */
NIZ_VEC niz_vd niz_erf_f64(niz_vd x)
{
    niz_vd a = niz_abs_f64(x);
    niz_vd small = niz_fma_f64(x, niz_poly_erf_f64(x * x), x);
    niz_vd large = 1.0 - niz_erfc_tail_f64(niz_clamp_f64(a, 0.5, 6.0));

    return niz_select_f64((niz_vl)(a < 1.0), small, niz_copysign_f64(large, x));
}

/* Below 1/2 it is 1 - erf(x), from there the tail, and on the other side 2 less the tail. */
NIZ_VEC niz_vd niz_erfc_f64(niz_vd x)
{
    niz_vd a = niz_abs_f64(x);
    niz_vd small = 1.0 - niz_fma_f64(x, niz_poly_erf_f64(x * x), x);
    niz_vd tail = niz_erfc_tail_f64(niz_clamp_f64(a, 0.5, 28.0));
    niz_vd large = niz_select_f64((niz_vl)(x < 0.0), 2.0 - tail, tail);

    return niz_select_f64((niz_vl)(a < 0.5), small, large);
}

/* In double precision: seldom asked for, and a text of its own would be long. */
NIZ_VEC niz_vf niz_erfc_f32(niz_vf x)
{
    return niz_f32_of_f64(niz_erfc_f64(niz_f64_lower(x)), niz_erfc_f64(niz_f64_upper(x)));
}

/* ---- pow ---------------------------------------------------------------------------------- */

/* y is the power of |x|: puts in the edges and the sign.  1 to any power and anything to the power
 * 0 are 1, NaN included; -1 to +-inf is 1; below zero a power that is no integer is NaN and an odd
 * one is negative. */
NIZ_VEC niz_vf niz_pow_edges_f32(niz_vf r, niz_vf x, niz_vf y)
{
    niz_vf a = niz_abs_f32(x);
    niz_vi whole = (niz_vi)(niz_rint_f32(y) == y);
    niz_vi odd = whole & (niz_vi)(niz_rint_f32(0.5f * y) != 0.5f * y);
    niz_vi undefined = ~whole & (niz_vi)(x < 0.0f) & (niz_vi)(a < NIZ_INF_F32);
    niz_vf one = niz_splat_f32(1.0f);

    r = niz_select_f32((niz_vi)(a == 1.0f) & (niz_vi)(y == y), one, r);
    r = (niz_vf)((niz_vi)r ^ (niz_sign_f32(x) & odd));
    r = niz_select_f32(undefined, niz_splat_f32(NIZ_NAN_F32), r);
    return niz_select_f32((niz_vi)(x == 1.0f) | (niz_vi)(y == 0.0f), one, r);
}

NIZ_VEC niz_vd niz_pow_edges_f64(niz_vd r, niz_vd x, niz_vd y)
{
    niz_vd a = niz_abs_f64(x);
    niz_vl whole = (niz_vl)(niz_rint_f64(y) == y);
    niz_vl odd = whole & (niz_vl)(niz_rint_f64(0.5 * y) != 0.5 * y);
    niz_vl undefined = ~whole & (niz_vl)(x < 0.0) & (niz_vl)(a < NIZ_INF_F64);
    niz_vd one = niz_splat_f64(1.0);

    r = niz_select_f64((niz_vl)(a == 1.0) & (niz_vl)(y == y), one, r);
    r = (niz_vd)((niz_vl)r ^ (niz_sign_f64(x) & odd));
    r = niz_select_f64(undefined, niz_splat_f64(NIZ_NAN_F64), r);
    return niz_select_f64((niz_vl)(x == 1.0) | (niz_vl)(y == 0.0), one, r);
}

/* The logarithm's edges for |x|: -inf for 0, inf and NaN themselves. */
NIZ_VEC niz_vd niz_pow_log_edges(niz_vd l, niz_vd a)
{
    l = niz_select_f64((niz_vl)(a == 0.0), niz_splat_f64(-NIZ_INF_F64), l);
    return niz_select_f64((niz_vl)(a < NIZ_INF_F64), l, a);
}

/* Floats: exp(y log |x|) in double precision, where a float is never subnormal, with polynomials
 * just good enough; the conversion to float is the one rounding that matters. */
NIZ_VEC niz_vd niz_powf_half(niz_vd a, niz_vd y)
{
    niz_binary_f64 b = niz_split_f64(a);
    niz_vd s = (b.m - 1.0) / (b.m + 1.0);
    niz_vd z = s * s;
    niz_vd l = niz_fma_f64(s * z, niz_poly_powf_log_f64(z), s + s);
    niz_vd n, r;

    l = niz_fma_f64(b.k, niz_splat_f64(NIZ_LN2_HI_F64 + NIZ_LN2_LO_F64), l);
    l = niz_clamp_f64(y * niz_pow_log_edges(l, a), -200.0, 200.0);
    n = niz_exp_count_f64(l);
    r = niz_fma_f64(n, niz_splat_f64(-(NIZ_LN2_HI_F64 + NIZ_LN2_LO_F64)), l);
    r = niz_fma_f64(r * r, niz_poly_powf_exp_f64(r), r);
    return (1.0 + r) * niz_exp2i_f64(n);
}

NIZ_VEC niz_vf niz_pow_f32(niz_vf x, niz_vf y)
{
    niz_vf a = niz_abs_f32(x);
    niz_vd lower = niz_powf_half(niz_f64_lower(a), niz_f64_lower(y));
    niz_vd upper = niz_powf_half(niz_f64_upper(a), niz_f64_upper(y));

    return niz_pow_edges_f32(niz_f32_of_f64(lower, upper), x, y);
}

typedef struct {
    niz_vd h, l;
} niz_pair_f64;

/* log(m) for m in [sqrt(1/2), sqrt(2)) as h + l, to about 2^-65 of itself: 2s + s z c, with
 * s = (m-1)/(m+1), z = s^2, c = 2/3 + z R(z).  All but R are sums of two. */
NIZ_VEC niz_pair_f64 niz_pow_log_mantissa(niz_vd m)
{
    niz_vd f = m - 1.0, d = m + 1.0, dl = m - (d - 1.0), inv = 1.0 / d;
    niz_vd s = f * inv;
    niz_vd sl = niz_fma_f64(-s, dl, niz_fma_f64(-s, d, f)) * inv;
    niz_vd z = s * s;
    niz_vd zl = niz_fma_f64(s + s, sl, niz_fma_f64(s, s, -z));
    niz_vd p = niz_poly_pow_f64(z);
    niz_vd t = z * p;
    niz_vd c = t + NIZ_TWO_THIRDS_HI_F64;
    niz_vd cl = niz_fma_f64(zl, p, (t - (c - NIZ_TWO_THIRDS_HI_F64)) + NIZ_TWO_THIRDS_LO_F64);
    niz_vd u = s * z;
    niz_vd ul = niz_fma_f64(s, zl, niz_fma_f64(sl, z, niz_fma_f64(s, z, -u)));
    niz_vd v = u * c;
    niz_vd vl = niz_fma_f64(u, cl, niz_fma_f64(ul, c, niz_fma_f64(u, c, -v)));
    niz_vd h = (s + s) + v;

    return (niz_pair_f64){h, (((s + s) - h) + v) + ((sl + sl) + vl)};
}

/* exp(y log |x|) with the logarithm and the product as sums of two.  Where the product is past the
 * limits its low part is dropped: it would be inf - inf. */
NIZ_VEC niz_vd niz_pow_f64(niz_vd x, niz_vd y)
{
    niz_vd a = niz_abs_f64(x);
    niz_vl small = (niz_vl)(a < 0x1p-1022);
    niz_binary_f64 b = niz_split_f64(niz_select_f64(small, a * 0x1p54, a));
    niz_vd k = b.k - (niz_vd)(small & (niz_vl)niz_splat_f64(54.0));
    niz_pair_f64 m = niz_pow_log_mantissa(b.m);
    niz_vd n = k * NIZ_LN2_HI_F64;
    niz_vd l = n + m.h;
    niz_vd ll = ((n - l) + m.h) + niz_fma_f64(k, niz_splat_f64(NIZ_LN2_LO_F64), m.l);
    niz_vd p, pl;

    l = niz_pow_log_edges(l, a);
    p = y * l;
    pl = niz_fma_f64(y, ll, niz_fma_f64(y, l, -p));
    pl = (niz_vd)((niz_vl)pl & (niz_vl)(niz_abs_f64(p) < 1000.0));
    return niz_pow_edges_f64(niz_exp_sum_f64(niz_clamp_f64(p, -1000.0, 1000.0), pl), x, y);
}

#endif
