#!/usr/bin/env python3
"""What a call from Python costs: tiny calls beside the extension's own, and drop-ins beside PyTorch's functions.

Usage: python3 bench/python_overhead.py [--parts overhead sdpa flex gpt] [--threads N] [--rounds R] [--lengths S ...]
       [--dims D ...] [--passes forward both]
Needs the Python package and PyTorch (PYTHONPATH=build/release/python, python_frameworks.txt).

overhead: microseconds of a call on 1 query and 1 key, the best of the rounds, and that less the extension's own call
          (which reads the arrays, finds the plan and runs it): what Python and the framework add.
sdpa:     tilewise.torch.scaled_dot_product_attention beside PyTorch's: forward, and forward with backward.
flex:     tilewise.torch.flex_attention beside compiled FlexAttention, forward (it has no backward on the processor).
gpt:      a training step of a GPT with and without patch().
Contestants alternate; printed are the median milliseconds of each and the ratio theirs / ours of the medians.
"""

import argparse
import statistics
import time

import numpy
import tilewise as tw
import tilewise.torch
import torch
from torch.nn import functional

clock = time.perf_counter


def best_microseconds(call, rounds, count=2000):
    best = float("inf")
    for _ in range(rounds):
        begin = clock()
        for _ in range(count):
            call()
        best = min(best, clock() - begin)
    return 1e6 * best / count


def overhead(arguments):
    causal = tw.zoo.causal()
    q, k, v = (numpy.random.default_rng(i).standard_normal((1, 1, 1, 16), numpy.float32) for i in range(3))
    o = numpy.empty_like(q)
    core = tw._core
    plan = tw.Plan(causal, d_qk=16, s_q=1, s_kv=1)

    def bare(q, k, v, o):
        return lambda: core.forward_planned(plan._plan, q, k, v, o, None, core.PLAIN)

    tensors = [torch.from_numpy(each) for each in (q, k, v)]
    with_gradients = [each.clone().requires_grad_() for each in tensors]
    calls = {
        "extension, NumPy": bare(q, k, v, o),
        "tw.attention, NumPy": lambda: tw.attention(q, k, v, causal),
        "extension, PyTorch": bare(*tensors, torch.empty(1, 1, 1, 16)),
        "tw.attention, PyTorch": lambda: tw.attention(*tensors, causal),
        "tw sdpa, PyTorch": lambda: tilewise.torch.scaled_dot_product_attention(*tensors, is_causal=True),
        "PyTorch's sdpa": lambda: functional.scaled_dot_product_attention(*tensors, is_causal=True),
        "tw.attention, gradients": lambda: tw.attention(*with_gradients, causal),
        "PyTorch's sdpa, gradients": lambda: functional.scaled_dot_product_attention(*with_gradients, is_causal=True),
    }
    print("| call | microseconds | over the extension's |\n|---|---|---|")
    base = 0.0
    for name, call in calls.items():
        call()
        found = best_microseconds(call, arguments.rounds)
        base = found if name.startswith("extension") else base
        print(f"| {name} | {found:.1f} | {'' if name.startswith('extension') else f'{found - base:.1f}'} |")


def alternate(contestants, rounds):
    """Median seconds of each, called in turn."""
    times = {name: [] for name in contestants}
    for call in contestants.values():
        call()
    for _ in range(rounds):
        for name, call in contestants.items():
            begin = clock()
            call()
            times[name].append(clock() - begin)
    return {name: statistics.median(each) for name, each in times.items()}


def report(what, found):
    ours, theirs = found["ours"], found["theirs"]
    print(f"| {what} | {1e3 * ours:.2f} | {1e3 * theirs:.2f} | {theirs / ours:.2f} |", flush=True)


def head():
    print("| | ours, ms | theirs, ms | theirs / ours |\n|---|---|---|---|")


def sdpa(arguments):
    head()
    for d in arguments.dims:
        for s in arguments.lengths:
            given = [torch.randn(1, 12, s, d, requires_grad=True) for _ in range(3)]
            d_o = torch.randn(1, 12, s, d)

            def training(function):
                o = function(*given, is_causal=True)
                torch.autograd.grad(o, given, d_o)

            functions = {"ours": tilewise.torch.scaled_dot_product_attention,
                         "theirs": functional.scaled_dot_product_attention}
            rounds = min(arguments.rounds, max(3, 2**24 // (s * s) * 5))
            if "forward" in arguments.passes:
                with torch.no_grad():
                    calls = {name: lambda f=f: f(*given, is_causal=True) for name, f in functions.items()}
                    report(f"causal, s {s}, d {d}, forward", alternate(calls, rounds))
            if "both" in arguments.passes:
                report(f"causal, s {s}, d {d}, forward and backward",
                       alternate({name: lambda f=f: training(f) for name, f in functions.items()}, rounds))


def flex(arguments):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    compiled = torch.compile(flex_attention)
    head()
    for s in arguments.lengths:
        given = [torch.randn(1, 12, s, 64) for _ in range(3)]
        slopes = torch.exp2(-torch.arange(12.0))
        mask = create_block_mask(lambda b, h, i, j: (i >= j) & (i - j < 1024), None, None, s, s, device="cpu")
        cap = lambda score, b, h, i, j: 30 * torch.tanh(score / 30)  # noqa: E731
        alibi = lambda score, b, h, i, j: score - slopes[h] * (i - j)  # noqa: E731
        for name, score_mod, block_mask in (("cap", cap, None), ("ALiBi", alibi, None), ("window of 1024", None, mask)):
            functions = {"ours": tilewise.torch.flex_attention, "theirs": compiled}
            with torch.no_grad():
                report(f"{name}, s {s}, d 64, forward",
                       alternate({n: lambda f=f: f(*given, score_mod, block_mask) for n, f in functions.items()},
                                 arguments.rounds))


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.feed = torch.nn.Sequential(torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width))

    def forward(self, x):
        b, s, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        o = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(o.transpose(1, 2).reshape(b, s, width))
        return x + self.feed(self.norms[1](x))


def gpt(arguments):
    width, heads, layers, vocabulary, tokens = 384, 6, 6, 4096, 1024
    model = torch.nn.Sequential(torch.nn.Embedding(vocabulary, width), *(Block(width, heads) for _ in range(layers)),
                                torch.nn.LayerNorm(width), torch.nn.Linear(width, vocabulary))
    optimiser = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, vocabulary, (1, tokens + 1))

    def step():
        optimiser.zero_grad()
        functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:]).backward()
        optimiser.step()

    def patched():
        with tilewise.torch.patch():
            step()

    head()
    report(f"training step, {layers} layers, {width} wide, {tokens} tokens",
           alternate({"ours": patched, "theirs": step}, arguments.rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"overhead": overhead, "sdpa": sdpa, "flex": flex, "gpt": gpt}
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--passes", nargs="+", choices=["forward", "both"], default=["forward", "both"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        print(f"\n### {part}\n")
        parts[part](arguments)


if __name__ == "__main__":
    main()
