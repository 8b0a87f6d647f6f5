#!/usr/bin/env python3
"""First steps, compiled kernels and memory: libniz with an empty and a full cache, and the peers.

    bench/start.py --build build [--python PATH] [--rounds 5] [--json result.json]

Times are milliseconds from the process's start, which this script takes before it starts it.
SPDX-License-Identifier: MIT"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import compare

WORKS = ("mlp1", "mlp64", "mlp_adam128", "fuse4m", "softmax2m")
KERNELS = re.compile(r"(\d+) in memory, (\d+) on disk, (\d+) compiled, (\d+) failed")


def run(command, **env):
    """The program's line, and how many kernels it says it compiled and found on disk."""
    env = os.environ | {"NIZ_STATS": "1", "PYTHONDONTWRITEBYTECODE": "1"} | env
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    if done.returncode or not done.stdout.strip():
        print(f"start: {' '.join(command)} failed\n{done.stderr[-1000:]}")
        return {}
    out = json.loads(done.stdout.splitlines()[-1])
    seen = KERNELS.search(done.stderr)
    if seen:
        out["on_disk"], out["compiled"] = int(seen[2]), int(seen[3])
    return out


def first(program, name, cache):
    t0 = str(time.monotonic_ns())
    return run([program, "first", name, t0], NIZ_JIT="async", XDG_CACHE_HOME=cache)


def peer(python, script, name):
    here = str(compare.HERE / script[0])
    return run([python, here, *script[1:], name], BENCH_T0=str(time.monotonic_ns()))


def medians(rows):
    rows = [r for r in rows if r]
    keys = [k for k in rows[0] if k != "name"] if rows else []
    return {k: statistics.median(r[k] for r in rows if k in r) for k in keys}


def first_steps(program, rounds):
    out = {}
    for name in WORKS:
        cold, warm = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                cold.append(first(program, name, cache))
                warm.append(first(program, name, cache))
        out[name] = {"cold": medians(cold), "warm": medians(warm)}
    return out


def print_first(rows):
    print("libniz, ms from process start: first step done / compiled kernels in use; kernel texts "
          "compiled")
    for name, r in rows.items():
        text = ""
        for how in ("cold", "warm"):
            x = r[how]
            used = x.get("compiled_ms", -1)
            data = x.get("opened_ms", 0) - x.get("main_ms", 0)
            text += (f"   {how} {x.get('first_ms', -1):7.1f} (data {data:.1f}) / "
                     f"{f'{used:.1f}' if used >= 0 else '?'}, {x.get('compiled', '?')} compiled")
        print(f"  {name:12}{text}")
    print("  goals (mlp64): cold <= 50 / 500; warm <= 20, 0 compiled")


def batch_sizes(program, name):
    out = {}
    for count in (1, 2, 50):
        with tempfile.TemporaryDirectory() as cache:
            seen = run([program, "batches", name, str(count)], NIZ_JIT="sync", XDG_CACHE_HOME=cache)
            out[count] = seen.get("compiled")
    print(f"kernel texts compiled by {name} after 1, 2 and 50 batch sizes: {out[1]}, {out[2]}, "
          f"{out[50]}; goal: none after the second")
    return out


def memory(program):
    m = run([program, "memory", "mlp_adam128"])
    print(f"mlp_adam128, 50 steps: at most {m['peak_kib']} KiB resident; parameters and state "
          f"{m['params_and_state'] // 1024}, data {m['data'] // 1024}, plan "
          f"{m['plan_peak'] // 1024}; goal <= {m['bound_kib']:.0f}: {'met' if m['met'] else 'NOT MET'}")
    return m


def peers(python):
    out = {}
    scripts = {"torch": ("peer_torch.py", "eager"), "compile": ("peer_torch.py", "compile"),
               "jax": ("peer_jax.py",)}
    for who, script in scripts.items():
        for name in ("mlp64", "mlp_adam128"):
            r = out[f"{who} {name}"] = peer(python, script, name)
            print(f"{compare.PEERS[who]:14} {name:12} first step {r.get('from_start_ms', -1):8.0f} "
                  f"ms from process start; at most {r.get('peak_kib', -1)} KiB resident")
    return out


def main():
    p = argparse.ArgumentParser(description="first steps, compiled kernels, memory")
    p.add_argument("--build", default="build")
    p.add_argument("--python", help="an interpreter with PyTorch and JAX, as for compare.py")
    p.add_argument("--no-peers", action="store_true")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--json")
    a = p.parse_args()
    program = str(pathlib.Path(a.build) / "bench/start")
    out = {"first": first_steps(program, a.rounds)}
    print_first(out["first"])
    out["batches"] = batch_sizes(program, "mlp64")
    out["memory"] = memory(program)
    if not a.no_peers:
        out["peers"] = peers(a.python or compare.private_python())
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
