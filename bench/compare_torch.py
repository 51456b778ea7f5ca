#!/usr/bin/env python3
"""Attention on the CPU: Tilewise beside PyTorch's SDPA and compiled FlexAttention, alternating in one run.

Usage: python3 bench/compare_torch.py BRIDGE [--threads N] [--isa avx2] [--parts plain small variants] [--json FILE]
BRIDGE: build/release/lib/libbench_cpu_bridge.so. Needs PyTorch (pip install torch, in an environment of its own).

Each round calls every contestant once, in turn; short calls are repeated until they take 5 ms. Printed are GFLOP/s of
the best call of each, the median in brackets, and ours over theirs by both. FLOPs are 4 d a kept entry (causal: half
of all), 2.5 times that backward. Shares are of the best burst of multiply-adds; there is one in each round.

For one core, pin the process as well: taskset -c 1 python3 bench/compare_torch.py BRIDGE --threads 1
"""

import argparse
import ctypes
import json
import os
import statistics
import sys
import time

LEAST_SECONDS = 5e-3
PAUSE_SECONDS = 2e-3  # PyTorch's threads spin for a while after a call, on our cores

torch = None  # imported once the instruction set is chosen


class Bridge:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.cpu_bridge_error.restype = ctypes.c_char_p
        self.library.cpu_bridge_instruction_set.restype = ctypes.c_char_p
        for name in ("close", "instruction_set"):
            getattr(self.library, "cpu_bridge_" + name).argtypes = [ctypes.c_void_p]
        for name in ("forward", "backward"):
            getattr(self.library, "cpu_bridge_" + name).argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
        self.library.cpu_bridge_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_longlong),
                                                 ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)]
        self.library.cpu_bridge_burst.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_double)]

    def check(self, result):
        if result != 0:
            raise RuntimeError(self.library.cpu_bridge_error().decode())

    def burst(self, instruction_set, threads):
        gflops = ctypes.c_double()
        self.check(self.library.cpu_bridge_burst(instruction_set.encode(), threads, ctypes.byref(gflops)))
        return gflops.value


class Tilewise:
    """One plan, and the tensors that it works on: [b, h, s, d] without gaps."""

    def __init__(self, bridge, variant, q, k, v, backward, threads):
        self.bridge, self.handle = bridge, ctypes.c_void_p()
        b, h, s, d = q.shape
        sizes = (ctypes.c_longlong * 6)(b, h, k.shape[1], s, k.shape[2], d)
        dtype = str(q.dtype).removeprefix("torch.")
        bridge.check(bridge.library.cpu_bridge_open(variant.encode(), dtype.encode(), sizes, backward, threads,
                                                    ctypes.byref(self.handle)))
        self.instruction_set = bridge.library.cpu_bridge_instruction_set(self.handle).decode()
        self.o, self.lse = torch.full_like(q, torch.nan), torch.empty(b, h, s, dtype=torch.float32)
        self.d_o = torch.randn_like(q)
        self.gradients = [torch.full_like(x, torch.nan) for x in (q, k, v)]
        self.tensors = [q, k, v, self.o, self.lse, self.d_o, *self.gradients]
        self.pointers = (ctypes.c_void_p * 9)(*[x.data_ptr() for x in self.tensors])

    def forward(self):
        self.bridge.check(self.bridge.library.cpu_bridge_forward(self.handle, self.pointers))

    def backward(self):
        self.bridge.check(self.bridge.library.cpu_bridge_backward(self.handle, self.pointers))

    def close(self):
        self.bridge.library.cpu_bridge_close(self.handle)


clock = time.perf_counter


def seconds_of(call, repeats):
    begin = clock()
    for _ in range(repeats):
        call()
    return (clock() - begin) / repeats


def alternate(contestants, burst, rounds):
    """Seconds of each call of each contestant (name -> call)."""
    times, repeats = {name: [] for name in contestants}, {}
    for name, call in contestants.items():
        call()
        repeats[name] = max(1, int(LEAST_SECONDS / seconds_of(call, 1)))
    for _ in range(rounds):
        burst()
        for name, call in contestants.items():
            time.sleep(PAUSE_SECONDS)
            times[name].append(seconds_of(call, repeats[name]))
    return times


def relative_difference(ours, theirs):
    return ((ours.float() - theirs.float()).norm() / theirs.float().norm()).item()


