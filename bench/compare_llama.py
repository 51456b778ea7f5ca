#!/usr/bin/env python3
"""A language model on the CPU: Tilewise beside llama.cpp, on the same file, alternating in one run.

Usage: python3 bench/compare_llama.py TILEWISE MODEL [--cases prompt_512 ...] [--threads 1 4] [--rounds N] [--kept FILE]
TILEWISE: build/release/bin/tilewise. MODEL: a GGUF file. Needs llama.cpp's Python package (pip install
--no-binary llama-cpp-python llama-cpp-python, in an environment of its own: built from source it uses what the machine
has).

Each round runs every case with each, in turn, in a process of its own, of whose two runs the better counts (of 4096
tokens there is one run). Printed are tokens a second of the best round of each, the median in brackets, ours over theirs
by the best of both, and the median of the rounds' ratios. llama.cpp runs with flash attention, which is faster or equal
here, unless --no-flash-attention is given.

With --kept, rounds are added to those that FILE has, and the table is of all: so rounds can be run whenever the machine
is idle, a few at a time. --first-token runs a prompt of some twenty tokens instead, and prints the seconds from starting
the program to its end behind the first token; of ours alone.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time

WARM_UP_TOKENS = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """Tokens a second of a prompt, or of generating after one, for some sequences at once."""

    name: str
    prompt: int
    generate: int = 0
    sequences: int = 1

    def repeats(self):
        """In a process, of which the better counts; prompts that take long are their own warm-up."""
        return 1 if self.prompt > 2048 else 2


CASES = [
    Case("prompt_512", 512),
    Case("prompt_4096", 4096),
    Case("generate", 16, 64),
    Case("generate_at_4096", 4096, 32),
    Case("batch_16", 16, 32, 16),
]


class LlamaCpp:
    """llama.cpp's library through its Python bindings: what its own llama-bench does, with tokens of any kind."""

    def __init__(self, model, threads, sequences, flash_attention):
        import llama_cpp

        self.api = llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept: the library calls it later
        llama_cpp.llama_log_set(self.quiet, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), llama_cpp.llama_model_default_params())
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = 8192, 2048, 512
        settings.n_threads = settings.n_threads_batch = threads
        settings.n_seq_max, settings.kv_unified = sequences, sequences > 1
        settings.flash_attn_type = 1 if flash_attention else 0
        self.context = llama_cpp.llama_init_from_model(self.model, settings)

    def decode(self, entries):
        """Runs (token, position, sequence, whether its logits are wanted); seconds."""
        batch = self.api.llama_batch_init(len(entries), 0, 1)
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, logits) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        start = time.perf_counter()
        if self.api.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        self.api.llama_synchronize(self.context)
        seconds = time.perf_counter() - start
        self.api.llama_batch_free(batch)
        return seconds

    def prompt(self, length, sequence):
        seconds = 0.0
        for first in range(0, length, 2048):
            last = min(first + 2048, length)
            seconds += self.decode([(100 + p % 1000, p, sequence, p == length - 1) for p in range(first, last)])
        return seconds

    def clear(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def best_rate(self, case):
        self.prompt(WARM_UP_TOKENS, 0)
        return max(self.rate(case) for _ in range(case.repeats()))

    def rate(self, case):
        self.clear()
        seconds = sum(self.prompt(case.prompt, sequence) for sequence in range(case.sequences))
        if case.generate == 0:
            return case.prompt * case.sequences / seconds
        seconds = sum(self.decode([(100 + p % 1000, p, s, True) for s in range(case.sequences)])
                      for p in range(case.prompt, case.prompt + case.generate))
        return case.generate * case.sequences / seconds


def llama_rate(arguments, case, threads):
    command = [sys.executable, __file__, arguments.tilewise, arguments.model, "--worker", case.name, "--threads",
               str(threads)]
    if not arguments.flash_attention:
        command.append("--no-flash-attention")
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def tilewise_rate(arguments, case, threads):
    command = [arguments.tilewise, "bench", "generate", "--model", arguments.model, "--threads", str(threads), "--json",
               "--repeats", str(case.repeats()), "--sequences", str(case.sequences)]
    if case.generate:
        command += ["--prompt-tokens", "1", "--context", str(case.prompt), "--n", str(case.generate)]
    else:
        command += ["--prompt-tokens", str(case.prompt), "--n", "1"]
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["rows"]
    return rows[-1 if case.generate else 0]["best_tokens_per_second"]


PROMPT_OF_20 = "Please tell me in a few words what the capital of France is called, and why it is known."


def first_token_seconds(arguments, threads):
    command = [arguments.tilewise, "generate", "--model", arguments.model, "--threads", str(threads), "--n", "1",
               "--prompt", PROMPT_OF_20]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def first_token(arguments):
    print(f"{chip()}, {os.cpu_count()} cores; {os.path.basename(arguments.model)}; {time.strftime('%Y-%m-%d')}\n")
    print("| threads | first token, s best (median, worst) |")
    print("|---|---|")
    for threads in arguments.threads:
        seconds = [first_token_seconds(arguments, threads) for _ in range(arguments.rounds)]
        print(f"| {threads} | {min(seconds):.3f} ({statistics.median(seconds):.3f}, {max(seconds):.3f}) |", flush=True)


def chip():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")


def kept_rounds(arguments):
    """By case and threads: what earlier runs measured."""
    if arguments.kept is None or not os.path.exists(arguments.kept):
        return {}
    with open(arguments.kept, encoding="utf-8") as file:
        kept = json.load(file)
    return {(row["case"], row["threads"]): row for row in kept["results"]}


def keep(arguments, rows):
    if arguments.kept is None:
        return
    with open(arguments.kept, "w", encoding="utf-8") as file:
        json.dump({"chip": chip(), "model": os.path.basename(arguments.model), "results": list(rows.values())}, file,
                  indent=2)


def compare(arguments):
    rows = kept_rounds(arguments)
    print(f"{chip()}, {os.cpu_count()} cores; {os.path.basename(arguments.model)}; {time.strftime('%Y-%m-%d')}\n")
    print("| case | threads | rounds | Tilewise, tokens/s best (median) | llama.cpp, best (median) | best / best | median |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        if case.name not in arguments.cases:
            continue
        for threads in arguments.threads:
            row = rows.setdefault((case.name, threads),
                                  {"case": case.name, "threads": threads, "tilewise": [], "llama_cpp": []})
            ours, theirs = row["tilewise"], row["llama_cpp"]
            for _ in range(arguments.rounds):
                round_of_both = tilewise_rate(arguments, case, threads), llama_rate(arguments, case, threads)
                ours.append(round_of_both[0])
                theirs.append(round_of_both[1])
                keep(arguments, rows)
            if not ours:
                continue
            ratios = [a / b for a, b in zip(ours, theirs)]
            print(f"| {case.name} | {threads} | {len(ours)} | {max(ours):.0f} ({statistics.median(ours):.0f}) "
                  f"| {max(theirs):.0f} ({statistics.median(theirs):.0f}) | {max(ours) / max(theirs):.2f} "
                  f"| {statistics.median(ratios):.2f} |", flush=True)


def main():
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tilewise")
    parser.add_argument("model")
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, os.cpu_count()])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kept")
    parser.add_argument("--first-token", action="store_true")
    parser.add_argument("--no-flash-attention", dest="flash_attention", action="store_false")
    parser.add_argument("--worker", choices=names, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is None:
        return first_token(arguments) if arguments.first_token else compare(arguments)
    case = next(case for case in CASES if case.name == arguments.worker)
    llama = LlamaCpp(arguments.model, arguments.threads[0], case.sequences, arguments.flash_attention)
    print(llama.best_rate(case))
    # Its threads are gone with the process; its destructors print.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
