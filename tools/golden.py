#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write tests/golden.h: three training steps of five small models, in float64, by PyTorch.

    python3 tools/golden.py            write tests/golden.h
    python3 tools/golden.py --check    exit 1 if tests/golden.h is not, byte for byte, what would
                                       be written

No initial value is stored: value() below gives parameters, inputs and targets, and golden.h
repeats it in C with the same bits.  Everything else is printed with %.17g and reads back exactly.
"""
import os
import sys

# One thread and one code path whatever the processor, so that a second run gives the same digits.
os.environ["ATEN_CPU_CAPABILITY"] = "default"
os.environ["MKL_CBWR"] = "COMPATIBLE"
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402  (reads the environment as it loads)
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

STEPS = 3
HEAD = 4            # leading elements stored of each parameter
RANK = 4            # largest rank of a parameter
SALT_INPUT, SALT_TARGET = 101, 202
NOISE = 1e-28       # a sum of squared gradients below this is rounding error about an exact zero


def value(i, salt, scale):
    """Integers up to the one division: every IEEE machine gets the same double."""
    return ((i * 7919 + salt * 104729) % 2003 - 1001) / 1001.0 * scale


def tensor(shape, at, dtype=torch.float64):
    """The tensor whose element i, counted in row-major order, is at(i)."""
    n = torch.Size(shape).numel()
    return torch.tensor([at(i) for i in range(n)], dtype=dtype).reshape(shape)


class Fnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 16)
        self.fc2 = nn.Linear(16, 5)

    def forward(self, x):                                   # [6,20]
        return self.fc2(F.relu(self.fc1(x)))                # [6,5]


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):                                   # [4,2,8,8]
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)    # [4,6,4,4]
        x = F.avg_pool2d(F.gelu(self.conv2(x)), 2)          # [4,8,1,1]
        return self.fc(x.flatten(1))                        # [4,5]


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.rnn = cell(5, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):                                   # [3,7,5]: B,T,C
        return self.head(self.rnn(x)[0][:, -1])             # [3,3]


def classes(n, count):
    return lambda: tensor((n,), lambda i: (i * 5 + 3) % count, torch.int64)


def reals(*shape):
    return lambda: tensor(shape, lambda i: value(i, SALT_TARGET, 1.0))


def bits(*shape):
    return lambda: tensor(shape, lambda i: float((i * 3 + 1) % 2))


def optimiser(kind, **options):
    return lambda params: kind(params, **options)


# name, what it is (goes into golden.h), module, input shape, targets, loss, optimiser, clip norm
MODELS = [
    ("fnn",
     ["x[6,20], linear 16 fc1, ReLU, linear 5 fc2; cross-entropy with class indices.",
      "SGD lr 0.1, momentum 0.9, dampening 0, L2 decay 1e-3 (g += 1e-3 * p, first)."],
     Fnn, (6, 20), classes(6, 5), F.cross_entropy,
     optimiser(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3), None),
    ("cnn",
     ["x[4,2,8,8], conv 6 3x3 pad 1 conv1, batch norm bn1 (training, eps 1e-5, momentum 0.1),",
      "ReLU, max pool 2, conv 8 3x3 stride 2 pad 1 groups 2 conv2, GELU (erf), average pool 2,",
      "flatten, linear 5 fc; cross-entropy with class indices.",
      "Adam lr 0.01, betas 0.9 0.999, eps 1e-8, L2 decay 1e-3 (g += 1e-3 * p, first)."],
     Cnn, (4, 2, 8, 8), classes(4, 5), F.cross_entropy,
     optimiser(torch.optim.Adam, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-3), None),
    ("lstm",
     ["x[3,7,5] (B,T,C), LSTM 6 rnn, the last time step, linear 3 head; mean squared error,",
      "real targets [3,3].  AdamW lr 0.01, betas 0.9 0.999, eps 1e-8, decay 0.05 of every",
      "parameter (p *= 1 - 0.01 * 0.05, first)."],
     lambda: Recurrent(nn.LSTM), (3, 7, 5), reals(3, 3), F.mse_loss,
     optimiser(torch.optim.AdamW, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05), None),
    ("gru",
     ["x[3,7,5] (B,T,C), GRU 6 rnn, the last time step, linear 3 head; mean squared error,",
      "real targets [3,3].  Before each step all gradients are multiplied by",
      "min(1, 0.1 / (norm + 1e-6)), norm being that of all of them together (and above 0.1 each",
      "time); then SGD lr 0.5, no momentum, no decay."],
     lambda: Recurrent(nn.GRU), (3, 7, 5), reals(3, 3), F.mse_loss,
     optimiser(torch.optim.SGD, lr=0.5), 0.1),
    ("rnn",
     ["x[3,7,5] (B,T,C), tanh RNN 6 rnn, the last time step, linear 3 head; binary cross-entropy",
      "with logits, 0/1 targets [3,3].  SGD lr 0.1, momentum 0.9, Nesterov, dampening 0, no decay."],
     lambda: Recurrent(nn.RNN), (3, 7, 5), bits(3, 3), F.binary_cross_entropy_with_logits,
     optimiser(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True), None),
]


def initialise(model):
    """Parameters from value(), salt 1, 2, 3 … in the model's order."""
    norms = {name + ".weight" for name, m in model.named_modules()
             if isinstance(m, nn.BatchNorm2d)}
    with torch.no_grad():
        for salt, (name, p) in enumerate(model.named_parameters(), 1):
            about = 1.0 if name in norms else 0.0
            p.copy_(tensor(p.shape, lambda i: about + value(i, salt, 0.5)))