def sdpa(causal, q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def score_function(name, heads):
    """FlexAttention's form of our variants."""
    slopes = torch.exp2(-8 * torch.arange(1, heads + 1) / heads)

    def softcap(score, batch, head, query, key):
        return 30 * torch.tanh(score / 30)

    def alibi(score, batch, head, query, key):
        return score - slopes[head] * (query - key).abs()

    return {"plain": None, "softcap(30)": softcap, f"alibi({heads})": alibi}[name]


class Comparison:
    def __init__(self, bridge, threads, rounds):
        self.bridge, self.threads, self.rounds = bridge, threads, rounds
        self.rows = []
        self.peaks = {}  # instruction set -> GFLOP/s of the best burst so far

    def case(self, part, variant, peer, dtype, heads, s, d, backward):
        """One row: ours beside SDPA (plain and causal) or compiled FlexAttention."""
        torch.manual_seed(1)
        q, k, v = [torch.randn(1, heads, s, d).to(getattr(torch, dtype)) for _ in range(3)]
        ours = Tilewise(self.bridge, variant, q, k, v, backward, self.threads)
        ours.forward()
        attention = self.peer_of(peer, variant, heads)
        if backward:
            leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
            output = attention(*leaves)
            theirs = lambda: torch.autograd.grad(output, leaves, ours.d_o, retain_graph=True)
            ours.backward()
            difference = max(relative_difference(a, b) for a, b in zip(ours.gradients, theirs()))
            contestants = {"Tilewise": ours.backward, peer: theirs}
        else:
            with torch.no_grad():
                difference = relative_difference(ours.o, attention(q, k, v))
            contestants = {"Tilewise": ours.forward, peer: lambda: self.without_gradients(attention, q, k, v)}
        times = alternate(contestants, lambda: self.burst(ours.instruction_set), self.rounds)
        flops = 4 * d * heads * s * s * (0.5 if "causal" in variant else 1) * (2.5 if backward else 1)
        self.tell(part, variant, peer, dtype, heads, s, d, backward, ours.instruction_set, times, flops, difference)
        ours.close()

    def burst(self, isa):
        self.peaks[isa] = max(self.peaks.get(isa, 0), self.bridge.burst(isa, self.threads))

    @staticmethod
    def without_gradients(attention, q, k, v):
        with torch.no_grad():
            return attention(q, k, v)

    @staticmethod
    def peer_of(peer, variant, heads):
        if peer == "SDPA":
            return lambda q, k, v: sdpa(variant == "causal()", q, k, v)
        from torch.nn.attention.flex_attention import flex_attention
        torch._dynamo.reset()
        compiled = torch.compile(flex_attention, dynamic=False)
        score = score_function(variant, heads)
        return lambda q, k, v: compiled(q, k, v, score_mod=score)

    def tell(self, part, variant, peer, dtype, heads, s, d, backward, isa, times, flops, difference):
        best = {name: min(values) for name, values in times.items()}
        median = {name: statistics.median(values) for name, values in times.items()}
        row = {"part": part, "variant": variant, "peer": peer, "dtype": dtype, "heads": heads, "s": s, "d": d,
               "direction": "backward" if backward else "forward", "instruction_set": isa, "threads": self.threads,
               "gflops_best": flops / best["Tilewise"] * 1e-9, "gflops_median": flops / median["Tilewise"] * 1e-9,
               "peer_gflops_best": flops / best[peer] * 1e-9, "peer_gflops_median": flops / median[peer] * 1e-9,
               "peak_gflops": self.peaks[isa], "ratio_best": best[peer] / best["Tilewise"],
               "ratio_median": median[peer] / median["Tilewise"], "difference": difference}
        self.rows.append(row)
        print("{part:9} {variant:12} {dtype:9} h {heads:<3} s {s:<5} d {d:<4} {direction:9} "
              "Tilewise {gflops_best:7.1f} ({gflops_median:7.1f})  {peer} {peer_gflops_best:7.1f} "
              "({peer_gflops_median:7.1f})  ratio {ratio_best:.3f} ({ratio_median:.3f})  "
              "of peak {share:.3f}  difference {difference:.1e}".format(share=row["gflops_best"] / self.peaks[isa], **row), flush=True)


def run(comparison, parts, heads):
    if "plain" in parts:
        for s, d in ((2048, 64), (4096, 128)):
            for dtype in ("float32", "bfloat16"):
                for variant in ("plain", "causal()"):
                    for backward in (False, True):
                        comparison.case("plain", variant, "SDPA", dtype, heads, s, d, backward)
    if "small" in parts:
        for dtype in ("float32", "bfloat16"):
            for s in (128, 256, 512):
                for small_heads in (1, 4, 12):
                    for backward in (False, True):
                        comparison.case("small", "plain", "SDPA", dtype, small_heads, s, 64, backward)
    if "variants" in parts:
        for s, d in ((2048, 64), (2048, 128)):
            for variant in ("plain", "softcap(30)", f"alibi({heads})"):
                comparison.case("variants", variant, "FlexAttention", "float32", heads, s, d, False)


def choose_instruction_set(name):
    """The same for everybody: ours, PyTorch's own loops, MKL's and oneDNN's."""
    if name is None:
        return
    if name != "avx2":
        sys.exit(f"compare_torch: --isa is '{name}', expected avx2 or nothing: PyTorch can be held to no other")
    os.environ.update(TILEWISE_ISA="avx2", ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2",
                      ONEDNN_MAX_CPU_ISA="AVX2")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.split(": ", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main():
    global torch, clock
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bridge")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--heads", type=int, help="1 on one thread, else 8")
    parser.add_argument("--isa", help="avx2 holds everybody to it")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", nargs="+", choices=("plain", "small", "variants"),
                        default=["plain", "small", "variants"])
    parser.add_argument("--cpu-time", action="store_true",
                        help="time what the processor did for the thread, not the clock: for one thread, busy machines")
    parser.add_argument("--json", help="also write the rows into this file")
    arguments = parser.parse_args()
    if arguments.cpu_time:
        if arguments.threads != 1:
            parser.error("--cpu-time is one thread's; give --threads 1")
        clock = time.thread_time
    choose_instruction_set(arguments.isa)
    import torch as imported
    torch = imported
    torch.set_num_threads(arguments.threads)
    comparison = Comparison(Bridge(arguments.bridge), arguments.threads, arguments.rounds)
    print(f"{processor()}, {arguments.threads} thread(s), PyTorch {torch.__version__}, "
          f"{torch.backends.cpu.get_cpu_capability()}", flush=True)
    run(comparison, arguments.parts, arguments.heads or (1 if arguments.threads == 1 else 8))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"processor": processor(), "torch": torch.__version__, "rows": comparison.rows}, file, indent=2)


if __name__ == "__main__":
    main()
