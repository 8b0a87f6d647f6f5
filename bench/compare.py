#!/usr/bin/env python3
"""Runs libniz's benchmarks and the same work in PyTorch, in turn, and prints both and the ratio.

    bench/compare.py --build build              # all of them, 5 rounds
    bench/compare.py --build build mlp64 --threads 1 --rounds 9 --json result.json

A pair of programs takes the benchmark's name and the number of threads as arguments and prints one
line of JSON: {"name", "median_us", "min_us", "loss"}.  The losses must agree: they show that both
did the same work.  To add a pair, add a row to PAIRS.

SPDX-License-Identifier: MIT"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TORCH = "2.13.0"
INDEX = "https://download.pytorch.org/whl/cpu"

# name: (program in the build directory, PyTorch script beside this file)
PAIRS = {
    "mlp1": ("bench/mlp", "mlp.py"),
    "mlp64": ("bench/mlp", "mlp.py"),
}


def read_arguments():
    p = argparse.ArgumentParser(description="libniz and PyTorch side by side")
    p.add_argument("names", nargs="*", help="which benchmarks (default: all): " + " ".join(PAIRS))
    p.add_argument("--build", default="build", help="libniz's build directory (default: build)")
    p.add_argument("--python", help=f"an interpreter that has PyTorch (default: a private "
                   f"environment in ~/.cache/niz-bench, made when missing, with torch {TORCH})")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="for both")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--json", help="write the result to this file, too")
    a = p.parse_args()
    for name in a.names:
        if name not in PAIRS:
            p.error(f"there is no benchmark {name}: " + " ".join(PAIRS))
    if a.threads < 1 or a.rounds < 1:
        p.error("threads and rounds are at least 1")
    a.names = a.names or list(PAIRS)
    return a


def private_python():
    """The interpreter of an environment of our own, with PyTorch in it."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    home = cache / "niz-bench" / f"torch-{TORCH}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        print(f"installing torch {TORCH} into {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        wanted = [f"torch=={TORCH}", "numpy"]
        # the CPU build is a tenth of the size; if it cannot be had, the usual one serves
        small = pip + wanted + ["--index-url", INDEX, "--retries", "0"]
        if subprocess.run(small, stderr=subprocess.DEVNULL).returncode:
            subprocess.run(pip + wanted, check=True)
        (home / "complete").touch()
    return str(python)


def run(command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except OSError as e:
        sys.exit(f"compare: cannot run {command[0]}: {e.strerror}; see --build and --python")
    if done.returncode:
        sys.exit(f"compare: {' '.join(command)} failed")
    return json.loads(done.stdout)


def run_rounds(a, python):
    """results[name]["niz" or "torch"]: what the program printed in each round."""
    results = {name: {"niz": [], "torch": []} for name in a.names}
    for i in range(a.rounds):
        for name in a.names:
            program, script = PAIRS[name]
            commands = {
                "niz": [str(pathlib.Path(a.build) / program), name, str(a.threads)],
                "torch": [python, str(HERE / script), name, str(a.threads)],
            }
            # A B, B A, A B ...: a machine that slows down or speeds up favours neither
            for who in list(commands)[:: 1 if i % 2 == 0 else -1]:
                results[name][who].append(run(commands[who]))
        print(f"round {i + 1} of {a.rounds}", file=sys.stderr)
    return results


def summary(results):
    out = {}
    for name, r in results.items():
        row = {}
        for who in ("niz", "torch"):
            row[who + "_median_us"] = statistics.median(x["median_us"] for x in r[who])
            row[who + "_min_us"] = min(x["min_us"] for x in r[who])
        pairs = zip(r["niz"], r["torch"])
        row["ratio"] = statistics.median(t["median_us"] / n["median_us"] for n, t in pairs)
        row["ratio_of_minima"] = row["torch_min_us"] / row["niz_min_us"]
        n, t = r["niz"][0]["loss"], r["torch"][0]["loss"]
        row["same_work"] = abs(n - t) <= 1e-3 * abs(t)
        row["losses"] = [n, t]
        out[name] = row
    return out


def cpu_name():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def print_table(machine, rows):
    print(f"{machine['cpu']}, {machine['cores']} cores; {machine['threads']} threads; "
          f"PyTorch {machine['torch']}; load {machine['load']:.1f} before")
    print(f"{'one step, us':14}{'libniz median':>14}{'min':>9}{'PyTorch median':>16}{'min':>9}"
          f"{'ratio':>8}{'of minima':>11}")
    for name, r in rows.items():
        print(f"{name:14}{r['niz_median_us']:14.1f}{r['niz_min_us']:9.1f}"
              f"{r['torch_median_us']:16.1f}{r['torch_min_us']:9.1f}{r['ratio']:8.2f}"
              f"{r['ratio_of_minima']:11.2f}")
        if not r["same_work"]:
            print(f"  not the same work: losses {r['losses'][0]} and {r['losses'][1]}")


def main():
    a = read_arguments()
    python = a.python or private_python()
    version = run([python, "-c", "import json, torch; print(json.dumps(torch.__version__))"])
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": a.threads,
               "torch": version, "load": os.getloadavg()[0]}
    results = run_rounds(a, python)
    rows = summary(results)
    print_table(machine, rows)
    text = json.dumps({"machine": machine, "summary": rows, "rounds": results}, indent=1)
    if a.json:
        pathlib.Path(a.json).write_text(text + "\n")
    else:
        print(json.dumps({"machine": machine, "summary": rows}))
    sys.exit(0 if all(r["same_work"] for r in rows.values()) else 1)


if __name__ == "__main__":
    main()
