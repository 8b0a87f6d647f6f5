#!/usr/bin/env python3
"""Products of matrices: libniz (a graph, and its kernel alone), OpenBLAS and oneDNN in turn.

    bench/gemm.py --build build [--threads 1 2] [--rounds 3] [--json result.json]

Two numbers of threads and three rounds take a minute and a half at most.
OpenBLAS and oneDNN are Debian's libopenblas-dev and libdnnl-dev; build/bench/gemm has them if they
were there when it was configured.  SPDX-License-Identifier: MIT"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys

LIBRARIES = ("graph", "kernel", "openblas", "onednn", "onednn_sgemm")
LARGE = 7  # the first rows; the others are small


def shape_of(row):
    return f"{row['m']}x{row['k']}x{row['n']}"


def run(program, library, threads):
    env = os.environ.copy()
    env.setdefault("NIZ_JIT", "sync")
    done = subprocess.run([program, library, str(threads)], stdout=subprocess.PIPE, text=True,
                          env=env)
    if done.returncode == 2:
        return None  # not built with it
    if done.returncode:
        sys.exit(f"gemm: {library} failed")
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_rounds(a, program, threads):
    """us[shape][library] and the worst error, the median of the rounds."""
    seen, errors = {}, {}
    for i in range(a.rounds):
        for library in LIBRARIES[i % len(LIBRARIES) :] + LIBRARIES[: i % len(LIBRARIES)]:
            for row in run(program, library, threads) or []:
                seen.setdefault(shape_of(row), {}).setdefault(library, []).append(row["median_us"])
                errors[library] = max(errors.get(library, 0), row["error"] / row["k"] ** 0.5)
        print(f"round {i + 1} of {a.rounds}, {threads} threads", file=sys.stderr)
    us = {s: {k: statistics.median(v) for k, v in row.items()} for s, row in seen.items()}
    return us, errors


def best(row, names):
    known = [row[n] for n in names if n in row]
    return min(known) if known else math.nan


def mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def goals(rows):
    """rows: [(shape, us)], the large ones first."""
    large, small = rows[:LARGE], rows[LARGE:]
    out = {}
    for who in ("graph", "kernel"):
        big = [best(us, ("onednn", "onednn_sgemm")) / us[who] for _, us in large]
        little = [best(us, ("openblas", "onednn", "onednn_sgemm")) / us[who] for _, us in small]
        out[who] = {"large_mean": mean(big), "large_worst": min(big), "small_mean": mean(little),
                    "large_met": mean(big) >= 0.92 and min(big) >= 0.85,
                    "small_met": mean(little) >= 1.0}
    return out


def print_table(threads, us, errors):
    print(f"\n{threads} threads: microseconds a product; ratio: the peer's time / libniz's")
    print(f"{'M x K x N':16}" + "".join(f"{n:>13}" for n in LIBRARIES)
          + f"{'kernel GF/s':>13}{'/ oneDNN':>10}{'/ better':>10}{'graph/better':>13}")
    for s, row in us.items():
        m, k, n = map(int, s.split("x"))
        blas = best(row, ("openblas", "onednn", "onednn_sgemm"))
        print(f"{s:16}" + "".join(f"{row.get(x, math.nan):13.2f}" for x in LIBRARIES)
              + f"{2e-3 * m * k * n / row['kernel']:13.1f}"
              + f"{best(row, ('onednn', 'onednn_sgemm')) / row['kernel']:10.2f}"
              + f"{blas / row['kernel']:10.2f}{blas / row['graph']:13.2f}")
    print("errors, / sqrt(K): " + ", ".join(f"{k} {v:.1e}" for k, v in errors.items()))
    result = goals(list(us.items()))
    for who, g in result.items():
        print(f"{who}: large, of oneDNN: mean {g['large_mean']:.3f} (goal 0.92), worst "
              f"{g['large_worst']:.3f} (0.85): {'met' if g['large_met'] else 'NOT MET'}; small, of "
              f"the better: mean {g['small_mean']:.3f} (1.0): "
              f"{'met' if g['small_met'] else 'NOT MET'}")
    return result


def main():
    p = argparse.ArgumentParser(description="GEMM: libniz, OpenBLAS, oneDNN")
    p.add_argument("--build", default="build")
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json")
    a = p.parse_args()
    program = str(pathlib.Path(a.build) / "bench/gemm")
    out = {}
    for threads in a.threads:
        us, errors = run_rounds(a, program, threads)
        out[threads] = {"us": us, "errors": errors, "goals": print_table(threads, us, errors)}
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
