#!/usr/bin/env python3
"""Attention on the GPU at hand: Tilewise beside PyTorch's FlashAttention-2 and cuDNN, alternating in one run.

Usage: python3 bench/compare_torch_cuda.py BRIDGE [--rounds N] [--cases NAME:D ...] [--backward NAME:D ...]
                                           [--decoding NAME:B:H_Q:H_KV:S ...]
BRIDGE: build/release/lib/libbench_torch_bridge.so. Needs PyTorch with CUDA.

bfloat16, b 1, 16k tokens, hidden width 2048. Each round times every contestant once, in turn, so that clocks and power
are the same for all; figures are medians over the rounds. FLOPs are 4 d a kept entry (causal: half of all).
Everything that a public call does is in its time: lengths on their way, classification of tiles, the kernels.
"""

import argparse
import ctypes
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

TOKENS, HIDDEN = 16384, 2048


class Bridge:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        pointer = ctypes.c_void_p
        self.library.bridge_error.restype = ctypes.c_char_p
        self.library.bridge_plan.restype = ctypes.c_char_p
        self.library.bridge_plan.argtypes = [pointer]
        self.library.bridge_close.argtypes = [pointer]
        self.library.bridge_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, pointer, ctypes.c_int,
                                             ctypes.POINTER(pointer)]
        self.library.bridge_forward.argtypes = [pointer] * 3
        self.library.bridge_backward.argtypes = [pointer] * 3

    def check(self, result):
        if result != 0:
            raise RuntimeError(self.library.bridge_error().decode())


VARIANTS = {"full": "plain", "causal": "causal()", "softcap": "softcap(30)", "softcap_causal": "softcap(30) & causal()",
            "alibi": "alibi({heads})", "alibi_causal": "alibi({heads}) & causal()", "window": "window(1024)"}


class Tilewise:
    """A public plan for [b, s, h, d] tensors."""

    def __init__(self, bridge, variant, heads, tokens, d, backward=False, sizes=None):
        self.bridge, self.handle = bridge, ctypes.c_void_p()
        text = VARIANTS[variant].format(heads=heads)
        sizes = (ctypes.c_int * 7)(*(sizes or (1, heads, heads, tokens, tokens, d, d)))
        bridge.check(bridge.library.bridge_open(text.encode(), b"bfloat16", ctypes.cast(sizes, ctypes.c_void_p),
                                                int(backward), ctypes.byref(self.handle)))
        lines = bridge.library.bridge_plan(self.handle).decode().splitlines()
        self.plan = "; ".join(line for line in lines if line.startswith(("forward", "decoding", "backward")))

    def call(self, function, tensors):
        pointers = (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])
        self.bridge.check(function(self.handle, ctypes.cast(pointers, ctypes.c_void_p),
                                   torch.cuda.current_stream().cuda_stream))

    def forward(self, q, k, v, o, lse=None):
        self.call(self.bridge.library.bridge_forward, (q, k, v, o, lse))

    def backward(self, *tensors):
        """q, k, v, o, lse, d_o, d_q, d_k, d_v"""
        self.call(self.bridge.library.bridge_backward, tensors)

    def close(self):
        self.bridge.library.bridge_close(self.handle)


def milliseconds(call, repeats):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats


