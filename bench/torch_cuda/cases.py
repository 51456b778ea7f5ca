"""What is computed: variants and the sizes of their tensors."""

import torch

from .drawn import Expression

TOKENS, HIDDEN = 16384, 2048
TWELVE_OPERATIONS = "score(let a = (query - key) * 0.01; s * 0.9 + tanh(s * 0.3) - max(a * a, 2) * 0.5 + key * 0.001)"
VARIANTS = {"full": "plain", "causal": "causal()", "softcap": "softcap(30)", "softcap_causal": "softcap(30) & causal()",
            "alibi": "alibi({heads})", "alibi_causal": "alibi({heads}) & causal()", "window": "window(1024)",
            "relative": "relative_position(128)", "distances": "relative_position({tokens})",
            "keys": "table bias: float32[?, ?]; score(s + bias[head, key_index])",
            "t5": "t5_buckets(32, 128, 1)", "twelve": TWELVE_OPERATIONS,  # one of them a tanh, written by hand
            "documents": "documents([{documents}])", "bigbird": "bigbird(64, 3, 2, 3, {tokens}, 1)"}
DRAWN = {f"drawn{seed}": Expression(seed) for seed in range(1, 6)}  # ten operations each
VARIANTS |= {name: score.text() for name, score in DRAWN.items()}
MASKS = ("causal", "window", "documents", "bigbird")


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

    def dimensions(self):
        return f"{self.d}" if self.d == self.d_v else f"{self.d}/{self.d_v}"

    def __str__(self):
        return f"d {self.dimensions()}, s {self.tokens}, b {self.b}, {self.variant}"

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


def expected_rows(case, q, k, v, rows):
    """A few rows of the first sequence's answer in float32; None for variants that are only timed."""
    scores = torch.einsum("shd,thd->hst", q[0, rows].float(), k[0].float()) * case.d ** -0.5
    keys = torch.arange(case.tokens, device="cuda")
    queries = torch.tensor(rows, device="cuda")[:, None]
    if case.variant in ("relative", "t5", "documents", "bigbird"):
        return None
    if "softcap" in case.variant:
        scores = 30 * torch.tanh(scores / 30)
    if "alibi" in case.variant:
        slopes = torch.exp2(-8 * torch.arange(1, case.heads + 1, device="cuda") / case.heads)
        scores = scores - slopes[:, None, None] * (queries - keys).abs()
    if case.variant == "twelve":
        a = (queries - keys) * 0.01
        scores = scores * 0.9 + torch.tanh(scores * 0.3) - (a * a).clamp(min=2) * 0.5 + keys * 0.001
    if case.variant in DRAWN:
        scores = DRAWN[case.variant].scores(scores, queries, keys)
    if "causal" in case.variant or case.variant == "window":
        scores = scores.masked_fill(keys > queries, -torch.inf)
    if case.variant == "window":
        scores = scores.masked_fill(queries - keys >= 1024, -torch.inf)
    return torch.einsum("hst,thd->shd", torch.softmax(scores, -1), v[0].float())
