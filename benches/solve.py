#!/usr/bin/env python3
"""Times PyTorch's column loop of SparseGPT, and our solver, on a matrix of 1024 x 2816.

usage: benches/solve.py

The loop is that of the script that benches/compare.py runs, factor of the Hessian included; ours is `cargo bench --bench
sparsegpt`, which prints the factor (shared by all matrices of an input) and the solve apart.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT.parent / "shared/tools/peer/peer_torch.py"
PYTHON = Path(os.environ.get("PEER_VENV", Path.home() / ".cache/secateur-peer")) / "bin/python"

# Takes the one function out of the script, which would otherwise begin to prune a model.
LOOP = """
import ast, json, sys, time, torch
path, (rows, columns), rounds = sys.argv[1], (1024, 2816), 5
tree = ast.parse(open(path).read())
tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "sparsegpt"]
for name, pattern in (("50%", None), ("2:4", (2, 4))):
    world = {"torch": torch, "nm": pattern, "s": 0.5}
    exec(compile(tree, path, "exec"), world)
    torch.manual_seed(0)
    x = torch.randn(2 * columns, columns)
    hessian = x.t() @ x * (2 / len(x))
    class Statistics: pass
    times = []
    for _ in range(rounds):
        w, statistics = torch.randn(rows, columns), Statistics()
        statistics.h = hessian.clone()
        began = time.perf_counter()
        world["sparsegpt"](w, statistics)
        times.append(time.perf_counter() - began)
    print(json.dumps({"sparsity": name, "seconds": sorted(times)[rounds // 2]}))
"""


def main():
    if not PEER.exists() or not PYTHON.exists():
        sys.exit(f"needs {PEER} and the environment that its setup script makes ({PYTHON})")
    done = subprocess.run([PYTHON, "-c", LOOP, PEER], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        figures = json.loads(line)
        print(f"PyTorch, 1024 x 2816 at {figures['sparsity']}: {figures['seconds'] * 1e3:.0f} ms")
    subprocess.run(["cargo", "bench", "--bench", "sparsegpt"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
