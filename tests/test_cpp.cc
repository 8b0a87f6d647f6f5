// The C++17 face of the headers: operands, options, shapes, guards, places.
// SPDX-License-Identifier: MIT
#include <niz.h>

#include <cmath>
#include <cstdio>
#include <cstring>

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

int main()
{
    learns_xor();
    numbers_on_either_side();
    places_are_the_callers();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
