#!/usr/bin/env python3
"""The drop-ins on a GPU: what a call costs the host, and the kernels' rates through them, beside PyTorch's.

Usage: python3 bench/python_gpu.py [--parts host rates] [--rounds R] [--tokens S]
Needs the Python package and PyTorch with CUDA (PYTHONPATH=build/release/python).

host:  microseconds until a call returns, which queues its kernels and waits for nothing: 100 calls in a row behind a kernel
       that keeps the GPU busy meanwhile, so that nobody waits for it; the best of the rounds.
rates: TFLOP/s in bfloat16, b 1, hidden width 2048, of tilewise.torch.scaled_dot_product_attention and PyTorch's by cuDNN
       and by its own choice; forward, and backward through autograd. FLOPs are 4 d a kept entry (causal: half of all),
       2.5 times that backward. Each round times everyone in turn, by events, for at least 20 ms; medians.
"""

import argparse
import statistics
import time

import tilewise as tw
import tilewise.torch
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as theirs

ours = tilewise.torch.scaled_dot_product_attention
clock = time.perf_counter


def tensors(*shape, requires_grad=False):
    """Heads behind tokens in memory, as projections leave them."""
    b, h, s, d = shape
    return [torch.randn(b, s, h, d, device="cuda", dtype=torch.bfloat16).transpose(1, 2).requires_grad_(requires_grad)
            for _ in range(3)]


def microseconds(call, rounds, count=100):
    best = float("inf")
    for _ in range(5 * rounds):
        torch.cuda.synchronize()
        torch.cuda._sleep(40_000_000)  # some 20 ms
        begin = clock()
        for _ in range(count):
            call()
        best = min(best, clock() - begin)
        torch.cuda.synchronize()
    return 1e6 * best / count


def host(arguments):
    q, k, v = tensors(1, 8, 128, 64)
    one = torch.randn(1, 8, 1, 64, device="cuda", dtype=torch.bfloat16)
    leaves = tensors(1, 8, 128, 64, requires_grad=True)
    window = tw.zoo.window(64)
    d_o = torch.randn_like(q)
    kept = {"Tilewise": ours(*leaves), "PyTorch": theirs(*leaves)}
    o, core = torch.empty_like(q), tw._core
    plain, causal = core.plain(), tw.zoo.causal_top_left()._recipe
    calls = {
        "the extension's own call": (lambda: core.forward(plain, q, k, v, o, None, core.PLAIN), None),
        "the extension's own call, causal": (lambda: core.forward(causal, q, k, v, o, None, core.PLAIN), None),
        "sdpa": (lambda: ours(q, k, v), lambda: theirs(q, k, v)),
        "sdpa, causal": (lambda: ours(q, k, v, is_causal=True), lambda: theirs(q, k, v, is_causal=True)),
        "sdpa, one query": (lambda: ours(one, k, v), lambda: theirs(one, k, v)),
        "tw.attention, window": (lambda: tw.attention(q, k, v, window), None),
        "sdpa, with gradients": (lambda: ours(*leaves), lambda: theirs(*leaves)),
        "its backward pass": tuple(
            (lambda o=o: torch.autograd.grad(o, leaves, d_o, retain_graph=True)) for o in kept.values()),
    }
    print("| call | Tilewise, microseconds | PyTorch, microseconds |\n|---|---|---|")
    for name, contestants in calls.items():
        found = []
        for call in contestants:
            if call is not None:
                call()
                found.append(f"{microseconds(call, arguments.rounds):.1f}")
        print(f"| {name} | {' | '.join(found)} |", flush=True)


def milliseconds(call, least=20.0):
    """Of one call among as many as fill the time."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    count = 1
    while True:
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        if (taken := begin.elapsed_time(end)) >= least:
            return taken / count
        count = max(2 * count, int(count * 1.2 * least / max(taken, 0.01)))


def by_cudnn(*arguments, **options):
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return theirs(*arguments, **options)


def rates(arguments):
    functions = {"Tilewise": ours, "cuDNN": by_cudnn, "PyTorch's choice": theirs}
    print(f"| d | mask | pass | {' | '.join(functions)} | Tilewise / cuDNN |\n|---|---|---|{'---|' * len(functions)}---|")
    for d in (64, 128):
        heads = 2048 // d
        leaves = tensors(1, heads, arguments.tokens, d, requires_grad=True)
        q, k, v = (each.detach() for each in leaves)
        d_o = torch.randn_like(q)
        for is_causal in (False, True):
            flops = 4 * d * heads * arguments.tokens**2 / (2 if is_causal else 1)
            outputs = {name: f(*leaves, is_causal=is_causal) for name, f in functions.items()}
            passes = {
                "forward": (1.0, {name: lambda f=f: f(q, k, v, is_causal=is_causal) for name, f in functions.items()}),
                "backward": (2.5, {name: lambda o=o: torch.autograd.grad(o, leaves, d_o, retain_graph=True)
                                   for name, o in outputs.items()}),
            }
            for which, (factor, calls) in passes.items():
                times = {name: [] for name in calls}
                for call in calls.values():
                    call()
                for _ in range(arguments.rounds):
                    for name, call in calls.items():
                        times[name].append(milliseconds(call))
                found = {name: factor * flops / statistics.median(each) / 1e9 for name, each in times.items()}
                shown = " | ".join(f"{each:.0f}" for each in found.values())
                print(f"| {d} | {'causal' if is_causal else 'none'} | {which} | {shown} | "
                      f"{found['Tilewise'] / found['cuDNN']:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"host": host, "rates": rates}
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16384)
    arguments = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    for part in arguments.parts:
        print(f"\n### {part}\n")
        parts[part](arguments)


if __name__ == "__main__":
    main()
