#!/usr/bin/env python3
"""GPTQ in PyTorch (arXiv 2210.17323), for benches/compare.py: what secateur's gptq cells are timed against.

usage: benches/gptq_peer.py --model DIR --calib FILE --eval FILE [--bits 4] [--group 64] [--nsamples 32] [--seqlen 512]
                            [--eval-max-windows 32] [--threads 2]

Written from the paper's equations, as PyTorch is written: the Hessian is collected by hooks and factorised by LAPACK,
columns are solved one by one for all rows at once, in blocks of 128. As in the authors' script, the model is
transformers', in float32, its blocks are calibrated one after another, and every Linear has a Hessian of its own. The
grid is asymmetric, its scales are rounded to the dtype of the model's files.

Windows are the head of the tokenised file. Prints one JSON object: seconds of each phase, and the perplexity.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer

BLOCK = 128  # columns solved together
DAMPING = 0.01  # share of the Hessian's mean diagonal that is added to it


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--calib", type=Path, required=True, help="calibration text")
    parser.add_argument("--eval", type=Path, required=True, help="text to measure on")
    parser.add_argument("--bits", type=int, default=4, help="bits of a weight")
    parser.add_argument("--group", type=int, default=64, help="columns of a row that share a scale")
    parser.add_argument("--nsamples", type=int, default=32, help="calibration windows")
    parser.add_argument("--seqlen", type=int, default=512, help="tokens of a window")
    parser.add_argument("--eval-max-windows", type=int, default=32, help="windows to measure on")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def windows(folder, path, count, length):
    """The first tokens of a text, `[count, length]`."""
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(path.read_text(encoding="utf-8")).ids
    return torch.tensor(tokens[: count * length]).view(-1, length)


class Hessian:
    """Mean over the windows of 2 Σ x xᵀ, for the inputs of one Linear."""

    def __init__(self, width):
        self.seen = 0
        self.sum = torch.zeros(width, width)

    def add(self, inputs):
        x = inputs.flatten(0, -2)
        self.sum.addmm_(x.T, x)
        self.seen += 1

    def mean(self):
        return self.sum.mul_(2 / self.seen)


class Grid:
    """Codes 0 … 2^bits − 1 with a scale and a zero for each row of `weights`, `[rows, group]`."""

    def __init__(self, weights, bits, dtype):
        low, high = weights.amin(1).clamp(max=0), weights.amax(1).clamp(min=0)
        empty = low == high
        low[empty], high[empty] = -1, 1
        self.most = 2**bits - 1
        # What is exported is what is computed with.
        self.scale = ((high - low) / self.most).to(dtype).float()
        self.zero = (-low / self.scale).round().clamp(0, self.most)

    def nearest(self, column):
        code = ((column / self.scale).round() + self.zero).clamp(0, self.most)
        return self.scale * (code - self.zero)


def gptq(weights, hessian, bits, group, dtype):
    """Puts `weights`, `[rows, columns]`, on the grid in place."""
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    weights[:, dead] = 0
    diagonal.add_(DAMPING * diagonal.mean())
    # H⁻¹ = Uᵀ U: row i of U says how the columns from i on make up for an error in column i.
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    columns = weights.shape[1]
    for start in range(0, columns, BLOCK):
        end = min(start + BLOCK, columns)
        block, factor = weights[:, start:end].clone(), upper[start:end, start:end]
        solved, errors = torch.empty_like(block), torch.empty_like(block)
        for i in range(end - start):
            if (start + i) % group == 0:
                # Within a block, `weights` are still as they were at its beginning.
                grid = Grid(weights[:, start + i : start + i + group], bits, dtype)
            column = block[:, i]
            solved[:, i] = grid.nearest(column)
            errors[:, i] = (column - solved[:, i]) / factor[i, i]
            block[:, i:].addr_(errors[:, i], factor[i, i:], alpha=-1)
        weights[:, start:end] = solved
        weights[:, end:].addmm_(errors, upper[start:end, end:], alpha=-1)


class FirstBlockReached(Exception):
    """The inputs of the first block are known."""


def inputs_of_blocks(model, tokens):
    """What reaches the first block, for each window, and what else it is called with."""
    states, others = [], {}

    def keep(_, args, kwargs):
        states.append(args[0])
        others.update({name: value for name, value in kwargs.items() if "past" not in name and "cache" not in name})
        raise FirstBlockReached

    hook = model.model.layers[0].register_forward_pre_hook(keep, with_kwargs=True)
    for window in tokens:
        try:
            model(window[None])
        except FirstBlockReached:
            pass
    hook.remove()
    return states, others


def quantise(model, tokens, bits, group, dtype):
    """Quantises every Linear of every block, the inputs of which come through the quantised blocks before it."""
    states, others = inputs_of_blocks(model, tokens)

    def through(block, x):
        out = block(x, **others)
        return out[0] if isinstance(out, tuple) else out

    for block in model.model.layers:
        linears = [module for module in block.modules() if isinstance(module, torch.nn.Linear)]
        hessians = [Hessian(linear.in_features) for linear in linears]
        hooks = [
            linear.register_forward_hook(lambda _, inputs, __, hessian=hessian: hessian.add(inputs[0]))
            for linear, hessian in zip(linears, hessians)
        ]
        for x in states:
            through(block, x)
        for hook in hooks:
            hook.remove()
        for linear, hessian in zip(linears, hessians):
            gptq(linear.weight.data, hessian.mean(), bits, group, dtype)
        states = [through(block, x) for x in states]


def perplexity(model, tokens):
    losses = [torch.nn.functional.cross_entropy(model(w[None]).logits[0, :-1], w[1:]).item() for w in tokens]
    return math.exp(sum(losses) / len(losses))


def main():
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.set_grad_enabled(False)
    moments = [time.perf_counter()]
    model = transformers.AutoModelForCausalLM.from_pretrained(chosen.model, dtype=torch.float32).eval()
    config = json.loads((chosen.model / "config.json").read_text())
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    moments.append(time.perf_counter())
    calibration = windows(chosen.model, chosen.calib, chosen.nsamples, chosen.seqlen)
    quantise(model, calibration, chosen.bits, chosen.group, dtype)
    moments.append(time.perf_counter())
    found = perplexity(model, windows(chosen.model, chosen.eval, chosen.eval_max_windows, chosen.seqlen))
    moments.append(time.perf_counter())
    load, prune, evaluate = (round(after - before, 2) for before, after in zip(moments, moments[1:]))
    print(json.dumps({"method": "gptq", "ppl": found, "load_s": load, "prune_s": prune, "eval_s": evaluate}))


if __name__ == "__main__":
    main()
