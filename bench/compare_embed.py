#!/usr/bin/env python3
"""MiniLM on the CPU: Tilewise beside PyTorch (transformers' BertModel), 256 sentences of 64 tokens, alternating.

Usage: python3 bench/compare_embed.py BENCH_EMBED MODEL [--threads 1 4] [--rounds N] [--repeats N] [--batches 32 256]
BENCH_EMBED: build/release/bin/bench_embed. MODEL: the folder of all-MiniLM-L6-v2. Needs PyTorch and transformers (pip
install torch transformers, in an environment of their own).

Each round runs both in processes of their own, of whose `repeats` runs the best counts, and PyTorch with each batch
size.
Printed are the seconds of the best round, the median in brackets, and theirs over ours by both, for PyTorch's best
batch. Ours includes tokenizing, theirs does not.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

def torch_seconds(model, threads, batch, repeats):
    """In this process: the best of the repeats."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    bert = transformers.BertModel.from_pretrained(model).eval()
    tokens, mask = torch.randint(1000, 20000, (256, 64)), torch.ones(256, 64, dtype=torch.long)
    best = float("inf")
    with torch.inference_mode():
        bert(tokens[:batch], attention_mask=mask[:batch])
        for _ in range(repeats):
            start = time.perf_counter()
            for i in range(0, 256, batch):
                states = bert(tokens[i:i + batch], attention_mask=mask[i:i + batch]).last_hidden_state
                torch.nn.functional.normalize(states.mean(1))
            best = min(best, time.perf_counter() - start)
    return best


def run(command):
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return min(float(line) for line in output.split())


def chip():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")


def compare(arguments):
    print(f"{chip()}, {os.cpu_count()} cores; {time.strftime('%Y-%m-%d')}\n")
    print("| threads | Tilewise, s best (median) | PyTorch, s best (median), batch | best / best | median |")
    print("|---|---|---|---|---|")
    for threads in arguments.threads:
        ours, theirs = [], {batch: [] for batch in arguments.batches}
        for _ in range(arguments.rounds):
            weights = os.path.join(arguments.model, "model.safetensors")
            ours.append(run([arguments.bench_embed, weights, str(threads), str(arguments.repeats)]))
            for batch, seconds in theirs.items():
                seconds.append(run([sys.executable, __file__, arguments.bench_embed, arguments.model, "--worker",
                                    str(batch), "--threads", str(threads), "--repeats",
                                    str(arguments.repeats)]))
        batch = min(theirs, key=lambda size: min(theirs[size]))
        ratios = [b / a for a, b in zip(ours, theirs[batch])]
        print(f"| {threads} | {min(ours):.3f} ({statistics.median(ours):.3f}) | {min(theirs[batch]):.3f} "
              f"({statistics.median(theirs[batch]):.3f}), {batch} | {min(theirs[batch]) / min(ours):.2f} "
              f"| {statistics.median(ratios):.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench_embed")
    parser.add_argument("model")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, os.cpu_count()])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is None:
        compare(arguments)
    else:
        print(torch_seconds(arguments.model, arguments.threads[0], arguments.worker, arguments.repeats))


if __name__ == "__main__":
    main()
