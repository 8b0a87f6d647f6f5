// The C++17 face of the headers: operands, options, shapes, guards, places.
// SPDX-License-Identifier: MIT
#include <niz.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <vector>

static int failures;

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                            \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

static niz_t net(niz_t x) // x [B,2]
{
    x = niz_tanh(niz_linear(x, 8, "hidden"));
    return niz_linear(x, 1, "out");
}

static void learns_xor()
{
    const float in[] = {0, 0, 0, 1, 1, 0, 1, 1}, out[] = {0, 1, 1, 0};
    niz *z = niz_open(nullptr);
    niz_adam_options o;
    o.lr = 0.05;
    niz_optim opt = niz_adam(o);
    double first = 0, last = 0;
    for (int i = 0; i < 300; i++) {
        NIZ_STEP(z);
        niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(4, 2), in);
        niz_t y = niz_from(z, NIZ_F32, NIZ_SHAPE(4, 1), out);
        niz_t loss = niz_mse(net(x), y);
        niz_minimize(&opt, loss);
        last = niz_item(loss);
        if (i == 0) first = last;
    }
    EXPECT(niz_error(z) == NIZ_OK);
    EXPECT(last < first / 10);
    niz_close(z);
}

static void numbers_on_either_side()
{
    niz *z = niz_open(nullptr);
    {
        NIZ_STEP(z);
        niz_t x = niz_full(z, NIZ_F64, NIZ_SHAPE(3), 2);
        EXPECT(niz_item(niz_sum(niz_sub(10, niz_mul(x, 2.5f)))) == 15);
        niz_reduce_options last;
        last.axis = -1;
        EXPECT(niz_item(niz_mean(x, last)) == 2);
        EXPECT(niz_shape_of(niz_permute(niz_reshape(x, NIZ_SHAPE(3, 1)), NIZ_AXES(1, 0))).dim[1] == 3);
        niz_t g, v = x;
        niz_grad(niz_sum(niz_square(v)), 1, &v, &g);
        EXPECT(NIZ_RUN(z, g) == NIZ_OK);
    }
    niz_close(z);
}

static void places_are_the_callers()
{
    niz *z = niz_open(nullptr);
    {
        NIZ_STEP(z);
        NIZ_SCOPE(z, "block%d", 7);
        niz_t a = niz_zeros(z, NIZ_F32, NIZ_SHAPE(32, 784)), b = niz_zeros(z, NIZ_F32, NIZ_SHAPE(5, 6));
        int line = __LINE__ + 1;
        niz_t y = niz_matmul(a, b);
        EXPECT(std::isnan(niz_item(y)));
        char want[64];
        std::snprintf(want, sizeof want, "test_cpp.cc:%d (block7)", line);
        EXPECT(std::strstr(niz_message(z), want) != nullptr);
    }
    niz_close(z);
}

// What the library defines for an option struct it defines for every member of it.
template <class T> static bool defaults_are_whole(bool (*same)(const T &, const T &))
{
    alignas(T) unsigned char dirty[sizeof(T)];
    std::memset(dirty, 0x55, sizeof dirty);
    T *o = new (dirty) T;
    T clean = T();
    return same(*o, clean);
}
static bool same_axes(const niz_axes &a, const niz_axes &b)
{
    return a.n == b.n && !std::memcmp(a.axis, b.axis, sizeof a.axis);
}
static bool same_part(const niz_part &a, const niz_part &b)
{
    return a.of == b.of && a.count == b.count && a.index == b.index;
}

