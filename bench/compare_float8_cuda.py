#!/usr/bin/env python3
"""Forward attention of float8_e4m3 beside that of 16-bit elements: time, and error against float64.

Usage: python3 bench/compare_float8_cuda.py BRIDGE [--rounds N] [--cases CASE ...] [--lengths S ...] [--distributions NAME ...]
BRIDGE: build/release/lib/libbench_torch_bridge.so. Needs PyTorch with CUDA, and a GPU of compute capability 9.0.
A CASE is as in bench/compare_torch_cuda.py, for plain and causal attention.

Errors are root mean squares against float64, over all of o. Inputs are those of FlashAttention-3's table: normal, and
one in a thousand has a normal number of a standard deviation of 10 added ("outliers"); or normal alone. Scales and codes
are made by PyTorch, and their making is not in the times; all else is, the transposition of v too. "given codes" is the
error against float64 attention of the very codes and scales: what the kernel adds to what quantising costs.
"""

import argparse

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from torch_cuda.bridge import Bridge, Tilewise
from torch_cuda.cases import Case
from torch_cuda.times import Gpu, Times

BLOCK = 128
LARGEST = 448


def quantised(x, of_blocks):
    """[b, s, h, d] -> codes, scales [h] or [b, h, blocks], and their products."""
    b, s, h, d = x.shape
    if of_blocks:
        blocks = -(-s // BLOCK)
        padded = torch.nn.functional.pad(x.float().abs(), (0, 0, 0, 0, 0, blocks * BLOCK - s))
        largest = padded.view(b, blocks, BLOCK, h, d).amax((2, 4)).transpose(1, 2).contiguous()  # [b, h, blocks]
        of_rows = largest.repeat_interleave(BLOCK, 2)[:, :, :s].transpose(1, 2)[..., None]
    else:
        largest = x.float().abs().amax((0, 1, 3))
        of_rows = largest[:, None]
    scales = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    of_rows = torch.where(of_rows > 0, of_rows / LARGEST, torch.ones_like(of_rows))
    codes = (x.float() / of_rows).to(torch.float8_e4m3fn)
    return codes, scales, codes.double() * of_rows.double()


def exact(q, k, v, is_causal, rows=512):
    """float64 attention of [b, s, h, d], some rows at a time."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    s_q, s_kv = q.shape[2], k.shape[2]
    parts = []
    for first in range(0, s_q, rows):
        scores = q[:, :, first:first + rows] @ k.transpose(2, 3) * q.shape[3] ** -0.5
        if is_causal:
            queries = torch.arange(first, min(first + rows, s_q), device=q.device)[:, None] + s_kv - s_q
            scores.masked_fill_(torch.arange(s_kv, device=q.device) > queries, -torch.inf)
        parts.append(torch.softmax(scores, -1).nan_to_num(0) @ v)
    return torch.cat(parts, 2).transpose(1, 2)


def rms(x):
    return x.double().square().mean().sqrt().item()


def inputs_of(distribution, shape):
    x = torch.randn(shape, device="cuda")
    if distribution == "outliers":
        x += 10 * torch.randn(shape, device="cuda") * (torch.rand(shape, device="cuda") < 0.001)
    return x


class TimesBothWays(Times):
    """Every second round goes backwards: who follows bfloat16, which draws most power, runs up to 10% slower."""

    def order(self, names, number):
        return names if number % 2 == 0 else names[::-1]


class Comparison:
    def __init__(self, bridge, gpu, rounds):
        self.bridge, self.gpu, self.rounds = bridge, gpu, rounds

    def check(self, sizes, variant, of_blocks):
        """The kernel's error beside that of standard attention whose weights are rounded to float8_e4m3."""
        b, h_q, h_kv, s_q, s_kv, d_qk, d_v = sizes
        torch.manual_seed(sum(sizes))
        tensors = [torch.randn(b, s, h, d, device="cuda") * torch.rand(b, s, 1, 1, device="cuda").add(0.5)
                   for s, h, d in ((s_q, h_q, d_qk), (s_kv, h_kv, d_qk), (s_kv, h_kv, d_v))]
        given = [quantised(x, of_blocks) for x in tensors]
        ours = Tilewise(self.bridge, Case(f"{variant}:{d_qk}"), sizes=sizes, dtype="float8_e4m3")
        o = torch.full((b, s_q, h_q, d_v), torch.nan, device="cuda", dtype=torch.bfloat16)
        lse = torch.full((b, h_q, s_q), torch.nan, device="cuda")
        ours.forward_float8(*[codes for codes, _, _ in given], o, [scales for _, scales, _ in given], lse)
        expected = exact(*[products for _, _, products in given], variant == "causal")
        error = o.double() - expected
        print(f"{variant} {sizes} {'blocks' if of_blocks else 'heads'}: largest error {error.abs().max().item():.2e}, rms "
              f"{rms(error):.2e} of {rms(expected):.2e} ({ours.plan})", flush=True)
        ours.close()

    def errors(self, distribution, tokens, d=128, heads=8):
        torch.manual_seed(1)
        q, k, v = (inputs_of(distribution, (1, tokens, heads, d)) for _ in range(3))
        expected = exact(q, k, v, False)
        told = []
        for dtype, name in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16")):
            given = [x.to(dtype) for x in (q, k, v)]
            o = torch.full_like(given[0], torch.nan)
            ours = Tilewise(self.bridge, Case(f"full:{d}:{tokens}"), sizes=(1, heads, heads, tokens, tokens, d, d),
                            dtype=name)
            ours.forward(*given, o)
            scores = given[0].transpose(1, 2) @ given[1].transpose(1, 2).transpose(2, 3) * d ** -0.5
            standard = (torch.softmax(scores, -1) @ given[2].transpose(1, 2)).transpose(1, 2)
            told.append(f"{name} {rms(o.double() - expected):.2e} (standard {rms(standard.double() - expected):.2e})")
            ours.close()
        ours = Tilewise(self.bridge, Case(f"full:{d}:{tokens}"), sizes=(1, heads, heads, tokens, tokens, d, d),
                        dtype="float8_e4m3")
        for of_blocks in (False, True):
            given = [quantised(x, of_blocks) for x in (q, k, v)]
            o = torch.full(q.shape, torch.nan, device="cuda", dtype=torch.bfloat16)
            ours.forward_float8(*[codes for codes, _, _ in given], o, [scales for _, scales, _ in given])
            of_codes = exact(*[products for _, _, products in given], False)
            told.append(f"float8_e4m3 by {'blocks' if of_blocks else 'heads'} {rms(o.double() - expected):.2e} (given "
                        f"codes {rms(o.double() - of_codes):.2e}, their own {rms(of_codes - expected):.2e})")
        ours.close()
        print(f"error, {distribution}, s {tokens}, d {d}, rms of o {rms(expected):.2e}: " + "; ".join(told), flush=True)

    def times(self, case):
        q, k, v = case.inputs()
        o, o8 = torch.empty_like(v), torch.empty_like(v)
        wide, narrow = Tilewise(self.bridge, case), Tilewise(self.bridge, case, dtype="float8_e4m3")
        contestants = {"bfloat16": lambda: wide.forward(q, k, v, o)}
        for name, of_blocks in (("by heads", False), ("by blocks", True)):
            given = [quantised(x, of_blocks)[:2] for x in (q, k, v)]
            contestants[name] = lambda given=given: narrow.forward_float8(
                *[codes for codes, _ in given], o8, [scales for _, scales in given])
        heads_first = [x.transpose(1, 2) for x in (q, k, v)]

        def cudnn():
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                return scaled_dot_product_attention(*heads_first, is_causal=case.variant == "causal")

        contestants["cuDNN bfloat16"] = cudnn
        times = TimesBothWays(self.gpu, contestants, self.rounds)
        shown = ", ".join(f"{name} {case.teraflops(times[name]):.1f} TFLOP/s ({times.state(name)})" for name in contestants)
        ratios = ", ".join(f"{name} {times.ratio('bfloat16', name):.3f}" for name in ("by heads", "by blocks"))
        print(f"forward {case}: {shown}; times bfloat16's rate: {ratios} ({narrow.plan})", flush=True)
        wide.close(), narrow.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bridge")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--cases", nargs="*", default=["full:128", "causal:128", "full:64", "causal:64", "full:256",
                                                       "causal:256", "full:128:4096", "causal:128:4096"])
    parser.add_argument("--lengths", nargs="*", type=int, default=[1024, 4096, 16384])
    parser.add_argument("--distributions", nargs="*", default=["outliers", "normal"])
    parser.add_argument("--checks", action="store_true", help="a few shapes against float64, first of all")
    arguments = parser.parse_args()
    torch.cuda.init()
    torch.zeros(1, device="cuda")
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    comparison = Comparison(Bridge(arguments.bridge), Gpu(), arguments.rounds)
    if arguments.checks:
        for variant in ("full", "causal"):
            for of_blocks in (False, True):
                for sizes in ((1, 1, 1, 64, 32, 128, 128), (1, 1, 1, 128, 128, 128, 128), (1, 2, 1, 300, 523, 128, 128),
                              (2, 4, 2, 420, 1023, 64, 64), (1, 2, 1, 260, 700, 256, 256), (1, 2, 2, 200, 333, 96, 48)):
                    comparison.check(sizes, variant, of_blocks)
    for distribution in arguments.distributions:
        for tokens in arguments.lengths:
            comparison.errors(distribution, tokens)
    for case in arguments.cases:
        comparison.times(Case(case))


if __name__ == "__main__":
    main()
