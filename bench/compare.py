#!/usr/bin/env python3
"""Runs the works of libniz, PyTorch eager, torch.compile and JAX in turn; prints times and ratios.

    bench/compare.py --build build                    # all works, 1 thread and all cores, 5 rounds
    bench/compare.py --build build mlp64 gpt8 --threads 2 --rounds 9 --json result.json

Every program prints one line of JSON: {"name", "median_us", "min_us", "check", "first_ms",
"peak_kib"}.  The checks must agree: they show that all did the same work.

SPDX-License-Identifier: MIT"""

import argparse
import json
import os
import pathlib
import platform
import resource
import signal
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TORCH, JAX = "2.13.0", "0.10.2"
MEMORY = 10 << 30  # bytes of a program: one that unrolls 200 steps must not take the machine down
INDEX = "https://download.pytorch.org/whl/cpu"
PEERS = {"torch": "PyTorch", "compile": "torch.compile", "jax": "JAX"}

# name: by what factor libniz should be faster than which peers, with all threads.  The second five
# are the goals in microseconds of the design's table of speeds, over its best peer.
GOALS = {
    "mlp1": {"jax": 7, "torch": 20},
    "mlp64": {"jax": 2.2, "torch": 3},
    "mlp_adam128": {"jax": 1.2, "torch": 2},
    "fuse4m": {"compile": 2.4, "jax": 4},
    "softmax2m": {"compile": 1.8, "torch": 3},
    "hvp64": {"jax": 1.25, "compile": 2},
    "lenet64": {"torch": 1.88},
    "resnet32": {"compile": 1.67},
    "lstm32": {"torch": 1.37},
    "gru16": {"jax": 2.46},
    "gpt8": {"compile": 1.68},
    "lstm14": {"torch": 15},
    "mlp1_call": {"jax": 9},
    "lstm14_call": {"torch": 100},
}


def read_arguments():
    p = argparse.ArgumentParser(description="libniz and its peers side by side")
    p.add_argument("names", nargs="*", help="which works (default: all): " + " ".join(GOALS))
    p.add_argument("--build", default="build", help="libniz's build directory (default: build)")
    p.add_argument("--python", help="an interpreter that has PyTorch and JAX (default: a private "
                   f"environment in ~/.cache/niz-bench, made when missing, with {TORCH}, {JAX})")
    cores = os.cpu_count() or 1
    p.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores}))
    p.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--limit", type=int, default=240, help="seconds a program may take")
    p.add_argument("--json", help="write the result to this file, too")
    a = p.parse_args()
    for name in a.names:
        if name not in GOALS:
            p.error(f"there is no work {name}: " + " ".join(GOALS))
    if min(a.threads) < 1 or a.rounds < 1:
        p.error("threads and rounds are at least 1")
    a.names = a.names or list(GOALS)
    return a


