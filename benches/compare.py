#!/usr/bin/env python3
"""Times secateur beside the same methods in PyTorch: same model, same windows, same text, taking turns.

usage: benches/compare.py [--quick] [--rounds N] [--methods magnitude,wanda,sparsegpt,gptq] [--windows 32] [--seq-len 512]

Two comparisons, in each of the rounds:

- cells: one method at --sparsity (gptq: at --bits and --group-size), calibrated and measured. secateur's time is what it
  reports of the cell (load, calibrate, prune, evaluate), with JS, KL and top-1 agreement besides perplexity; the peer's
  is load + prune + evaluate, perplexity alone. Both leave out starting the program. The peer's includes tokenising the
  texts, which secateur does once a run, before its first cell.
- the study: every method that prunes at each of --study-sparsity. secateur's time is the wall time of one run, base
  included; the peer's is the sum over its runs of load + prune + evaluate, with one more for the unpruned model.

Peak memory is what the kernel counted for each process. The peer of gptq is benches/gptq_peer.py, that of the others
../shared/tools/peer/peer_torch.py. Nothing but the standard library is needed here; the peers run in an environment of
their own.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
PRUNING = ("magnitude", "wanda", "sparsegpt")
METHODS = (*PRUNING, "gptq")
GPTQ_PEER = ROOT / "benches/gptq_peer.py"


@dataclass
class Run:
    """One process that ended well."""

    report: dict  # what it printed, a JSON object
    wall: float  # seconds
    peak: float  # resident memory at its highest, in MiB


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    home = Path.home() / ".cache/secateur-test-models/smollm2-135m-instruct"
    parser.add_argument("--model", type=Path, default=home, help="Hugging Face folder")
    parser.add_argument("--calib", type=Path, default=SHARED / "data/text/c4_sample.txt", help="calibration text")
    parser.add_argument("--eval", type=Path, default=SHARED / "data/text/wikitext2_raw_test.txt", help="text to measure on")
    parser.add_argument("--windows", type=int, default=32, help="windows of each text")
    parser.add_argument("--seq-len", type=int, default=512, help="tokens of a window")
    parser.add_argument("--rounds", type=int, default=2, help="times that everything is run")
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to compare")
    parser.add_argument("--sparsity", default="0.5", help="sparsity of the cells")
    parser.add_argument("--bits", default="4", help="bits of the gptq cell")
    parser.add_argument("--group-size", default="64", help="columns of a row that share a scale in the gptq cell")
    parser.add_argument("--study-sparsity", default="0.5,2:4", help="sparsities of the study; empty: no study")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of either")
    parser.add_argument("--quick", action="store_true", help="8 windows and one round, to see that it works")
    parser.add_argument("--secateur", type=Path, help="the binary; else it is built")
    parser.add_argument("--peer", type=Path, default=SHARED / "tools/peer/peer_torch.py", help="the peer's script")
    parser.add_argument("--peer-python", help="Python with torch; else setup-peer.sh beside the peer makes one")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.windows, chosen.rounds = 8, 1
    chosen.methods = words(chosen.methods)
    chosen.study_sparsity = words(chosen.study_sparsity)
    unknown = [method for method in chosen.methods if method not in METHODS]
    if unknown or not chosen.methods:
        parser.error(f"--methods: accepted are {', '.join(METHODS)}")
    for path in (chosen.model, chosen.calib, chosen.eval, chosen.peer):
        if not path.exists():
            parser.error(f"{path}: no such file or folder")
    return chosen


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def build():
    """Builds the release binary and says where it is."""
    subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/secateur"


def peer_python(peer):
    """The Python that the peer's own script sets up; its last line of output is the path."""
    script = peer.with_name("setup-peer.sh")
    done = subprocess.run(["bash", script], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[-1]


def run(command, **options):
    """Runs a process to its end, alone in being waited for, so that its own memory is known."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=err, **options)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        printed, said = out.read().decode(), err.read().decode()
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{said[-2000:]}")
    return Run(json.loads(printed[printed.index("{") :]), wall, usage.ru_maxrss / 1024)


class Bench:
    """Both programs, on one model and two texts."""

    def __init__(self, chosen, folder):
        self.chosen = chosen
        self.folder = folder
        self.binary = (chosen.secateur or build()).resolve()
        self.python = chosen.peer_python or peer_python(chosen.peer)
        # Settings come from the command line alone.
        (folder / "empty.toml").touch()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("SECATEUR_")}

    def peer(self, method, sparsity):
        c = self.chosen
        if method == "gptq":
            command = [self.python, GPTQ_PEER, "--model", c.model, "--bits", c.bits, "--group", c.group_size]
        else:
            command = [self.python, c.peer, "--model", c.model, "--method", method, "--sparsity", sparsity]
        command += ["--calib", c.calib, "--nsamples", c.windows, "--seqlen", c.seq_len]
        command += ["--eval", c.eval, "--eval-max-windows", c.windows, "--threads", c.threads]
        return run(command)

    def ours(self, recipes):
        c = self.chosen
        store = self.folder / "store"
        command = [self.binary, "run", "--config", self.folder / "empty.toml", "--store", store / "studies.db"]
        command += ["--model", c.model.resolve()]
        for recipe in recipes:
            command += ["--recipe", recipe]
        command += ["--calibration", c.calib.resolve(), "--calibration-samples", c.windows, "--sampling", "head"]
        command += ["--corpus", c.eval.resolve(), "--max-windows", c.windows, "--seq-len", c.seq_len]
        command += ["--device", "cpu", "--threads", c.threads, "--offline", "--format", "json"]
        done = run(command, env=self.environment)
        # Every run begins from nothing, and leaves its disk to the next.
        shutil.rmtree(store)
        return done


def recipe(chosen, method, sparsity):
    """What a cell is called on secateur's command line."""
    if method == "gptq":
        return f"gptq@{chosen.bits}bit,group={chosen.group_size}"
    return f"{method}@{sparsity}"


def cell_seconds(cell):
    return sum(cell["seconds"][part] for part in ("load", "calibrate", "prune", "evaluate"))


def peer_seconds(report, load=True):
    return report["prune_s"] + report["eval_s"] + (report["load_s"] if load else 0.0)


def perplexity(cell):
    found = next(found for found in cell["metrics"] if found["score"] == "perplexity")
    return float(found["value"])


def row(name, values, unit="s"):
    """The runs of one figure and their median, on one line; returns the median."""
    median = statistics.median(values)
    runs = "  ".join(f"{value:9.2f}" for value in values)
    print(f"  {name:<34} {median:9.2f} {unit:<3}   runs: {runs}")
    return median


def ratio(name, peer, ours):
    print(f"  {name:<34} {peer / ours:9.2f} x")


def compare_cells(pairs):
    """One method: `pairs` are the peer's run and ours of every round."""
    peers, ours = [peer for peer, _ in pairs], [our.report["cells"][0] for _, our in pairs]
    with_load = row("peer, load + prune + evaluate", [peer_seconds(p.report) for p in peers])
    without = row("peer, prune + evaluate", [peer_seconds(p.report, load=False) for p in peers])
    mine = row("secateur, the cell", [cell_seconds(cell) for cell in ours])
    ratio("speed against the peer", with_load, mine)
    ratio("the same, its loading left out", without, mine)
    theirs = row("peer, peak memory", [p.peak for p in peers], "MiB")
    ratio("memory", theirs, row("secateur, peak memory", [our.peak for _, our in pairs], "MiB"))
    print(f"  perplexity: peer {peers[-1].report['ppl']:.3f}, secateur {perplexity(ours[-1]):.3f}")


def compare_studies(rounds):
    """`rounds` are, for each round, the peer's runs and our one."""
    sums = [sum(peer_seconds(p.report) for p in peers) for peers, _ in rounds]
    theirs = row(f"peer, {len(rounds[0][0])} runs", sums)
    mine = row("secateur, wall time of one run", [our.wall for _, our in rounds])
    ratio("speed against the peer", theirs, mine)
    memory = row("peer, highest peak memory", [max(p.peak for p in peers) for peers, _ in rounds], "MiB")
    ratio("memory", memory, row("secateur, peak memory", [our.peak for _, our in rounds], "MiB"))


def main():
    chosen = arguments()
    cells = {method: [] for method in chosen.methods}
    pruning = [method for method in chosen.methods if method in PRUNING]
    grid = [(method, sparsity) for method in pruning for sparsity in chosen.study_sparsity]
    studies = []
    with tempfile.TemporaryDirectory(prefix="secateur-compare-") as folder:
        bench = Bench(chosen, Path(folder))
        print(f"model        {chosen.model}")
        print(f"texts        {chosen.windows} windows of {chosen.seq_len} tokens: {chosen.calib.name}, {chosen.eval.name}")
        print(f"machine      {chosen.threads} threads, load {os.getloadavg()[0]:.2f} before the first run", flush=True)
        for number in range(chosen.rounds):
            print(f"round {number + 1} of {chosen.rounds}", file=sys.stderr)
            known = {}
            for method in chosen.methods:
                peer = bench.peer(method, chosen.sparsity)
                known[method, chosen.sparsity] = peer
                cells[method].append((peer, bench.ours([recipe(chosen, method, chosen.sparsity)])))
            if grid:
                # What the peer has run in this round already stands for itself in its sum.
                peers = [known.get(cell) or bench.peer(*cell) for cell in [("dense", "0"), *grid]]
                studies.append((peers, bench.ours([recipe(chosen, *cell) for cell in grid])))
    for method, pairs in cells.items():
        print(f"\n{recipe(chosen, method, chosen.sparsity)} (median, then every run)")
        compare_cells(pairs)
    if studies:
        print(f"\nstudy of {', '.join(recipe(chosen, *cell) for cell in grid)} (median, then every run)")
        compare_studies(studies)


if __name__ == "__main__":
    main()
