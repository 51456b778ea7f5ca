#!/usr/bin/env python3
"""Attention on the GPU at hand: Tilewise beside PyTorch's backends, and variants beside plain attention.

Usage: python3 bench/compare_torch_cuda.py BRIDGE [--rounds N] [--peers NAME ...] [--forward CASE ...]
           [--backward CASE ...] [--variants CASE ...] [--backward_variants CASE ...] [--first CASE ...]
           [--deterministic CASE ...] [--gradients CASE ...] [--decoding NAME:B:H_Q:H_KV:S ...]
BRIDGE: build/release/lib/libbench_torch_bridge.so. Needs PyTorch with CUDA.
A CASE is VARIANT:D, VARIANT:D:S or VARIANT:D:S:D_V; b is 16384 / S (at least 1), and there are 2048 / D_V heads.

Each round times every contestant once, in turn, so that clocks and power are about the same for all; figures are
medians over the rounds. Who follows a contestant that draws little power runs faster, so the only peer is cuDNN unless
others are asked for. FLOPs are 2 (d + d_v) a kept entry (causal: half of all), 2.5 times that backward. Everything
that a public call does is in its time: lengths on their way, classification of tiles, the kernels. Beside each figure
are the clock (MHz) and the power (W) while it was taken.

Variants are timed in turns with plain attention of the same shape. A score function's ratio is plain's time over its
own. A mask's is its own time over kept share times plain's: the share of tiles of 128 x 128 that it keeps entries of.
Deterministic backward passes, and such with the gradient of the variant's table, are timed in turns with the default's.
"""

import argparse
import ctypes
import statistics
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

TOKENS, HIDDEN = 16384, 2048
BACKENDS = {"cudnn": ("cuDNN", SDPBackend.CUDNN_ATTENTION), "fa2": ("FlashAttention-2", SDPBackend.FLASH_ATTENTION)}
TEN_OPERATIONS = "score(let a = (query - key) * 0.01; s * 0.9 + tanh(s * 0.3) - max(a * a, 2) * 0.5 + key * 0.001)"
VARIANTS = {"full": "plain", "causal": "causal()", "softcap": "softcap(30)", "softcap_causal": "softcap(30) & causal()",
            "alibi": "alibi({heads})", "alibi_causal": "alibi({heads}) & causal()", "window": "window(1024)",
            "relative": "relative_position(128)", "distances": "relative_position({tokens})",
            "keys": "table bias: float32[?, ?]; score(s + bias[head, key_index])", "t5": "t5_buckets(32, 128, 1)", "ten": TEN_OPERATIONS,
            "documents": "documents([{documents}])", "bigbird": "bigbird(64, 3, 2, 3, {tokens}, 1)"}
MASKS = ("causal", "window", "documents", "bigbird")


class Gpu:
    """The clock of the multiprocessors, and the power drawn, as NVML tells them."""

    def __init__(self):
        self.library, self.device = None, ctypes.c_void_p()
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
            self.library.nvmlInit_v2()
            self.library.nvmlDeviceGetHandleByIndex_v2(torch.cuda.current_device(), ctypes.byref(self.device))
        except OSError:
            pass

    def now(self):
        if self.library is None:
            return 0, 0
        clock, milliwatts = ctypes.c_uint(), ctypes.c_uint()
        self.library.nvmlDeviceGetClockInfo(self.device, 1, ctypes.byref(clock))
        self.library.nvmlDeviceGetPowerUsage(self.device, ctypes.byref(milliwatts))
        return clock.value, milliwatts.value / 1000


class Bridge:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        pointer = ctypes.c_void_p
        self.library.bridge_error.restype = ctypes.c_char_p
        self.library.bridge_plan.restype = ctypes.c_char_p
        self.library.bridge_plan.argtypes = [pointer]
        self.library.bridge_close.argtypes = [pointer]
        self.library.bridge_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, pointer, ctypes.c_int, pointer,
                                             ctypes.POINTER(pointer)]
        self.library.bridge_kept_share.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int,
                                                   ctypes.POINTER(ctypes.c_double)]
        self.library.bridge_forward.argtypes = [pointer] * 3
        self.library.bridge_forward_float8.argtypes = [pointer, pointer, ctypes.c_int, pointer]
        self.library.bridge_backward.argtypes = [pointer] * 3

    def check(self, result):
        if result != 0:
            raise RuntimeError(self.library.bridge_error().decode())

    def kept_share(self, text, tokens):
        share = ctypes.c_double()
        self.check(self.library.bridge_kept_share(text.encode(), tokens, tokens, ctypes.byref(share)))
        return share.value


