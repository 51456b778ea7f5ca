#!/usr/bin/env python3
"""Attention on the GPU at hand: Tilewise beside PyTorch's FlashAttention-2 and cuDNN, alternating in one run.

Usage: python3 bench/compare_torch_cuda.py BRIDGE [--rounds N] [--cases CASE ...] [--backward CASE ...] [--tune CASE ...]
                                           [--tune-backward CASE ...]
BRIDGE: build/release/lib/libbench_torch_bridge.so. CASE: VARIANT:D[:S], S tokens a sequence (16384). Needs PyTorch with
CUDA.

bfloat16, 16k tokens in all, hidden width 2048. Each round times every contestant once, in turn, so that clocks and
power are the same for all; figures are medians over the rounds. FLOPs are 4 d a kept entry (causal: half of all).
--tune measures the first candidate plans (--candidates, 8).
"""

import argparse
import ctypes
import statistics
import subprocess

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

TOKENS, HIDDEN = 16384, 2048


class Bridge:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.bridge_error.restype = ctypes.c_char_p
        self.library.bridge_plan.restype = ctypes.c_char_p
        self.library.bridge_plan.argtypes = [ctypes.c_void_p]
        self.library.bridge_close.argtypes = [ctypes.c_void_p]
        self.library.bridge_open.argtypes = [ctypes.c_char_p] + [ctypes.c_int] * 7 + [ctypes.POINTER(ctypes.c_void_p)]
        self.library.bridge_plan_backward.restype = ctypes.c_char_p
        self.library.bridge_plan_backward.argtypes = [ctypes.c_void_p]
        self.library.bridge_open_backward.argtypes = [ctypes.c_char_p] + [ctypes.c_int] * 7 + [
            ctypes.POINTER(ctypes.c_void_p)]
        self.library.bridge_close_backward.argtypes = [ctypes.c_void_p]
        self.library.bridge_backward.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_float, ctypes.c_void_p]
        self.library.bridge_forward.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_float, ctypes.c_void_p]

    def check(self, result):
        if result != 0:
            raise RuntimeError(self.library.bridge_error().decode())


class Tilewise:
    """One variant, ready to launch on [b, s, h, d] tensors."""

    def __init__(self, bridge, variant, heads, tokens, d, candidate=-1):
        self.bridge, self.handle = bridge, ctypes.c_void_p()
        bridge.check(bridge.library.bridge_open(variant.encode(), TOKENS // tokens, heads, heads, tokens, tokens, d, candidate,
                                                ctypes.byref(self.handle)))
        self.plan = bridge.library.bridge_plan(self.handle).decode()

    def __call__(self, q, k, v, o, lse=None):
        stream = torch.cuda.current_stream().cuda_stream
        self.bridge.check(self.bridge.library.bridge_forward(
            self.handle, q.data_ptr(), k.data_ptr(), v.data_ptr(), o.data_ptr(),
            None if lse is None else lse.data_ptr(), q.shape[-1] ** -0.5, stream))

    def close(self):
        self.bridge.library.bridge_close(self.handle)


class TilewiseBackward:
    """The gradients of one variant, ready to launch."""

    def __init__(self, bridge, variant, heads, tokens, d, candidate=-1):
        self.bridge, self.handle = bridge, ctypes.c_void_p()
        bridge.check(bridge.library.bridge_open_backward(variant.encode(), TOKENS // tokens, heads, heads, tokens,
                                                         tokens, d, candidate, ctypes.byref(self.handle)))
        self.plan = bridge.library.bridge_plan_backward(self.handle).decode()

    def __call__(self, tensors, lse):
        stream = torch.cuda.current_stream().cuda_stream
        pointers = (ctypes.c_void_p * 8)(*[tensor.data_ptr() for tensor in tensors])
        self.bridge.check(self.bridge.library.bridge_backward(
            self.handle, ctypes.cast(pointers, ctypes.c_void_p), lse.data_ptr(), tensors[0].shape[-1] ** -0.5, stream))

    def close(self):
        self.bridge.library.bridge_close_backward(self.handle)


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