def alternate(contestants, rounds, target_ms=60):
    """Median milliseconds of each contestant (name -> call)."""
    times = {name: [] for name in contestants}
    repeats = {}
    for name, call in contestants.items():
        call()
        repeats[name] = max(2, int(target_ms / milliseconds(call, 2)))
    for _ in range(rounds):
        for name, call in contestants.items():
            times[name].append(milliseconds(call, repeats[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def inputs(heads, d):
    torch.manual_seed(1)
    return [torch.randn(1, TOKENS, heads, d, device="cuda", dtype=torch.bfloat16) for _ in range(3)]


def teraflops(variant, heads, d, ms):
    if variant == "window":
        entries = TOKENS * 1024 - 1024 * 1023 / 2
    else:
        entries = TOKENS * TOKENS / (2 if "causal" in variant else 1)
    return 4 * d * heads * entries / ms / 1e9


def expected_rows(variant, q, k, v, rows):
    """A few rows of the answer in float32; None for variants that are only timed."""
    scores = torch.einsum("shd,thd->hst", q[0, rows].float(), k[0].float()) * q.shape[-1] ** -0.5
    keys = torch.arange(TOKENS, device="cuda")
    queries = torch.tensor(rows, device="cuda")[:, None]
    heads = q.shape[2]
    if "softcap" in variant:
        scores = 30 * torch.tanh(scores / 30)
    if "alibi" in variant:
        slopes = torch.exp2(-8 * torch.arange(1, heads + 1, device="cuda") / heads)
        scores = scores - slopes[:, None, None] * (queries - keys).abs()
    if "causal" in variant or variant == "window":
        scores = scores.masked_fill(keys > queries, -torch.inf)
    if variant == "window":
        scores = scores.masked_fill(queries - keys >= 1024, -torch.inf)
    return torch.einsum("hst,thd->shd", torch.softmax(scores, -1), v[0].float())


def peers(variant, q, k, v):
    """PyTorch's backends that compute the same."""
    if variant not in ("full", "causal"):
        return {}
    heads_first = [x.transpose(1, 2) for x in (q, k, v)]

    def run(backend):
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(*heads_first, is_causal=variant == "causal")

    return {"FlashAttention-2": lambda: run(SDPBackend.FLASH_ATTENTION),
            "cuDNN": lambda: run(SDPBackend.CUDNN_ATTENTION)}


def compare(bridge, variant, d, rounds):
    heads = HIDDEN // d
    q, k, v = inputs(heads, d)
    o = torch.full_like(q, torch.nan)
    ours = Tilewise(bridge, variant, heads, TOKENS, d)
    ours.forward(q, k, v, o)
    rows = [0, 1, 1000, 8191, TOKENS - 1]
    exact = expected_rows(variant, q, k, v, rows)
    error = ((o[0, rows].float() - exact).norm() / exact.norm()).item()
    medians = alternate({"Tilewise": lambda: ours.forward(q, k, v, o), **peers(variant, q, k, v)}, rounds)
    figures = {name: teraflops(variant, heads, d, ms) for name, ms in medians.items()}
    ratios = "".join(f", {figures['Tilewise'] / figures[peer]:.3f} of {peer}" for peer in figures if peer != "Tilewise")
    shown = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
    print(f"d {d} {variant}: {shown} TFLOP/s{ratios}; relative error {error:.1e} ({ours.plan})", flush=True)
    ours.close()


def compare_backward(bridge, variant, d, rounds):
    """FLOPs count 2.5 times those of the forward pass; everything that a backward call does is timed."""
    heads = HIDDEN // d
    q, k, v = inputs(heads, d)
    o, d_o = torch.empty_like(q), torch.randn_like(q)
    lse = torch.empty(1, heads, TOKENS, device="cuda", dtype=torch.float32)
    ours = Tilewise(bridge, variant, heads, TOKENS, d, backward=True)
    ours.forward(q, k, v, o, lse)
    d_q, d_k, d_v = torch.full_like(q, torch.nan), torch.full_like(q, torch.nan), torch.full_like(q, torch.nan)
    tensors = (q, k, v, o, lse, d_o, d_q, d_k, d_v)
    ours.backward(*tensors)
    contestants = {"Tilewise": lambda: ours.backward(*tensors)}
    difference = ""
    if variant in ("full", "causal"):
        leaves = [x.transpose(1, 2).detach().requires_grad_() for x in (q, k, v)]
        outputs = {}
        for name, backend in (("FlashAttention-2", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
            with sdpa_kernel(backend):
                outputs[name] = scaled_dot_product_attention(*leaves, is_causal=variant == "causal")
            contestants[name] = lambda name=name: torch.autograd.grad(outputs[name], leaves, d_o.transpose(1, 2),
                                                                      retain_graph=True)
        peer = [gradient.transpose(1, 2).float() for gradient in contestants["FlashAttention-2"]()]
        errors = [((mine.float() - theirs).norm() / theirs.norm()).item()
                  for mine, theirs in zip((d_q, d_k, d_v), peer)]
        difference = "; from FlashAttention-2's gradients: " + ", ".join(f"{error:.1e}" for error in errors)
    medians = alternate(contestants, rounds)
    figures = {name: 2.5 * teraflops(variant, heads, d, ms) for name, ms in medians.items()}
    ratios = "".join(f", {figures['Tilewise'] / figures[peer]:.3f} of {peer}" for peer in figures if peer != "Tilewise")
    shown = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
    print(f"backward d {d} {variant}: {shown} TFLOP/s{ratios}{difference}", flush=True)
    ours.close()


def compare_decoding(bridge, variant, b, h_q, h_kv, s, rounds):
    """10^9 bytes of keys and values a second, each read once. Caches are larger than the second-level cache."""
    d = 128
    torch.manual_seed(1)
    q = torch.randn(b, 1, h_q, d, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(b, s, h_kv, d, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    o = torch.full_like(q, torch.nan)
    ours = Tilewise(bridge, variant, h_q, s, d, sizes=(b, h_q, h_kv, 1, s, d, d))
    ours.forward(q, k, v, o)
    heads_first = [x.transpose(1, 2) for x in (q, k, v)]
    exact = scaled_dot_product_attention(*[x[:1].float() for x in heads_first], enable_gqa=True).transpose(1, 2)
    error = ((o[:1].float() - exact).norm() / exact.norm()).item()

    def peer(backend):
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(*heads_first, enable_gqa=True)

    contestants = {"Tilewise": lambda: ours.forward(q, k, v, o)}
    for name, backend in (("FlashAttention-2", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
        try:
            peer(backend)
            contestants[name] = lambda backend=backend: peer(backend)
        except RuntimeError as problem:
            print(f"{name} does not decode here: {problem}")
    medians = alternate(contestants, rounds)
    figures = {name: 2 * b * h_kv * s * d * 2 / ms / 1e6 for name, ms in medians.items()}
    shown = ", ".join(f"{name} {value:.0f}" for name, value in figures.items())
    print(f"decoding b {b}, {h_q}/{h_kv} heads, s {s}, {variant}: {shown} GB/s; relative error {error:.1e} "
          f"({ours.plan})", flush=True)
    ours.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bridge")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="*", default=[
        "full:64", "causal:64", "full:128", "causal:128", "softcap:128", "softcap_causal:128", "alibi:128",
        "alibi_causal:128", "window:128"])
    parser.add_argument("--backward", nargs="*", default=["full:64", "causal:64", "full:128", "causal:128",
                                                          "softcap:128", "alibi:128", "window:128"])
    parser.add_argument("--decoding", nargs="*", default=["full:16:32:8:8192", "causal:16:32:8:8192",
                                                          "full:1:32:8:65536", "full:64:32:8:4096"])
    arguments = parser.parse_args()
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # the primary context is there before anything else asks for it
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    bridge = Bridge(arguments.bridge)
    for case in arguments.cases:
        variant, d = case.split(":")
        compare(bridge, variant, int(d), arguments.rounds)
    for case in arguments.backward:
        variant, d = case.split(":")
        compare_backward(bridge, variant, int(d), arguments.rounds)
    for case in arguments.decoding:
        variant, *sizes = case.split(":")
        compare_decoding(bridge, variant, *map(int, sizes), arguments.rounds)


if __name__ == "__main__":
    main()
