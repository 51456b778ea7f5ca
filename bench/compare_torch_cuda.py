#!/usr/bin/env python3
"""Attention on the GPU at hand: Tilewise beside PyTorch's backends, and variants beside plain attention.

Usage: python3 bench/compare_torch_cuda.py BRIDGE [--rounds N] [--peers NAME ...] [--forward CASE ...]
           [--backward CASE ...] [--variants CASE ...] [--backward_variants CASE ...]
           [--first CASE ...] [--first_both CASE ...]
           [--deterministic CASE ...] [--gradients CASE ...] [--flex CASE ...] [--decoding B:H_Q:H_KV:S ...]
           [--report PAGE.md]
BRIDGE: build/release/lib/libbench_torch_bridge.so. Needs PyTorch with CUDA.
A CASE is VARIANT:D, VARIANT:D:S or VARIANT:D:S:D_V; b is 16384 / S (at least 1), and there are 2048 / D_V heads.

Each round times every contestant once, in turn, so that clocks and power are about the same for all; figures are
medians over the rounds. Who follows a contestant that draws little power runs faster, so the only peer is cuDNN unless
others are asked for. FLOPs are 2 (d + d_v) a kept entry (causal: half of all), 2.5 times that backward. Everything
that a public call does is in its time: lengths on their way, classification of tiles, the kernels. Beside each figure
are the clock (MHz) and the power (W) while it was taken.

Variants are timed in turns with plain attention of the same shape. A score function's ratio is plain's time over its
own. Drawn1 to drawn5 are random scores of ten operations (torch_cuda/drawn.py says how they are drawn); when all five
are timed, their median is told. A mask's is its own time over kept share times plain's: the share of tiles of 128 x 128
that it keeps entries of.
Deterministic backward passes, and such with the gradient of the variant's table, are timed in turns with the default's.
--first tells the seconds until a plan is there, then until one with its backward pass is; --first_both until one with
both is from the start, whose kernels are compiled side by side. Each once a process, with empty caches.
--flex sets variants beside compiled FlexAttention, in turns, forward and backward. --report writes all of it as a page
whose tables bench/plot_cuda.py draws.
"""

import argparse
import pathlib
import shlex
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from torch_cuda.bridge import Bridge, Tilewise
from torch_cuda.cases import DRAWN, MASKS, Case, expected_rows
from torch_cuda.report import Report
from torch_cuda.times import Gpu, Times

BACKENDS = {"cudnn": ("cuDNN", SDPBackend.CUDNN_ATTENTION), "fa2": ("FlashAttention-2", SDPBackend.FLASH_ATTENTION)}