class Work:
    """A variant at a head dimension and a sequence length, with its inputs."""

    def __init__(self, case):
        self.variant, d, *tokens = case.split(":")
        self.d, self.tokens = int(d), int(tokens[0]) if tokens else TOKENS
        self.heads, self.b = HIDDEN // self.d, TOKENS // self.tokens
        self.causal = "causal" in self.variant
        self.has_peers = self.variant in ("full", "causal")
        torch.manual_seed(1)
        self.q, self.k, self.v = (
            torch.randn(self.b, self.tokens, self.heads, self.d, device="cuda", dtype=torch.bfloat16) for _ in range(3))

    def __str__(self):
        return f"d {self.d} {self.variant}, {self.tokens} tokens"

    def teraflops(self, ms):
        if self.variant == "window":
            entries = self.tokens * 1024 - 1024 * 1023 / 2
        else:
            entries = self.tokens**2 / (2 if self.causal else 1)
        return 4 * self.d * self.heads * self.b * entries / ms / 1e9

    def error_of(self, o):
        """Of a few rows of the last sequence, relative to float32 attention."""
        rows = [0, 1, self.tokens // 16, self.tokens // 2 - 1, self.tokens - 1]
        q, k, v = self.q[-1], self.k[-1], self.v[-1]
        scores = torch.einsum("shd,thd->hst", q[rows].float(), k.float()) * self.d**-0.5
        keys = torch.arange(self.tokens, device="cuda")
        queries = torch.tensor(rows, device="cuda")[:, None]
        if "softcap" in self.variant:
            scores = 30 * torch.tanh(scores / 30)
        if "alibi" in self.variant:
            slopes = torch.exp2(-8 * torch.arange(1, self.heads + 1, device="cuda") / self.heads)
            scores = scores - slopes[:, None, None] * (queries - keys).abs()
        if self.causal or self.variant == "window":
            scores = scores.masked_fill(keys > queries, -torch.inf)
        if self.variant == "window":
            scores = scores.masked_fill(queries - keys >= 1024, -torch.inf)
        exact = torch.einsum("hst,thd->shd", torch.softmax(scores, -1), v.float())
        return ((o[-1, rows].float() - exact).norm() / exact.norm()).item()

    def peers(self):
        """PyTorch's backends that compute the same."""
        if not self.has_peers:
            return {}
        heads_first = [x.transpose(1, 2) for x in (self.q, self.k, self.v)]

        def run(backend):
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(*heads_first, is_causal=self.causal)

        return {"FlashAttention-2": lambda: run(SDPBackend.FLASH_ATTENTION),
                "cuDNN": lambda: run(SDPBackend.CUDNN_ATTENTION)}


class BackwardWork(Work):
    """Likewise with what backward passes are given. FLOPs count 2.5 times those of the forward pass."""

    def __init__(self, bridge, case):
        super().__init__(case)
        self.o, self.d_o = torch.empty_like(self.q), torch.randn_like(self.q)
        self.lse = torch.empty(self.b, self.heads, self.tokens, device="cuda", dtype=torch.float32)
        forward = Tilewise(bridge, self.variant, self.heads, self.tokens, self.d)
        forward(self.q, self.k, self.v, self.o, self.lse)
        torch.cuda.synchronize()
        forward.close()

    def teraflops(self, ms):
        return 2.5 * super().teraflops(ms)

    def tensors(self):
        """With poisoned gradients at the end."""
        gradients = [torch.full_like(self.q, torch.nan) for _ in range(3)]
        return (self.q, self.k, self.v, self.o, self.d_o, *gradients)

    def peers(self):
        if not self.has_peers:
            return {}
        leaves = [x.transpose(1, 2).detach().requires_grad_() for x in (self.q, self.k, self.v)]
        calls = {}
        for name, backend in (("FlashAttention-2", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):
            with sdpa_kernel(backend):
                output = scaled_dot_product_attention(*leaves, is_causal=self.causal)
            calls[name] = lambda output=output: torch.autograd.grad(output, leaves, self.d_o.transpose(1, 2),
                                                                    retain_graph=True)
        return calls

    def difference(self, tensors, peers):
        """Of d_q, d_k and d_v from FlashAttention-2's, norm over norm."""
        if not peers:
            return "nothing to compare with"
        theirs = [gradient.transpose(1, 2).float() for gradient in peers["FlashAttention-2"]()]
        errors = [((mine.float() - other).norm() / other.norm()).item() for mine, other in zip(tensors[5:], theirs)]
        return ", ".join(f"{error:.1e}" for error in errors)


def show(title, work, medians, remark):
    figures = {name: work.teraflops(ms) for name, ms in medians.items()}
    first = next(iter(figures))
    ratios = "".join(f", {figures[first] / value:.3f} of {name}" for name, value in figures.items() if name != first)
    shown = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
    print(f"{title} {work}: {shown} TFLOP/s{ratios}; {remark}", flush=True)


def compare(bridge, case, rounds):
    work = Work(case)
    o = torch.full_like(work.q, torch.nan)
    ours = Tilewise(bridge, work.variant, work.heads, work.tokens, work.d)
    ours(work.q, work.k, work.v, o)
    error = work.error_of(o)
    medians = alternate({"Tilewise": lambda: ours(work.q, work.k, work.v, o), **work.peers()}, rounds)
    show("forward", work, medians, f"relative error {error:.1e} ({ours.plan})")
    ours.close()


def compare_backward(bridge, case, rounds):
    """Everything that a backward call does is timed."""
    work = BackwardWork(bridge, case)
    tensors, peers = work.tensors(), work.peers()
    ours = TilewiseBackward(bridge, work.variant, work.heads, work.tokens, work.d)
    ours(tensors, work.lse)
    difference = work.difference(tensors, peers)
    medians = alternate({"Tilewise": lambda: ours(tensors, work.lse), **peers}, rounds)
    show("backward", work, medians, f"from FlashAttention-2's gradients: {difference} ({ours.plan})")
    ours.close()


def candidates_of(make, count):
    made = []
    while len(made) < count:
        try:
            made.append(make(len(made)))
        except RuntimeError:
            break
    return made


def tune(bridge, case, rounds, count):
    work = Work(case)
    o = torch.empty_like(work.q)
    made = candidates_of(lambda i: Tilewise(bridge, work.variant, work.heads, work.tokens, work.d, i), count)
    medians = alternate({one.plan: lambda one=one: one(work.q, work.k, work.v, o) for one in made}, rounds)
    for plan, ms in medians.items():
        print(f"tune {work}: {work.teraflops(ms):.1f} TFLOP/s, {plan}", flush=True)
    for one in made:
        one.close()


def tune_backward(bridge, case, rounds, count):
    work = BackwardWork(bridge, case)
    tensors = work.tensors()
    made = candidates_of(lambda i: TilewiseBackward(bridge, work.variant, work.heads, work.tokens, work.d, i), count)
    medians = alternate({one.plan: lambda one=one: one(tensors, work.lse) for one in made}, rounds)
    for plan, ms in medians.items():
        print(f"tune backward {work}: {work.teraflops(ms):.1f} TFLOP/s, {plan}", flush=True)
    for one in made:
        one.close()


def state_of_card():
    fields = "name,driver_version,clocks.sm,power.draw,power.limit,temperature.gpu"
    print(subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True,
                         text=True, check=False).stdout.strip(), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bridge")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="*", default=[
        "full:64", "causal:64", "full:128", "causal:128", "full:256", "causal:256", "softcap:128",
        "softcap_causal:128", "alibi:128", "alibi_causal:128", "window:128"])
    parser.add_argument("--backward", nargs="*", default=[
        "full:64", "causal:64", "full:128", "causal:128", "softcap:128", "alibi:128", "window:128"])
    parser.add_argument("--tune", nargs="*", default=[])
    parser.add_argument("--tune-backward", nargs="*", default=[])
    parser.add_argument("--candidates", type=int, default=8)
    arguments = parser.parse_args()
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # the primary context is there before anything else asks for it
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    bridge = Bridge(arguments.bridge)
    state_of_card()
    for case in arguments.tune:
        tune(bridge, case, arguments.rounds, arguments.candidates)
    for case in arguments.tune_backward:
        tune_backward(bridge, case, arguments.rounds, arguments.candidates)
    for case in arguments.cases:
        compare(bridge, case, arguments.rounds)
    for case in arguments.backward:
        compare_backward(bridge, case, arguments.rounds)
    state_of_card()


if __name__ == "__main__":
    main()
