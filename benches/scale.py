#!/usr/bin/env python3
"""Lets many worker processes compute thousands of tiny cells for one ledger, and kills some of them at random: how many
findings a second the ledger takes in, how much memory it needs, and whether anything is lost.

usage: benches/scale.py [--cells N] [--workers N] [--kill SHARE] [--seed N] [--secateur FILE]

The model is the smallest that `random_model` writes, with one block, so a cell costs little but its files. The same study
is run by one process, and both reports have to be equal but for times and memory.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=2000, help="cells of the study")
    parser.add_argument("--workers", type=int, default=64, help="worker processes at the same time")
    parser.add_argument("--kill", type=float, default=1 / 3, help="share of the workers that are killed at random")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--secateur", type=Path, default=ROOT / "target/release/secateur", help="the program")
    parser.add_argument("--random-model", type=Path, default=ROOT / "target/release/examples/random_model")
    return parser.parse_args()


def study(args, folder, store, *more):
    """The command of a study of so many levels of one method."""
    levels = ",".join(f"{(n + 1) / (args.cells + 1):.6f}" for n in range(args.cells))
    (folder / "empty.toml").touch()
    command = [args.secateur, "run", "--config", folder / "empty.toml", "--store", folder / store]
    command += ["--model", folder / "model", "--offline", "--device", "cpu", "--methods", "magnitude"]
    command += ["--sparsity", levels, "--corpus", folder / "corpus.txt", "--seq-len", "32", "--max-windows", "1"]
    return [str(part) for part in [*command, "--force", *more]]


def workers_of(ledger):
    """The processes that the ledger has started."""
    tasks = Path(f"/proc/{ledger}/task").glob("*/children")
    return [int(child) for children in tasks for child in children.read_text().split()]


def kill_some(args, process, killed, over):
    """Kills so many workers, spread over the run."""
    chance = random.Random(args.seed)
    count = round(args.kill * args.workers)
    while len(killed) < count and not over.is_set():
        time.sleep(chance.uniform(0.2, 1.5))
        workers = workers_of(process.pid) if process.poll() is None else []
        if len(workers) >= args.workers // 2:
            victim = chance.choice(workers)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)


def peak_of(process):
    """Most bytes that a process has held so far."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def with_workers(args, folder):
    """Runs the study with workers; seconds, findings and peak memory of the ledger, and the workers that were killed."""
    command = study(args, folder, "workers.db", "--workers", str(args.workers), "--format", "jsonl")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed, over, findings, began, peak = [], threading.Event(), 0, None, 0
    killer = threading.Thread(target=kill_some, args=(args, process, killed, over))
    errors = []
    listener = threading.Thread(target=lambda: errors.extend(process.stderr))
    listener.start()
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "cell_done" and event["cell"] is None:
            began = time.monotonic()
            killer.start()
        if event["event"] in ("module", "checkpoint", "metrics", "cell_done") and event.get("cell"):
            findings += 1
            if findings % 100 == 0:
                peak = max(peak, peak_of(process))
    seconds = time.monotonic() - began
    over.set()
    killer.join()
    assert process.wait() == 0, "".join(errors[-5:])
    listener.join()
    return seconds, findings, peak, len(killed)


def report(args, folder, store):
    """What a store has of its study, without times and memory."""
    command = [args.secateur, "show", "--store", folder / store, "--format", "json"]
    found = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout)

    def without_times(value):
        if isinstance(value, dict):
            times = ("seconds", "peak_rss_bytes", "created", "updated", "began", "finished", "store", "environment")
            return {key: without_times(item) for key, item in value.items() if key not in times}
        return [without_times(item) for item in value] if isinstance(value, list) else value

    return without_times(found)


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = [args.random_model, "--blocks", "1", folder / "model"]
        subprocess.run([str(part) for part in model], check=True, stdout=subprocess.DEVNULL)
        text = " ".join(f"word{n} comes after word{n - 1}." for n in range(400))
        (folder / "corpus.txt").write_text(text)
        began = time.monotonic()
        alone = study(args, folder, "alone.db", "--format", "jsonl")
        subprocess.run(alone, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        alone = time.monotonic() - began
        print(f"one process: {args.cells} cells in {alone:.1f} s")
        seconds, findings, peak, killed = with_workers(args, folder)
        print(
            f"{args.workers} workers, {killed} killed: {seconds:.1f} s, {findings} findings, "
            f"{findings / seconds:.0f} a second; the ledger held {peak / 2**20:.0f} MiB"
        )
        found, wanted = report(args, folder, "workers.db"), report(args, folder, "alone.db")
        assert len(found["cells"]) == args.cells
        assert found == wanted, "the figures differ"
        print("nothing is lost: the figures of all cells are those of one process")


if __name__ == "__main__":
    main()
