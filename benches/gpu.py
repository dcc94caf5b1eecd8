#!/usr/bin/env python3
"""Times whole cells on a GPU, and says how much of the time it was busy.

usage: benches/gpu.py [--preset llama2-7b|smollm2-135m | --model DIR] [--blocks N] [--samples N] [--windows N] [--seq-len N]

Without --model, `random_model` writes a model of the preset's shape into --folder, whose disk should be faster than the
GPU: /dev/shm, where there is room. One study of magnitude, Wanda and SparseGPT at 50% and GPTQ at 4 bits is run. Printed
are the seconds that the report has of every cell, the seconds from one cell's end to the next one's, the peak of host
memory, and nvidia-smi's samples of the GPU from the plan to the end. --device cpu tries the script without a GPU.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
RECIPES = ("magnitude@50%", "wanda@50%", "sparsegpt@50%", "gptq@4bit,group=64")
# How the figures of docs/performance.md were measured: samples, windows and tokens of a window.
SIZES = {"llama2-7b": (128, 64, 2048), "smollm2-135m": (32, 32, 512)}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--preset", choices=SIZES, default="llama2-7b", help="shape of the random model")
    parser.add_argument("--blocks", help="blocks of the random model, where not as many as the preset has")
    parser.add_argument("--model", type=Path, help="a folder in the place of a random model")
    parser.add_argument("--folder", type=Path, help="where the random model is written, and removed; else a temporary one")
    parser.add_argument("--calib", type=Path, default=SHARED / "data/text/c4_sample.txt", help="calibration text")
    parser.add_argument("--eval", type=Path, default=SHARED / "data/text/wikitext2_raw_test.txt", help="text to measure on")
    parser.add_argument("--samples", type=int, help="calibration windows; else the preset's")
    parser.add_argument("--windows", type=int, help="windows to measure; else the preset's")
    parser.add_argument("--seq-len", type=int, help="tokens of a window; else the preset's")
    parser.add_argument("--dtype", default="auto", help="precision")
    parser.add_argument("--device", default="cuda", help="device of the study")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="cells of the study")
    parser.add_argument("--secateur", type=Path, default=ROOT / "target/release/secateur", help="the program, built with --features cuda")
    parser.add_argument("--random-model", type=Path, default=ROOT / "target/release/examples/random_model")
    chosen = parser.parse_args()
    sizes = zip(("samples", "windows", "seq_len"), SIZES[chosen.preset])
    for name, size in sizes:
        if getattr(chosen, name) is None:
            setattr(chosen, name, size)
    return chosen


class GpuSamples:
    """What nvidia-smi says of the first GPU, five times a second."""

    def __init__(self):
        self.samples = []  # (time, share of the time that it was busy in percent, memory in MiB)
        query = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"]
        self.process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True) if shutil.which(query[0]) else None
        if self.process:
            threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            busy, memory = line.split(",")
            self.samples.append((time.perf_counter(), float(busy), float(memory)))

    def stop(self):
        if self.process:
            self.process.terminate()

    def said(self, since):
        seen = [(busy, memory) for at, busy, memory in self.samples if at >= since]
        if not seen:
            return "no samples of a GPU"
        busy = sum(busy for busy, _ in seen) / len(seen)
        return f"GPU busy {busy:.0f}% of the time ({len(seen)} samples), {max(m for _, m in seen) / 1024:.1f} GiB of its memory"


def study(args, model, folder):
    """Runs the study; its report, the seconds between cells, and a line on what it took."""
    (folder / "empty.toml").touch()
    command = [args.secateur, "run", "--config", folder / "empty.toml", "--store", folder / "s.db", "--model", model]
    command += ["--device", args.device, "--dtype", args.dtype, "--offline", "--format", "jsonl", "--sampling", "head"]
    command += ["--calibration", args.calib, "--calibration-samples", args.samples]
    command += ["--corpus", args.eval, "--max-windows", args.windows, "--seq-len", args.seq_len]
    command += [word for recipe in args.recipes for word in ("--recipe", recipe)]
    samples = GpuSamples()
    started = time.perf_counter()
    with open(folder / "said.txt", "w") as said:
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=said, text=True)
        begun, ended, between, report = started, None, {}, None
        for line in process.stdout:
            now, event = time.perf_counter(), json.loads(line)
            if event["event"] == "plan":
                begun = now
            elif event["event"] == "cell_done":
                ended = now
            elif event["event"] == "phase" and ended and event["phase"] == "prune":
                between[event["cell"]] = now - ended
                ended = None
            elif event["event"] == "finished":
                report = event["result"]
        _, status, usage = os.wait4(process.pid, 0)
    samples.stop()
    if status or report is None:
        raise SystemExit((folder / "said.txt").read_text()[-2000:])
    took = f"{time.perf_counter() - started:.1f} s in all, {usage.ru_maxrss / 2**20:.2f} GiB of host memory, {samples.said(begun)}"
    return report, between, took


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = args.model or Path(tempfile.mkdtemp(dir=args.folder or folder))
        try:
            if not args.model:
                blocks = ["--blocks", args.blocks] if args.blocks else []
                subprocess.run([args.random_model, "--preset", args.preset, *blocks, model], check=True)
            report, between, took = study(args, model, folder)
        finally:
            if not args.model:
                shutil.rmtree(model)
    print(f"{report['environment']['device']}, {report['environment']['compute_dtype']}: {took}")
    for cell in [report["base"], *report["cells"]]:
        seconds = {kind: spent for kind, spent in cell["seconds"].items() if spent}
        parts = ", ".join(f"{kind} {spent:.2f}" for kind, spent in seconds.items())
        wait = between.get(cell.get("id"))
        after = f"; begun {wait:.2f} s after the one before" if wait is not None else ""
        print(f"  {cell.get('id') or 'base':34} {sum(seconds.values()):7.2f} s ({parts}){after}")


main()