class Case:
    """What is computed: a variant, and the sizes of its tensors."""

    def __init__(self, text):
        name, *sizes = text.split(":")
        sizes = [int(size) for size in sizes]
        self.variant, self.d = name, sizes[0]
        self.tokens = sizes[1] if len(sizes) > 1 else TOKENS
        self.d_v = sizes[2] if len(sizes) > 2 else self.d
        self.b, self.heads = max(1, TOKENS // self.tokens), HIDDEN // self.d_v

    def named(self, variant):
        return Case(f"{variant}:{self.d}:{self.tokens}:{self.d_v}")

    def text(self):
        return VARIANTS[self.variant].format(heads=self.heads, tokens=self.tokens,
                                             documents=", ".join(map(str, documents(self.tokens))))

    def __str__(self):
        d = f"{self.d}" if self.d == self.d_v else f"{self.d}/{self.d_v}"
        return f"d {d}, s {self.tokens}, b {self.b}, {self.variant}"

    def inputs(self):
        torch.manual_seed(1)
        return [torch.randn(self.b, self.tokens, self.heads, d, device="cuda", dtype=torch.bfloat16)
                for d in (self.d, self.d, self.d_v)]

    def entries(self):
        if self.variant == "window":
            return self.tokens * 1024 - 1024 * 1023 / 2
        return self.tokens * self.tokens / (2 if "causal" in self.variant else 1)

    def teraflops(self, ms):
        return 2 * (self.d + self.d_v) * self.b * self.heads * self.entries() / ms / 1e9


def documents(tokens):
    """Uneven lengths of documents, from 1/32 of all tokens to 1/8."""
    parts = [4, 1, 3, 2, 4, 1, 1, 3, 2, 4, 2, 1, 3, 1]
    return [part * tokens // 32 for part in parts]


class Tilewise:
    """A public plan for [b, s, h, d] tensors."""

    def __init__(self, bridge, case, backward=False, sizes=None, deterministic=False, dtype="bfloat16"):
        self.bridge, self.handle = bridge, ctypes.c_void_p()
        columns = {"relative": (case.heads, 257), "distances": (case.heads, 2 * case.tokens + 1),
                   "keys": (case.heads, case.tokens), "t5": (32, case.heads)}.get(case.variant, (0, 0))
        self.table = torch.randn(*columns, device="cuda") if columns[0] else None
        sizes = (ctypes.c_int * 9)(*(sizes or (case.b, case.heads, case.heads, case.tokens, case.tokens, case.d,
                                               case.d_v)), *columns)
        begin = time.perf_counter()
        bridge.check(bridge.library.bridge_open(case.text().encode(), dtype.encode(), ctypes.cast(sizes, ctypes.c_void_p),
                                                int(backward) + int(deterministic), None if self.table is None else self.table.data_ptr(),
                                                ctypes.byref(self.handle)))
        self.seconds = time.perf_counter() - begin
        lines = bridge.library.bridge_plan(self.handle).decode().splitlines()
        self.plan = "; ".join(line for line in lines if line.startswith(("forward", "decoding", "backward")))

    def call(self, function, tensors):
        pointers = (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])
        self.bridge.check(function(self.handle, ctypes.cast(pointers, ctypes.c_void_p),
                                   torch.cuda.current_stream().cuda_stream))

    def forward(self, q, k, v, o, lse=None):
        self.call(self.bridge.library.bridge_forward, (q, k, v, o, lse))

    def forward_float8(self, q, k, v, o, scales, lse=None):
        """Each of q, k and v with its scales, [h] or [b, h, blocks]"""
        tensors = [q, k, v, o, lse, *scales]
        pointers = (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])
        self.bridge.check(self.bridge.library.bridge_forward_float8(
            self.handle, ctypes.cast(pointers, ctypes.c_void_p), int(scales[0].dim() == 3),
            torch.cuda.current_stream().cuda_stream))

    def backward(self, *tensors):
        """q, k, v, o, lse, d_o, d_q, d_k, d_v, and the table's gradient or nothing"""
        self.call(self.bridge.library.bridge_backward, (*tensors, None) if len(tensors) == 9 else tensors)

    def close(self):
        self.bridge.library.bridge_close(self.handle)


