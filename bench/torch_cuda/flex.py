"""FlexAttention's form of the variants, compiled. Its block mask is made beforehand and is in no time."""

import math

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from .cases import DRAWN, documents


def t5_bucket(difference):
    """Bidirectional, 32 buckets up to a distance of 128, as our t5_buckets(32, 128, 1)."""
    distance = difference.abs()
    far = 8 + (torch.log(distance.float() / 8) * (8 / math.log(16))).to(torch.int32)
    return torch.where(distance < 8, distance, far.clamp(max=15)) + torch.where(difference > 0, 16, 0)


def drawn_function(drawn):
    return lambda score, batch, head, query, key: drawn.scores(score, query, key)


def score_function(case, table):
    slopes = torch.exp2(-8 * torch.arange(1, case.heads + 1, device="cuda") / case.heads)

    def softcap(score, batch, head, query, key):
        return 30 * torch.tanh(score / 30)

    def alibi(score, batch, head, query, key):
        return score - slopes[head] * (query - key).abs()

    def relative(score, batch, head, query, key):
        return score + table[head, (key - query).clamp(-128, 128) + 128]

    def t5(score, batch, head, query, key):
        return score + table[t5_bucket(key - query), head]

    def twelve(score, batch, head, query, key):
        a = (query - key) * 0.01
        return score * 0.9 + torch.tanh(score * 0.3) - (a * a).clamp(min=2) * 0.5 + key * 0.001

    return {"softcap": softcap, "alibi": alibi, "relative": relative, "t5": t5, "twelve": twelve,
            **{name: drawn_function(score) for name, score in DRAWN.items()}}.get(case.variant)


def mask_function(case):
    ends = torch.tensor(documents(case.tokens), device="cuda").cumsum(0)
    document = torch.bucketize(torch.arange(case.tokens, device="cuda"), ends, right=True)

    def causal(batch, head, query, key):
        return key <= query

    def window(batch, head, query, key):
        return (key <= query) & (query - key < 1024)

    def of_documents(batch, head, query, key):
        return document[query] == document[key]

    return {"causal": causal, "window": window, "documents": of_documents}.get(case.variant)


class FlexAttention:
    """One case, ready to be called; "bigbird" has no form here: its random blocks are drawn by Tilewise."""

    def __init__(self, case, table):
        mask = mask_function(case)
        self.block_mask = mask and create_block_mask(mask, None, None, case.tokens, case.tokens, device="cuda")
        self.score = score_function(case, None if table is None else table.detach())
        torch._dynamo.reset()
        self.compiled = torch.compile(flex_attention, dynamic=False)

    def __call__(self, q, k, v):
        """[b, h, s, d] each"""
        return self.compiled(q, k, v, score_mod=self.score, block_mask=self.block_mask)