static void option_structs_are_whole()
{
    EXPECT(defaults_are_whole<niz_reduce_options>([](const niz_reduce_options &a,
                                                     const niz_reduce_options &b) {
        return a.axis == b.axis && same_axes(a.axes, b.axes) && a.keepdims == b.keepdims;
    }));
    EXPECT(defaults_are_whole<niz_var_options>([](const niz_var_options &a,
                                                  const niz_var_options &b) {
        return same_axes(a.axes, b.axes) && a.correction == b.correction;
    }));
    EXPECT(defaults_are_whole<niz_conv_options>([](const niz_conv_options &a,
                                                   const niz_conv_options &b) {
        return a.stride == b.stride && !std::memcmp(a.strides, b.strides, sizeof a.strides) &&
               !std::memcmp(a.pads, b.pads, sizeof a.pads) &&
               !std::memcmp(a.dilations, b.dilations, sizeof a.dilations);
    }));
    EXPECT(defaults_are_whole<niz_conv_layer_options>([](const niz_conv_layer_options &a,
                                                         const niz_conv_layer_options &b) {
        return a.stride == b.stride && !std::memcmp(a.sizes, b.sizes, sizeof a.sizes) &&
               !std::memcmp(a.strides, b.strides, sizeof a.strides) &&
               !std::memcmp(a.pads, b.pads, sizeof a.pads) &&
               !std::memcmp(a.dilations, b.dilations, sizeof a.dilations);
    }));
    EXPECT(defaults_are_whole<niz_csv_options>([](const niz_csv_options &a,
                                                  const niz_csv_options &b) {
        return a.path == b.path && a.target == b.target;
    }));
    EXPECT(defaults_are_whole<niz_split_options>([](const niz_split_options &a,
                                                    const niz_split_options &b) {
        return same_part(a.part, b.part) && a.test == b.test;
    }));
    EXPECT(defaults_are_whole<niz_normalizer_options>([](const niz_normalizer_options &a,
                                                         const niz_normalizer_options &b) {
        return same_part(a.part, b.part);
    }));
    EXPECT(defaults_are_whole<niz_batches_options>([](const niz_batches_options &a,
                                                      const niz_batches_options &b) {
        return same_part(a.part, b.part) && a.size == b.size;
    }));
}

static void sizes_and_numbers_of_any_type()
{
    niz *z = niz_open(nullptr);
    {
        NIZ_STEP(z);
        std::vector<float> v(12, 1.f);
        niz_t x = niz_from(z, NIZ_F64, NIZ_SCALAR, nullptr);
        EXPECT(niz_error(z) != NIZ_OK);
        niz_clear_error(z);
        x = niz_from(z, NIZ_F32, NIZ_SHAPE(v.size() / 4, 4), v.data());
        EXPECT(niz_shape_of(x).dim[0] == 3);
        EXPECT(NIZ_SHAPE().rank == 0);
        x = niz_cast(x, NIZ_F64);
        EXPECT(niz_item(niz_sum(niz_mul(x, v.size()))) == 144);
        EXPECT(niz_item(niz_sum(niz_mul(-2LL, x))) == -24);
        EXPECT(niz_item(niz_sum(niz_mul(x, true))) == 12);
        EXPECT(niz_item(niz_sum(niz_mul(x, 0.5f))) == 6);
        EXPECT(!niz_is_valid(niz_add(x, (1LL << 53) + 1)));
        EXPECT(std::strstr(niz_message(z), "no double holds"));
    }
    niz_close(z);
}

static niz_t halved(niz_t x, NIZ_CPP_AT)
{
    niz_at at = {file, line};
    NIZ_FUNCTION(x.z, at, "halved");
    return niz_matmul(x, niz_mul(x, 0.5));
}

static void functions_carry_their_callers_place()
{
    niz *z = niz_open(nullptr);
    {
        NIZ_STEP(z);
        niz_t x = niz_ones(z, NIZ_F32, NIZ_SHAPE(3, 4));
        int line = __LINE__ + 1;
        halved(x);
        std::string want = "halved at " __FILE__ ":" + std::to_string(line);
        EXPECT(!std::strncmp(niz_message(z), want.c_str(), want.size()));
    }
    niz_close(z);
}

static void fixed_functions()
{
    niz *z = niz_open(nullptr);
    double factor = 3;
    const niz_type_spec in = {NIZ_F32, NIZ_SHAPE(2)};
    niz_fn *f = niz_compile(
        z,
        [](niz *, void *arg, const niz_t *x, niz_t *y) {
            y[0] = niz_mul(x[0], *static_cast<double *>(arg));
        },
        &factor, 1, &in, 1);
    float x[2] = {1, 2}, y[2] = {0, 0};
    const void *from[] = {x};
    void *to[] = {y};
    EXPECT(niz_call(f, from, to) == NIZ_OK && y[1] == 6);
    EXPECT(niz_fn_type(f, 0).shape.dim[0] == 2);
    niz_fn_free(f);
    niz_close(z);
}

int main()
{
    fixed_functions();
    option_structs_are_whole();
    sizes_and_numbers_of_any_type();
    functions_carry_their_callers_place();
    learns_xor();
    numbers_on_either_side();
    places_are_the_callers();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