def private_python():
    """The interpreter of an environment of our own, with the peers in it."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    home = cache / "niz-bench" / f"torch-{TORCH}-jax-{JAX}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        print(f"installing torch {TORCH} and jax {JAX} into {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        # the CPU build is a tenth of the size; if it cannot be had, the usual one serves
        small = pip + [f"torch=={TORCH}", "--index-url", INDEX, "--retries", "0"]
        if subprocess.run(small, stderr=subprocess.DEVNULL).returncode:
            subprocess.run(pip + [f"torch=={TORCH}"], check=True)
        subprocess.run(pip + [f"jax=={JAX}", "numpy"], check=True)
        (home / "complete").touch()
    return str(python)


def bounded():
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def run(command, limit):
    """What the program printed, or why it printed nothing: a dictionary in any case."""
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    env.setdefault("NIZ_JIT", "sync")
    try:
        p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=env, start_new_session=True, preexec_fn=bounded)
    except OSError as e:
        sys.exit(f"compare: cannot run {command[0]}: {e.strerror}; see --build and --python")
    try:
        out, err = p.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)  # with the compilers that it has started
        p.communicate()
        return {"failed": f"> {limit} s"}
    if p.returncode or not out.strip():
        print(f"compare: {' '.join(command)} failed ({p.returncode})\n{err[-2000:]}",
              file=sys.stderr)
        return {"failed": "failed"}
    return json.loads(out.splitlines()[-1])


def commands(a, python, name, threads):
    works, t = str(pathlib.Path(a.build) / "bench/works"), str(threads)
    peer = name.removesuffix("_call")  # only libniz has a second way to do the same
    all_of_them = {
        "niz": [works, name, t],
        "torch": [python, str(HERE / "peer_torch.py"), "eager", peer, t],
        "compile": [python, str(HERE / "peer_torch.py"), "compile", peer, t],
        "jax": [python, str(HERE / "peer_jax.py"), peer, t],
    }
    return {who: c for who, c in all_of_them.items() if who == "niz" or who in a.peers}


def rotated(items, by):
    items = list(items)
    by %= len(items)
    return items[by:] + items[:by]


def run_rounds(a, python):
    """results["mlp64, 2"]["niz"]: what the program printed in each round."""
    results = {}
    for i in range(a.rounds):
        for threads in a.threads:
            for name in a.names:
                row = results.setdefault(f"{name}, {threads}", {})
                # another one begins each round: a machine that slows down favours nobody
                for who, command in rotated(commands(a, python, name, threads).items(), i):
                    seen = row.setdefault(who, [])
                    if not seen or "failed" not in seen[-1]:  # what failed once is not tried again
                        seen.append(run(command, a.limit))
                print(f"round {i + 1} of {a.rounds}: {name}, {threads} threads", file=sys.stderr)
    return results


def summary_of(name, threads, runs, most):
    row = {"name": name, "threads": threads, "us": {}, "ratio": {}, "failed": {}, "goal": {}}
    for who, seen in runs.items():
        good = [x for x in seen if "failed" not in x]
        if len(good) < len(seen):
            row["failed"][who] = seen[-1]["failed"]
        else:
            row["us"][who] = statistics.median(x["median_us"] for x in good)
    for who in PEERS:
        if who in row["us"] and "niz" in row["us"]:
            pairs = zip(runs["niz"], runs[who])
            row["ratio"][who] = statistics.median(t["median_us"] / n["median_us"] for n, t in pairs)
    for who, factor in GOALS[name].items():
        if threads == most and who in runs and "niz" in row["us"]:
            met = row["ratio"][who] >= factor if who in row["ratio"] else None
            row["goal"][who] = {"factor": factor, "met": met}  # None: the peer has no time
    checks = {who: seen[0]["check"] for who, seen in runs.items() if "check" in seen[0]}
    row["checks"] = checks
    ends = sorted(checks.values()) or [0.0, 1.0]
    row["same_work"] = ends[-1] - ends[0] <= 1e-3 * abs(ends[-1])
    for what in ("first_ms", "peak_kib"):
        row[what] = {who: seen[0][what] for who, seen in runs.items() if what in seen[0]}
    return row


def cpu_name():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cell(row, who):
    if who in row["failed"]:
        return f"{row['failed'][who]:>18}"
    if who not in row["us"]:
        return f"{'-':>18}"
    ratio = f"{row['ratio'][who]:.2f}" if who in row["ratio"] else "-"
    return f"{row['us'][who]:11.1f} {ratio:>6}"


def goal_text(row):
    parts = []
    for who, g in row["goal"].items():
        said = {True: "met", False: "NOT MET", None: "not known"}[g["met"]]
        parts.append(f"{g['factor']:g} x {PEERS[who]}: {said}")
    return "; ".join(parts)


def print_table(machine, rows):
    print(f"{machine['cpu']}, {machine['cores']} cores; PyTorch {TORCH}, JAX {JAX}; "
          f"load {machine['load']:.1f} before; {machine['rounds']} rounds")
    print("one step in microseconds, the median of the rounds; then the median of their ratios to "
          "libniz")
    print(f"{'work':13}{'threads':>7}{'libniz':>11}" + "".join(f"{p:>18}" for p in PEERS.values())
          + "  goal")
    for r in rows:
        niz = f"{r['us']['niz']:11.1f}" if "niz" in r["us"] else f"{r['failed']['niz']:>11}"
        print(f"{r['name']:13}{r['threads']:>7}{niz}" + "".join(cell(r, who) for who in PEERS)
              + "  " + goal_text(r))
        if not r["same_work"]:
            print(f"  not the same work: {r['checks']}")


def main():
    a = read_arguments()
    python = a.python or private_python()
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "rounds": a.rounds,
               "load": os.getloadavg()[0]}
    results = run_rounds(a, python)
    rows = [summary_of(*key.split(", "), runs, str(max(a.threads)))
            for key, runs in results.items()]
    print_table(machine, rows)
    if a.json:
        text = json.dumps({"machine": machine, "summary": rows, "rounds": results}, indent=1)
        pathlib.Path(a.json).write_text(text + "\n")
    sys.exit(0 if all(r["same_work"] and "niz" in r["us"] for r in rows) else 1)


if __name__ == "__main__":
    main()
