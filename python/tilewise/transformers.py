"""Tilewise for Hugging Face transformers: `attn_implementation="tilewise"`.

>>> import tilewise.transformers
>>> tilewise.transformers.register()
>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> tiny = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
>>> model = LlamaForCausalLM._from_config(tiny, attn_implementation="tilewise")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tilewise import _core, zoo
from tilewise._errors import Unsupported
from tilewise._options import PLAIN
from tilewise._recording import record
from tilewise._sequences import Sequence
from tilewise._variant import Variant
from tilewise.torch._attention import attention
from tilewise.torch._sdpa import scaled_dot_product_attention

__all__ = ["Mask", "register"]


class Mask:
    """A model's mask as a variant, with where its queries and keys begin. No entry of it is stored."""

    def __init__(self, variant: Variant, sequences: list[Sequence] | None) -> None:
        self.variant = variant
        self.sequences = sequences


def _make_keep(function: Any) -> _core.Recipe:
    return _core.keep(lambda at: function(at.batch, at.head, at.query, at.key))


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    **_: Any,
) -> Mask:
    """What transformers calls to make a mask: `mask_function` is recorded, `attention_mask` [b, tokens] is a table."""
    from transformers.masking_utils import causal_mask_function

    function = causal_mask_function if mask_function is None else mask_function
    q_start, kv_start = int(q_offset), int(kv_offset)
    variant = record(_make_keep, function, clamp=True, form="positions")
    if attention_mask is not None and not bool(attention_mask.all()):
        padding = attention_mask.bool()
        if padding.shape[-1] < kv_length + kv_start:
            padding = torch.nn.functional.pad(padding, (0, kv_length + kv_start - padding.shape[-1]))
        variant = variant & record(_make_keep, lambda b, h, q, kv: padding[b, kv], clamp=True, form="positions")
    sequences = None
    if q_start != kv_start + kv_length - q_length or kv_start != 0:
        one = Sequence(q_length, kv_length, query_offset=q_start, key_offset=kv_start)
        sequences = [one] * batch_size
    return Mask(variant, sequences)


def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Mask | Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """What transformers calls for attention. `query` [b, h_q, s_q, d], `key`, `value` [b, h_kv, s_kv, d]."""
    if more.get("cache") is not None:
        raise Unsupported("attn_implementation='tilewise' does not serve continuous batching's paged cache")
    if more.get("output_attentions"):
        raise Unsupported("output_attentions: the weights are never stored; use attn_implementation='eager'")
    probability = dropout or None
    if isinstance(attention_mask, Tensor):  # the caller's own, as PyTorch takes it
        if softcap is not None or s_aux is not None or position_bias is not None:
            raise Unsupported("a mask given as a 4-dimensional tensor does not go together with softcap, sinks or a "
                              "position bias")
        o = scaled_dot_product_attention(query, key, value, attention_mask, dropout, False, scaling, True)
        return o.transpose(1, 2).contiguous(), None
    variant, sequences = PLAIN, None
    if attention_mask is not None:
        variant, sequences = attention_mask.variant, attention_mask.sequences
    elif query.shape[2] > 1 and (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        variant = zoo.causal_top_left()
    if softcap is not None:
        variant = zoo.softcap(float(softcap)) & variant
    if position_bias is not None:
        variant = _biased(position_bias) & variant
    if s_aux is not None:
        variant = variant & zoo.attention_sink(s_aux)
    o = attention(query, key, value, variant, scale=scaling, dropout=probability, sequences=sequences)
    return o.transpose(1, 2).contiguous(), None


def _biased(bias: Tensor) -> Variant:
    """`bias` [1 or b, 1 or h_q, s_q, s_kv] added to the scores."""
    shape = bias.shape
    return record(
        _core.score,
        lambda s, at: s + bias[at.batch if shape[0] > 1 else 0, at.head if shape[1] > 1 else 0, at.query_index,
                               at.key_index],
    )


def register(name: str = "tilewise") -> None:
    """Registers attention and masks under that name of `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, attention_forward)
    AttentionMaskInterface.register(name, mask)
