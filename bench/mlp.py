"""One training step of a 784-128-10 network in PyTorch eager: the work of bench/mlp.c, from the
same numbers.

    mlp.py mlp1|mlp64 [THREADS]

prints one line of JSON.  SPDX-License-Identifier: MIT"""

import json
import statistics
import sys
import time

import torch

SAMPLES, PIXELS = 1024, 784
CHECKED_STEPS = 200  # after which both programs' losses are compared
BLOCKS, BLOCK_S = 20, 0.05


def draw_all(seed, n, lo, hi):
    """Knuth's 64-bit linear congruential generator; the top 24 bits, scaled to [lo, hi)."""
    out, state = [], seed
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        out.append(state >> 40)
    return lo + (hi - lo) * (torch.tensor(out, dtype=torch.float32) / 16777216.0)


def parameter(shape, seed, fan_in):
    bound = fan_in**-0.5
    n = 1
    for size in shape:
        n *= size
    return torch.nn.Parameter(draw_all(seed, n, -bound, bound).reshape(shape))


def make_net():
    net = torch.nn.Sequential(
        torch.nn.Linear(PIXELS, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    net[0].weight = parameter((128, PIXELS), 2, PIXELS)
    net[0].bias = parameter((128,), 3, PIXELS)
    net[2].weight = parameter((10, 128), 4, 128)
    net[2].bias = parameter((10,), 5, 128)
    return net


def make_step(batch):
    net = make_net()
    optim = torch.optim.SGD(net.parameters(), lr=0.01)
    criterion = torch.nn.CrossEntropyLoss()
    images = draw_all(1, SAMPLES * PIXELS, 0, 1).reshape(-1, batch, PIXELS).unbind()
    labels = (torch.arange(SAMPLES) % 10).reshape(-1, batch).unbind()
    at = 0

    def step():
        nonlocal at
        loss = criterion(net(images[at]), labels[at])
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        at = (at + 1) % len(images)
        return loss

    return step


def step_seconds(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(step):
    """The median step of each block, in microseconds."""
    for _ in range(10):
        once = step_seconds(step)
    n = int(BLOCK_S / once) + 5
    return [1e6 * statistics.median(step_seconds(step) for _ in range(n)) for _ in range(BLOCKS)]


def main():
    name = sys.argv[1]
    if len(sys.argv) > 2:
        torch.set_num_threads(int(sys.argv[2]))
    step = make_step({"mlp1": 1, "mlp64": 64}[name])
    for _ in range(CHECKED_STEPS):
        loss = step()
    loss = loss.item()
    blocks = measure(step)
    print(
        json.dumps(
            {
                "name": name,
                "median_us": round(statistics.median(blocks), 2),
                "min_us": round(min(blocks), 2),
                "loss": round(loss, 6),
            }
        )
    )


if __name__ == "__main__":
    main()
