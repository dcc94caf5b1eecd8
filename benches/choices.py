#!/usr/bin/env python3
"""Times questions with choices beside plain text of as many tokens in windows of the same length: what scoring choices
costs, as a multiple of the forward passes of their tokens.

usage: benches/choices.py [--rounds N] [--task FILE] [--model FOLDER] [--corpus FILE] [--secateur FILE]

Both are measured by secateur itself, on the base model, in turns: `seconds.evaluate` of the JSON report. The tokens are
those of every context once and of every choice; the package `tokenizers` counts them.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    home = Path.home() / ".cache/secateur-test-models/smollm2-135m-instruct"
    parser.add_argument("--model", type=Path, default=home, help="Hugging Face folder")
    parser.add_argument("--task", type=Path, default=SHARED / "data/choice/arc_easy.jsonl", help="questions with choices")
    parser.add_argument("--corpus", type=Path, default=SHARED / "data/text/wikitext2_raw_test.txt", help="plain text")
    parser.add_argument("--rounds", type=int, default=3, help="times that both are measured")
    parser.add_argument("--secateur", type=Path, default=ROOT / "target/release/secateur", help="the program")
    return parser.parse_args()


def count_tokens(tokenizer, task):
    """Tokens of all trunks and branches, and the mean length of a sequence."""
    tokens, lengths = 0, []
    for line in task.read_text().splitlines():
        record = json.loads(line)
        texts = [f"{record['query']} {choice}" for choice in record["choices"]]
        sequences = [tokenizer.encode(text).ids[:-1] for text in texts]
        shared = 0
        while all(len(s) > shared and s[shared] == sequences[0][shared] for s in sequences):
            shared += 1
        tokens += shared + sum(len(s) - shared for s in sequences)
        lengths += [len(s) for s in sequences]
    return tokens, round(statistics.mean(lengths))


def seconds_of_base(args, *data):
    """Seconds that the base was measured for."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "empty.toml"
        config.touch()
        command = [args.secateur, "run", "--config", config, "--store", Path(folder) / "s.db", "--model", args.model]
        command += ["--offline", "--device", "cpu", "--methods", "magnitude", "--sparsity", "0.5", "--format", "json"]
        found = subprocess.run([str(part) for part in [*command, *data]], check=True, capture_output=True, text=True)
        return json.loads(found.stdout)["base"]["seconds"]["evaluate"]


def main():
    args = arguments()
    tokens, length = count_tokens(Tokenizer.from_file(str(args.model / "tokenizer.json")), args.task)
    windows = round(tokens / length)
    print(f"{args.task.name}: {tokens} tokens; beside them {windows} windows of {length} tokens of {args.corpus.name}")
    few = ["--corpus", args.corpus, "--seq-len", length, "--max-windows", 1]
    ratios = []
    for number in range(1, args.rounds + 1):
        plain = seconds_of_base(args, "--corpus", args.corpus, "--seq-len", length, "--max-windows", windows + 1)
        # One window is measured beside the questions, as a study takes a text.
        choices = seconds_of_base(args, *few, "--tasks", args.task)
        ratios.append(choices / plain)
        print(f"round {number}: choices {choices:.2f} s, text {plain:.2f} s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
