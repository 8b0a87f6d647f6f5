"""What the peers of bench/works share: the same numbers as bench/numbers.c, the data of each work,
and the same statistic as bench/timing.c.

SPDX-License-Identifier: MIT"""

import json
import os
import resource
import statistics
import time

import numpy as np

T, TOKENS = 64, 96
BLOCKS, BLOCK_S, CALLS_MIN, CALLS_MAX = 15, 0.05, 3, 20000
FUSE = 1 << 22
ROWS, COLUMNS = 4096, 512
STEPS14, WIDTH14 = 200, 14

# name: (batch, batches, steps after which the numbers are compared), as in bench/works_*.c
WORKS = {
    "mlp1": (1, 1024, 200),
    "mlp64": (64, 16, 200),
    "mlp_adam128": (128, 8, 30),
    "lenet64": (64, 8, 10),
    "resnet32": (32, 8, 10),
    "lstm32": (32, 8, 10),
    "gru16": (16, 8, 10),
    "gpt8": (8, 8, 10),
    "fuse4m": (1, 1, 1),
    "softmax2m": (1, 1, 1),
    "hvp64": (64, 16, 5),
    "lstm14": (1, 1, 1),
}


# ---- numbers ------------------------------------------------------------------------------------

A, B, MASK = 6364136223846793005, 1442695040888963407, (1 << 64) - 1


def draws(seed, n):
    """Knuth's 64-bit linear congruential generator; the top 24 bits as [0, 1).  The stretch that
    exists, m draws, gives the next m by one multiplication and addition: x -> a x + b, m times."""
    state = np.empty(n, np.uint64)
    state[0] = (seed * A + B) & MASK
    m, a, b = 1, A, B
    while m < n:
        k = min(m, n - m)
        state[m : m + k] = state[:k] * np.uint64(a) + np.uint64(b)
        m, a, b = m + k, a * a & MASK, (a * b + b) & MASK
    return (state >> np.uint64(40)).astype(np.float64) / 16777216.0


def floats(seed, n, lo, hi, dtype=np.float32):
    return (lo + (hi - lo) * draws(seed, n)).astype(dtype)


def integers(seed, n, count):
    return (draws(seed, n) * count).astype(np.int32)


def parameter(name, shape, dtype=np.float32):
    """The values of numbers_params in bench/numbers.c."""
    seed = 14695981039346656037
    for c in name.encode():
        seed = (seed ^ c) * 1099511628211 & MASK
    n = int(np.prod(shape))
    if len(shape) < 2 and name.endswith("weight"):
        return np.ones(shape, dtype)
    bound = (shape[0] / n) ** 0.5 if len(shape) > 1 else 0.1 if name.endswith("bias") else 0.5
    return floats(seed, n, -bound, bound, dtype).reshape(shape)


# ---- data ---------------------------------------------------------------------------------------


def data(name):
    """The work's data: arrays with the batch in front, a list for each batch."""
    batch, batches, _ = WORKS[name]
    n = batch * batches
    if name == "fuse4m":
        return [(floats(1, FUSE, -2, 2), floats(2, FUSE, -2, 2))]
    if name == "softmax2m":
        return [(floats(1, ROWS * COLUMNS, -2, 2).reshape(ROWS, COLUMNS),)]
    if name == "lstm14":
        return [(floats(1, STEPS14 * WIDTH14, -1, 1, np.float64).reshape(STEPS14, WIDTH14),)]
    if name in ("lstm32", "gru16", "gpt8"):
        x = integers(1, n * T, TOKENS).reshape(batches, batch, T)
        return list(zip(x, integers(2, n * T, TOKENS).reshape(batches, batch * T)))
    sample = {"lenet64": (1, 28, 28), "resnet32": (3, 32, 32)}.get(name, (784,))
    x = floats(1, n * int(np.prod(sample)), 0, 1).reshape(batches, batch, *sample)
    return list(zip(x, integers(2, n, 10).reshape(batches, batch)))


def hvp_vectors(shapes):
    """A vector for each parameter, in the order of the shapes."""
    sizes = [int(np.prod(s)) for s in shapes]
    v = np.split(floats(3, sum(sizes), -1, 1), np.cumsum(sizes)[:-1])
    return [x.reshape(s) for x, s in zip(v, shapes)]


# ---- the statistic ------------------------------------------------------------------------------


def seconds(step):
    start = time.perf_counter()
    step(False)
    return time.perf_counter() - start


def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(name, step):
    """step(check) does one step; with check, it returns the number to compare."""
    start = time.perf_counter()
    check = step(True)
    first = time.perf_counter() - start
    stepped = time.monotonic_ns()
    for _ in range(WORKS[name][2] - 1):
        check = step(True)
    if "BENCH_T0" in os.environ:  # bench/start.py asks for the start alone
        from_start = round((stepped - int(os.environ["BENCH_T0"])) / 1e6, 2)
        out = {"name": name, "from_start_ms": from_start, "peak_kib": peak_kib()}
        return print(json.dumps(out))
    for _ in range(10):
        step(False)
    once = statistics.median(seconds(step) for _ in range(5))
    n = min(max(int(BLOCK_S / once), CALLS_MIN), CALLS_MAX)
    blocks = [1e6 * statistics.median(seconds(step) for _ in range(n)) for _ in range(BLOCKS)]
    out = {
        "name": name,
        "median_us": round(statistics.median(blocks), 2),
        "min_us": round(min(blocks), 2),
        "check": float(f"{check:.9g}"),
        "first_ms": round(1e3 * first, 2),
        "peak_kib": peak_kib(),
    }
    print(json.dumps(out))