class Times:
    """Of contestants (name -> call), in turns: median milliseconds, clock and power of each."""

    def __init__(self, gpu, contestants, rounds, target_ms=50):
        self.samples = {name: [] for name in contestants}
        repeats = {}
        for name, call in contestants.items():
            call()
            repeats[name] = max(2, int(target_ms / self.measured(gpu, call, 2)[0]))
        for _ in range(rounds):
            for name, call in contestants.items():
                self.samples[name].append(self.measured(gpu, call, repeats[name]))

    @staticmethod
    def measured(gpu, call, repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        state = gpu.now()
        end.synchronize()
        return begin.elapsed_time(end) / repeats, *state

    def __getitem__(self, name):
        return statistics.median(sample[0] for sample in self.samples[name])

    def state(self, name):
        return "{:.0f} MHz, {:.0f} W".format(*(statistics.median(sample[i] for sample in self.samples[name])
                                               for i in (1, 2)))

    def ratio(self, one, other):
        """Of the times of two contestants, round by round; the median."""
        return statistics.median(a[0] / b[0] for a, b in zip(self.samples[one], self.samples[other]))


def expected_rows(case, q, k, v, rows):
    """A few rows of the first sequence's answer in float32; None for variants that are only timed."""
    scores = torch.einsum("shd,thd->hst", q[0, rows].float(), k[0].float()) * case.d ** -0.5
    keys = torch.arange(case.tokens, device="cuda")
    queries = torch.tensor(rows, device="cuda")[:, None]
    if case.variant in ("relative", "t5", "ten", "documents", "bigbird"):
        return None
    if "softcap" in case.variant:
        scores = 30 * torch.tanh(scores / 30)
    if "alibi" in case.variant:
        slopes = torch.exp2(-8 * torch.arange(1, case.heads + 1, device="cuda") / case.heads)
        scores = scores - slopes[:, None, None] * (queries - keys).abs()
    if "causal" in case.variant or case.variant == "window":
        scores = scores.masked_fill(keys > queries, -torch.inf)
    if case.variant == "window":
        scores = scores.masked_fill(queries - keys >= 1024, -torch.inf)
    return torch.einsum("hst,thd->shd", torch.softmax(scores, -1), v[0].float())


class Comparison:
    def __init__(self, bridge, gpu, arguments):
        self.bridge, self.gpu, self.rounds, self.peers = bridge, gpu, arguments.rounds, arguments.peers

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
        factor = 2.5 if backward else 1
        ratio = times.ratio("variant", "plain")
        if case.variant in MASKS:
            share = self.bridge.kept_share(case.text(), case.tokens)
            told = f"kept share {share:.4f}, {ratio / share:.3f} of share x plain's time"
        else:
            told = f"{factor * case.teraflops(times['variant']):.1f} TFLOP/s, {1 / ratio:.3f} of plain"
        print(f"{'backward' if backward else 'forward'} {case}: {times['variant']:.3f} ms, plain "
              f"{times['plain']:.3f} ms ({factor * plain.teraflops(times['plain']):.1f} TFLOP/s), {told}; relative error "
              f"{error} ({times.state('variant')}; {plans[0].plan})", flush=True)
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
        of_plain = f", {times.ratio('plain', 'asked'):.3f} of plain" if "plain" in contestants else ""
        print(f"backward {case}, {what}: {2.5 * case.teraflops(times['asked']):.1f} TFLOP/s, default "
              f"{2.5 * case.teraflops(times['default']):.1f}, {times.ratio('default', 'asked'):.3f} of it{of_plain}; "
              f"{'the same bits again' if same else 'other bits again'}, {apart:.1e} from the default's "
              f"({times.state('asked')}; {ours.plan})", flush=True)
        for plan in plans:
            plan.close()

    def first(self, case):
        """Seconds until a first call's plan is there, compiled or found in the cache."""
        for backward in (False, True):
            ours = Tilewise(self.bridge, case, backward=backward)
            print(f"first plan {case}{', with its backward pass' if backward else ''}: {ours.seconds:.2f} s", flush=True)
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
        shown = ", ".join(f"{name} {2 * b * h_kv * s * d * 2 / times[name] / 1e6:.0f}" for name in contestants)
        print(f"decoding b {b}, {h_q}/{h_kv} heads, s {s}: {shown} GB/s; relative error {error:.1e} ({ours.plan})",
              flush=True)
        ours.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bridge")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["cudnn"], choices=list(BACKENDS))
    plain = [f"{variant}:{d}" for d in (64, 128) for variant in ("full", "causal")]
    lengths = [f"{variant}:{d}:{s}" for s in (512, 1024, 4096) for d in (64, 128) for variant in ("full", "causal")]
    scores = [f"{variant}:{d}" for d in (64, 128) for variant in ("softcap", "alibi", "relative", "t5", "ten")]
    masks = ["window:128", "documents:128", "bigbird:128", "bigbird:128:65536"]
    wide = ["full:256", "causal:256", "causal:192:16384:128"]
    parser.add_argument("--forward", nargs="*", default=[*plain, *wide, *lengths])
    parser.add_argument("--backward", nargs="*", default=[*plain, *wide, *lengths])
    parser.add_argument("--variants", nargs="*", default=scores + masks)
    parser.add_argument("--backward_variants", nargs="*", default=scores + masks)
    parser.add_argument("--deterministic", nargs="*", default=[*plain, *wide, "window:128", "documents:128"])
    parser.add_argument("--gradients", nargs="*", default=[f"{name}:{d}" for d in (64, 128) for name in ("relative", "t5")])
    parser.add_argument("--first", nargs="*", default=[])
    parser.add_argument("--decoding", nargs="*", default=["16:32:8:8192", "1:32:8:65536", "64:32:8:4096"])
    arguments = parser.parse_args()
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # the primary context is there before anything else asks for it
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    comparison = Comparison(Bridge(arguments.bridge), Gpu(), arguments)
    for case in arguments.first:
        comparison.first(Case(case))
    for case in arguments.forward:
        comparison.forward(Case(case))
    for case in arguments.backward:
        comparison.backward(Case(case))
    for case in arguments.variants:
        comparison.variant(Case(case), False)
    for case in arguments.backward_variants:
        comparison.variant(Case(case), True)
    for case in arguments.deterministic:
        comparison.beside_default(Case(case), "deterministic", deterministic=True)
    for case in arguments.gradients:
        comparison.beside_default(Case(case), "with the table's gradient", of_table=True)
    for case in arguments.decoding:
        comparison.decoding(*map(int, case.split(":")))


if __name__ == "__main__":
    main()