def train(module, input_shape, targets, loss_of, make_optimiser, clip):
    """Returns the losses, what to store of each parameter, and the batch norm's state or None."""
    model = module().double().train()
    initialise(model)
    x = tensor(input_shape, lambda i: value(i, SALT_INPUT, 1.0))
    y = targets()
    optim = make_optimiser(model.parameters())
    losses, grads = [], {}
    for step in range(STEPS):
        optim.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            for name, p in model.named_parameters():
                g2 = p.grad.square().sum().item()
                grads[name] = g2 if g2 >= NOISE else 0.0
        if clip is not None:
            assert nn.utils.clip_grad_norm_(model.parameters(), clip) > clip, "the clip does nothing"
        optim.step()

    stats = None
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):       # taken now: the forward pass below moves them once more
            stats = (m.running_mean.tolist(), m.running_var.tolist(), m.num_batches_tracked.item())
    with torch.no_grad():
        losses.append(loss_of(model(x), y).item())
        params = [(name, list(p.shape), p.sum().item(), p.square().sum().item(),
                   p.flatten()[:HEAD].tolist(), grads[name]) for name, p in model.named_parameters()]
    return losses, params, stats


def number(v):
    return "%.17g" % v


def numbers(vs):
    return "{ " + ", ".join(number(v) for v in vs) + " }"


