/* niz.h - the whole of libniz.
 *
 * A complete program: a network that learns XOR.
 *
 *   #include <niz.h>
 *
 *   static niz_t net(niz_t x)                               // x [B,2]
 *   {
 *       x = niz_tanh(niz_linear(x, 8, "hidden"));           // [B,8]
 *       return niz_linear(x, 1, "out");                     // [B,1]
 *   }
 *
 *   int main(void)
 *   {
 *       const float in[] = {0, 0, 0, 1, 1, 0, 1, 1}, out[] = {0, 1, 1, 0};
 *       niz *z = niz_open(NULL);
 *       niz_optim opt = niz_adam(.lr = 0.05);
 *       for (int i = 0; i < 500; i++) {
 *           NIZ_STEP(z);
 *           niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(4, 2), in);
 *           niz_t y = niz_from(z, NIZ_F32, NIZ_SHAPE(4, 1), out);
 *           niz_t loss = niz_mse(net(x), y);
 *           niz_minimize(&opt, loss);
 *           if (i % 100 == 0) printf("%3d  %g\n", i, niz_item(loss));
 *       }
 *       if (niz_error(z)) fprintf(stderr, "%s\n", niz_message(z));
 *       niz_close(z);
 *   }
 *
 * Build it with: cc xor.c $(pkg-config --cflags --libs niz)
 *
 * SPDX-License-Identifier: MIT */
#ifndef NIZ_H
#define NIZ_H

#include <niz/check.h>
#include <niz/core.h>
#include <niz/data.h>
#include <niz/grad.h>
#include <niz/io.h>
#include <niz/nn.h>
#include <niz/op.h>
#include <niz/ops.h>

#endif