class Comparison:
    def __init__(self, bridge, gpu, arguments, report=Report()):
        self.bridge, self.gpu, self.rounds, self.peers = bridge, gpu, arguments.rounds, arguments.peers
        self.report = report
        self.drawn = {}  # of plain, by pass and head dimension: what drawn scores reached

    def peers_of(self, case, q, k, v):
        """PyTorch's backends that compute the same."""
        heads_first = [x.transpose(1, 2) for x in (q, k, v)]

        def run(backend):
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(*heads_first, is_causal=case.variant == "causal")

        return {BACKENDS[peer][0]: lambda backend=BACKENDS[peer][1]: run(backend) for peer in self.peers}

    def tell(self, what, case, times, factor, notes):
        figures = {name: factor * case.teraflops(times[name]) for name in times.samples}
        ratios = "".join(f", {1 / times.ratio('Tilewise', peer):.3f} of {peer}" for peer in figures
                         if peer != "Tilewise")
        shown = ", ".join(f"{name} {value:.1f} TFLOP/s ({times.state(name)})" for name, value in figures.items())
        print(f"{what} {case}: {shown}{ratios}{notes}", flush=True)
        if "cuDNN" in figures:
            self.report.add("lengths", what, case.dimensions(), case.tokens, case.variant,
                            *(f"{figures[name]:.1f}" for name in ("Tilewise", "cuDNN")),
                            times.ratio("cuDNN", "Tilewise"), times.state("Tilewise").split()[0])

    def forward(self, case):
        q, k, v = case.inputs()
        o = torch.full((*q.shape[:-1], case.d_v), torch.nan, device="cuda", dtype=q.dtype)
        ours = Tilewise(self.bridge, case)
        ours.forward(q, k, v, o)
        times = Times(self.gpu, {"Tilewise": lambda: ours.forward(q, k, v, o), **self.peers_of(case, q, k, v)},
                      self.rounds)
        self.tell("forward", case, times, 1, f"; relative error {self.error(case, q, k, v, o)} ({ours.plan})")
        ours.close()

    @staticmethod
    def error(case, q, k, v, o):
        rows = [0, 1, case.tokens // 3, case.tokens // 2 - 1, case.tokens - 1]
        exact = expected_rows(case, q, k, v, rows)
        return "not asked" if exact is None else f"{((o[0, rows].float() - exact).norm() / exact.norm()).item():.1e}"

    def gradients(self, case, deterministic=False, of_table=False):
        """A plan and its tensors, ready for backward calls."""
        q, k, v = case.inputs()
        o = torch.empty(*q.shape[:-1], case.d_v, device="cuda", dtype=q.dtype)
        d_o = torch.randn_like(o)
        lse = torch.empty(case.b, case.heads, case.tokens, device="cuda", dtype=torch.float32)
        ours = Tilewise(self.bridge, case, backward=True, deterministic=deterministic)
        ours.forward(q, k, v, o, lse)
        outputs = [torch.full_like(x, torch.nan) for x in (q, k, v)]
        tensors = (q, k, v, o, lse, d_o, *outputs)
        if of_table:
            tensors += (torch.full_like(ours.table, torch.nan),)
        ours.backward(*tensors)
        return ours, tensors

    def backward(self, case):
        ours, tensors = self.gradients(case)
        q, k, v, _, _, d_o, *outputs = tensors
        contestants = {"Tilewise": lambda: ours.backward(*tensors)}
        leaves = [x.transpose(1, 2).detach().requires_grad_() for x in (q, k, v)]
        results = {}
        for peer in self.peers:
            name, backend = BACKENDS[peer]
            with sdpa_kernel(backend):
                results[name] = scaled_dot_product_attention(*leaves, is_causal=case.variant == "causal")
            contestants[name] = lambda name=name: torch.autograd.grad(results[name], leaves, d_o.transpose(1, 2),
                                                                      retain_graph=True)
        notes = ""
        if self.peers:
            peer = BACKENDS[self.peers[0]][0]
            theirs = [gradient.transpose(1, 2).float() for gradient in contestants[peer]()]
            errors = [((mine.float() - other).norm() / other.norm()).item() for mine, other in zip(outputs, theirs)]
            notes = f"; from {peer}'s gradients: " + ", ".join(f"{error:.1e}" for error in errors)
        self.tell("backward", case, Times(self.gpu, contestants, self.rounds), 2.5, notes + f" ({ours.plan})")
        ours.close()

    def variant(self, case, backward):
        plain = case.named("full")
        plans, contestants, error = [], {}, "not asked"
        for name, one in (("variant", case), ("plain", plain)):
            if backward:
                ours, tensors = self.gradients(one)
                contestants[name] = lambda ours=ours, tensors=tensors: ours.backward(*tensors)
            else:
                q, k, v = one.inputs()
                o = torch.full((*q.shape[:-1], one.d_v), torch.nan, device="cuda", dtype=q.dtype)
                ours = Tilewise(self.bridge, one)
                ours.forward(q, k, v, o)
                contestants[name] = lambda ours=ours, tensors=(q, k, v, o): ours.forward(*tensors)
                if one is case:
                    error = self.error(case, q, k, v, o)
            plans.append(ours)
        times = Times(self.gpu, contestants, self.rounds)
        factor, direction = (2.5, "backward") if backward else (1, "forward")
        ratio, plain_rate = times.ratio("variant", "plain"), f"{factor * plain.teraflops(times['plain']):.1f}"
        if case.variant in MASKS:
            share = self.bridge.kept_share(case.text(), case.tokens)
            told = f"kept share {share:.4f}, {ratio / share:.3f} of share x plain's time"
            self.report.add("masks", direction, case.dimensions(), case.tokens, case.variant, times["variant"],
                            times["plain"], f"{share:.4f}", ratio / share)
        else:
            rate = f"{factor * case.teraflops(times['variant']):.1f}"
            told = f"{rate} TFLOP/s, {1 / ratio:.3f} of plain"
            self.report.add("scores", direction, case.dimensions(), case.variant, rate, plain_rate, 1 / ratio)
            if case.variant in DRAWN:
                drawn = self.drawn.setdefault((direction, case.dimensions()), [])
                drawn.append(1 / ratio)
                if len(drawn) == len(DRAWN):
                    median = statistics.median(drawn)
                    print(f"{direction} d {case.dimensions()}, scores of ten drawn operations: median {median:.3f} of "
                          f"plain, from {min(drawn):.3f} to {max(drawn):.3f}", flush=True)
                    self.report.add("scores", direction, case.dimensions(), "drawn, median", "", "", median)
        print(f"{direction} {case}: {times['variant']:.3f} ms, plain {times['plain']:.3f} ms ({plain_rate} TFLOP/s), "
              f"{told}; relative error {error} ({times.state('variant')}; {plans[0].plan})", flush=True)
        for ours in plans:
            ours.close()

    def beside_default(self, case, what, **asked):
        """A backward pass that is asked for more, beside the default one, and plain attention's where it is for a
        table's gradient; whether a second run gives the same bits."""
        (ours, tensors), (default, plain) = self.gradients(case, **asked), self.gradients(case)
        first = [x.clone() for x in tensors[6:]]
        ours.backward(*tensors)
        same = all(torch.equal(a, b) for a, b in zip(first, tensors[6:]))
        apart = max(((a.float() - b.float()).norm() / b.float().norm()).item() for a, b in zip(first, plain[6:9]))
        contestants = {"asked": lambda: ours.backward(*tensors), "default": lambda: default.backward(*plain)}
        plans = [ours, default]
        if "of_table" in asked:
            without, others = self.gradients(case.named("full"))
            contestants["plain"] = lambda: without.backward(*others)
            plans.append(without)
        times = Times(self.gpu, contestants, self.rounds)
        of_plain = times.ratio("plain", "asked") if "plain" in contestants else ""
        self.report.add("default", what, case.dimensions(), case.variant,
                        *(f"{2.5 * case.teraflops(times[name]):.1f}" for name in ("asked", "default")),
                        times.ratio("default", "asked"), of_plain, "the same" if same else "others")
        told = f", {of_plain:.3f} of plain" if of_plain else ""
        print(f"backward {case}, {what}: {2.5 * case.teraflops(times['asked']):.1f} TFLOP/s, default "
              f"{2.5 * case.teraflops(times['default']):.1f}, {times.ratio('default', 'asked'):.3f} of it{told}; "
              f"{'the same bits again' if same else 'other bits again'}, {apart:.1e} from the default's "
              f"({times.state('asked')}; {ours.plan})", flush=True)
        for plan in plans:
            plan.close()

    def flex(self, case, backward):
        """Ours beside compiled FlexAttention, which gets the same table."""
        from torch_cuda.flex import FlexAttention

        ours, tensors = self.gradients(case)
        q, k, v, o, lse, d_o, *gradients = tensors
        attention = FlexAttention(case, ours.table)
        leaves = [x.transpose(1, 2).detach().requires_grad_(backward) for x in (q, k, v)]
        output = attention(*leaves)
        if backward:
            mine, calls = gradients, {"Tilewise": lambda: ours.backward(*tensors),
                                      "FlexAttention": lambda: torch.autograd.grad(output, leaves, d_o.transpose(1, 2),
                                                                                   retain_graph=True)}
            theirs = calls["FlexAttention"]()
        else:
            mine, theirs = [o], [output]
            calls = {"Tilewise": lambda: ours.forward(q, k, v, o), "FlexAttention": lambda: attention(*leaves)}
        apart = max(((a.float() - b.transpose(1, 2).float()).norm() / b.float().norm()).item()
                    for a, b in zip(mine, theirs))
        times = Times(self.gpu, calls, self.rounds)
        direction, ratio = "backward" if backward else "forward", times.ratio("FlexAttention", "Tilewise")
        self.report.add("flex", direction, case.dimensions(), case.variant, times["Tilewise"], times["FlexAttention"],
                        ratio, f"{apart:.1e}")
        print(f"{direction} {case}: {times['Tilewise']:.3f} ms, FlexAttention {times['FlexAttention']:.3f} ms: "
              f"{ratio:.3f} times as fast; {apart:.1e} from FlexAttention's ({times.state('Tilewise')}; {ours.plan})",
              flush=True)
        ours.close()

    def first(self, case):
        """Seconds until a first call's plan is there, compiled or found in the cache; then with its backward pass."""
        self.plan_first(case, False)
        self.plan_first(case, True)

    def plan_first(self, case, backward):
        ours = Tilewise(self.bridge, case, backward=backward)
        what = ", with its backward pass" if backward else ""
        print(f"first plan {case}{what}: {ours.seconds:.3f} s", flush=True)
        ours.close()

    def decoding(self, b, h_q, h_kv, s):
        """10^9 bytes of keys and values a second, each read once. Caches are larger than the second-level cache."""
        d = 128
        torch.manual_seed(1)
        q = torch.randn(b, 1, h_q, d, device="cuda", dtype=torch.bfloat16)
        k, v = (torch.randn(b, s, h_kv, d, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        o = torch.full_like(q, torch.nan)
        ours = Tilewise(self.bridge, Case(f"full:{d}"), sizes=(b, h_q, h_kv, 1, s, d, d))
        ours.forward(q, k, v, o)
        heads_first = [x.transpose(1, 2) for x in (q, k, v)]
        exact = scaled_dot_product_attention(*[x[:1].float() for x in heads_first], enable_gqa=True).transpose(1, 2)
        error = ((o[:1].float() - exact).norm() / exact.norm()).item()

        def peer(backend):
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(*heads_first, enable_gqa=True)

        contestants = {"Tilewise": lambda: ours.forward(q, k, v, o)}
        for name, backend in BACKENDS.values():
            try:
                peer(backend)
                contestants[name] = lambda backend=backend: peer(backend)
            except RuntimeError as problem:
                print(f"{name} does not decode here: {problem}")
        times = Times(self.gpu, contestants, self.rounds)
        rates = {name: f"{2 * b * h_kv * s * d * 2 / times[name] / 1e6:.0f}" for name in contestants}
        shown = ", ".join(f"{name} {rate}" for name, rate in rates.items())
        print(f"decoding b {b}, {h_q}/{h_kv} heads, s {s}: {shown} GB/s; relative error {error:.1e} ({ours.plan})",
              flush=True)
        self.report.add("decoding", b, f"{h_q}/{h_kv}", s,
                        *(rates.get(name, "") for name in ("Tilewise", "cuDNN", "FlashAttention-2")),
                        times.ratio("cuDNN", "Tilewise") if "cuDNN" in contestants else "")
        ours.close()


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bridge")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["cudnn"], choices=list(BACKENDS))
    plain = [f"{variant}:{d}" for d in (64, 128) for variant in ("full", "causal")]
    lengths = [f"{variant}:{d}:{s}" for s in (512, 1024, 4096) for d in (64, 128) for variant in ("full", "causal")]
    scores = ["softcap", "alibi", "relative", "t5", "twelve", *DRAWN]
    scores = [f"{variant}:{d}" for d in (64, 128) for variant in scores]
    masks = [f"{mask}:128{s}" for s in ("", ":65536") for mask in ("window", "documents", "bigbird")]
    wide = ["full:256", "causal:256", "causal:192:16384:128"]
    parser.add_argument("--forward", nargs="*", default=[*plain, *wide, *lengths])
    parser.add_argument("--backward", nargs="*", default=[*plain, *wide, *lengths])
    parser.add_argument("--variants", nargs="*", default=scores + masks)
    parser.add_argument("--backward_variants", nargs="*", default=scores + masks)
    parser.add_argument("--deterministic", nargs="*", default=[*plain, *wide, "window:128", "documents:128"])
    tables = [f"{name}:{d}" for d in (64, 128) for name in ("relative", "t5")]
    parser.add_argument("--gradients", nargs="*", default=tables)
    parser.add_argument("--first", nargs="*", default=[])
    parser.add_argument("--first_both", nargs="*", default=[])
    parser.add_argument("--decoding", nargs="*", default=["16:32:8:8192", "1:32:8:65536", "64:32:8:4096"])
    parser.add_argument("--flex", nargs="*", default=[])
    parser.add_argument("--report", type=pathlib.Path)
    return parser.parse_args()


def report(path, machine):
    command = shlex.join(["python3", *sys.argv])
    return Report(path, f"Attention on {machine.split(',')[0]}", [
        f"{machine}. Public calls with all that they do; contestants of a line in turns, medians. Made by",
        f"    {command}"])


def main():
    arguments = parsed()
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # the primary context is there before anything else asks for it
    machine = f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
    print(machine)
    comparison = Comparison(Bridge(arguments.bridge), Gpu(), arguments, report(arguments.report, machine))
    for case in map(Case, arguments.first):
        comparison.first(case)
    for case in map(Case, arguments.first_both):
        comparison.plan_first(case, True)
    for case in map(Case, arguments.forward):
        comparison.forward(case)
    for case in map(Case, arguments.backward):
        comparison.backward(case)
    for case in map(Case, arguments.variants):
        comparison.variant(case, False)
    for case in map(Case, arguments.backward_variants):
        comparison.variant(case, True)
    for case in map(Case, arguments.deterministic):
        comparison.beside_default(case, "deterministic", deterministic=True)
    for case in map(Case, arguments.gradients):
        comparison.beside_default(case, "with the table's gradient", of_table=True)
    for case in map(Case, arguments.flex):
        comparison.flex(case, False)
        comparison.flex(case, True)
    for case in arguments.decoding:
        comparison.decoding(*map(int, case.split(":")))


if __name__ == "__main__":
    main()