INTRO = """\
/* SPDX-License-Identifier: MIT */
/*
 * golden.h - the first three training steps of five small models, float64, computed by
 * PyTorch %(version)s on one thread.  Written by tools/golden.py, which with that version regenerates
 * it byte for byte; do not edit.
 *
 * No initial value is stored.  Elements count in row-major order from i = 0; golden_value(), below,
 * gives
 *   parameter k of a model, its order in .params, from 1    golden_value(i, k, 0.5)
 *   except a batch norm's weight (bias: as any other)       1 + golden_value(i, k, 0.5)
 *   running mean and variance                               0 and 1
 *   input x                                                 golden_value(i, 101, 1.0)
 *   real targets                                            golden_value(i, 202, 1.0)
 *   class labels                                            (i * 5 + 3) %% classes
 *   0/1 targets                                             (i * 3 + 1) %% 2
 * Names and layouts are PyTorch's: linear [out,in], conv [out,in/groups,kh,kw]; gates stacked along
 * the first axis, i f g o (LSTM) and r z n (GRU, n = tanh(Wx + b_ih + r * (Uh + b_hh))).  Recurrent
 * states start at 0.  Losses are means: cross-entropy over the batch, the others over all elements.
 * Every step uses the same batch.
 *
%(models)s
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stddef.h>
#include <stdint.h>

/** One parameter: what it is after three steps, and its gradient in the first. */
typedef struct {
    const char *name;
    int rank;
    int64_t shape[%(rank)d];   /* the first `rank` of them; the rest are 0 */
    double sum;         /* of all elements */
    double sum_sq;      /* of their squares */
    double head[%(head)d];     /* the first elements; 0 past the end of a shorter parameter */
    double grad_sum_sq; /* first step, sum of squares of dloss/dp: without decay, before clipping;
                           0 where the derivative is 0 and only rounding is left (below %(noise)s) */
} golden_param;

/** One model.  The batch norm's state is that after three steps; loss[3] is one more forward pass,
 *  also in training mode, which the state does not include. */
typedef struct {
    const char *name;
    double loss[%(losses)d];            /* before step 1, 2, 3 and after step 3 */
    int n_params;
    const golden_param *params;
    int channels;              /* length of running_mean and running_var; 0: no batch norm */
    const double *running_mean;
    const double *running_var; /* moved by the unbiased variance, as in PyTorch */
    int64_t batches;           /* num_batches_tracked */
} golden_model;

/** Initial values.  Integers up to the one division, so every IEEE machine gets the same double. */
static inline double golden_value(int64_t i, int64_t salt, double scale)
{
    return (double)((i * 7919 + salt * 104729) %% 2003 - 1001) / 1001.0 * scale;
}

/* clang-format off */
"""


def header():
    torch.set_num_threads(1)
    body, table = [], []
    for name, _, *recipe in MODELS:
        losses, params, stats = train(*recipe)
        body.append("static const golden_param golden_%s_params[] = {" % name)
        for pname, shape, total, squares, head, grad in params:
            dims = ", ".join(str(d) for d in shape + [0] * (RANK - len(shape)))
            body += ['    { "%s", %d, { %s },' % (pname, len(shape), dims),
                     "      %s, %s," % (number(total), number(squares)),
                     "      %s," % numbers(head + [0.0] * (HEAD - len(head))),
                     "      %s }," % number(grad)]
        body += ["};", ""]
        if stats:
            mean, var, batches = stats
            for what, values in (("mean", mean), ("var", var)):
                body.append("static const double golden_%s_running_%s[] = {" % (name, what))
                body += ["    %s," % number(v) for v in values]
                body += ["};", ""]
            state = "%d, golden_%s_running_mean, golden_%s_running_var, %d" % (
                len(mean), name, name, batches)
        else:
            state = "0, NULL, NULL, 0"
        table += ['    { "%s", %s,' % (name, numbers(losses)),
                  "      %d, golden_%s_params, %s }," % (len(params), name, state)]

    told = []
    for name, lines, *_ in MODELS:
        told += [" * %-5s %s" % (name if n == 0 else "", line) for n, line in enumerate(lines)]
    intro = INTRO % {"version": torch.__version__.split("+")[0], "models": "\n".join(told),
                     "rank": RANK, "head": HEAD, "losses": STEPS + 1, "noise": "%g" % NOISE}
    return intro + "\n".join(
        body + ["static const golden_model golden_models[] = {"] + table +
        ["};", "/* clang-format on */", "",
         "enum { GOLDEN_MODELS = sizeof golden_models / sizeof golden_models[0] };", "",
         "#endif", ""])


def main():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "tests", "golden.h")
    text = header().encode("ascii")
    if sys.argv[1:] == ["--check"]:
        with open(path, "rb") as f:
            if f.read() != text:
                sys.exit("tests/golden.h differs from what tools/golden.py writes")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        with open(path, "wb") as f:
            f.write(text)


if __name__ == "__main__":
    main()
