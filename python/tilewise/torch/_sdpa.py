"""torch.nn.functional.scaled_dot_product_attention, its signature and semantics."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from tilewise import _core, zoo
from tilewise._options import PLAIN, CallOptions
from tilewise._recording import Table
from tilewise._variant import Variant
from tilewise.torch._attention import attention

_CAUSAL = zoo.causal_top_left()
_DTYPES = {torch.bool: "bool", torch.float32: "float32", torch.float64: "float64", torch.float16: "float16",
           torch.bfloat16: "bfloat16"}


def _masked(dtype: torch.dtype, axes: tuple[bool, ...]) -> Variant:
    """A mask given as a tensor that has only those of the axes [batch, head, query, key] that are not one long."""
    mask = Table("attn_mask", _DTYPES[dtype], max(1, sum(axes)))

    def read(at: _core.At) -> Any:
        places = (at.batch, at.head, at.query_index, at.key_index)
        return mask[tuple(place for place, is_there in zip(places, axes) if is_there) or (0,)]

    if dtype == torch.bool:
        return Variant(_core.keep(read))
    return Variant(_core.score(lambda s, at: s + read(at)))


# Made now: torch.compile cannot record while it traces.
_VARIANTS = {(dtype, axes): _masked(dtype, axes) for dtype in _DTYPES
             for axes in itertools.product((False, True), repeat=4)}


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As torch.nn.functional.scaled_dot_product_attention.

    `query` [..., h, s_q, d], `key` [..., h, s_kv, d], `value` [..., h, s_kv, d_v]. A mask is read where it lies, with
    the axes that it has, and tiles that it masks are skipped; nothing is expanded. Rows that keep nothing are 0.
    """
    shape, key_shape = query.shape, key.shape
    if len(shape) != 4 or len(key_shape) != 4 or value.dim() != 4 or shape[0] != key_shape[0]:
        return _of_other_ranks(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if shape[1] != key_shape[1] and key_shape[1] != 1 and not enable_gqa:
        raise RuntimeError(f"query has {shape[1]} heads and key {key_shape[1]}; with enable_gqa=True several query heads "
                           "share one key head")
    options: CallOptions = {}
    if scale is not None:
        options["scale"] = scale
    if dropout_p > 0.0:
        options["dropout"] = dropout_p
    variant = _CAUSAL if is_causal else PLAIN
    if attn_mask is not None:
        if is_causal:
            raise RuntimeError("attn_mask and is_causal=True exclude each other")
        variant, data = _mask_of(attn_mask, (*shape[:3], key_shape[2]))
        options["tables"] = {"attn_mask": data}
    o: Tensor = attention(query, key, value, variant, **options)
    return o


def _mask_of(mask: Tensor, full: tuple[int, ...]) -> tuple[Variant, Tensor]:
    """The variant that reads a mask that broadcasts to the shape `full` [b, h_q, s_q, s_kv], and what it reads."""
    if mask.dtype not in _DTYPES:
        raise RuntimeError(f"attn_mask is of {mask.dtype}; expected bool or a floating dtype")
    shape = (1,) * (4 - mask.dim()) + tuple(mask.shape)
    if len(shape) != 4 or any(own not in (1, expected) for own, expected in zip(shape, full)):
        raise RuntimeError(f"attn_mask has the shape {tuple(mask.shape)}, which does not broadcast to {full}")
    axes = tuple(own != 1 for own in shape)
    return _VARIANTS[mask.dtype, axes], mask.reshape([own for own in shape if own != 1] or [1])


def _of_other_ranks(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float, is_causal: bool,
    scale: float | None, enable_gqa: bool,
) -> Tensor:
    """Leading axes made one, and batches that broadcast expanded."""
    if min(query.dim(), key.dim(), value.dim()) < 2:
        raise RuntimeError("query, key and value have at least 2 axes, [length, dim]")
    broadcast: Any = torch.broadcast_shapes  # not annotated there
    leading = broadcast(query.shape[:-3], key.shape[:-3], value.shape[:-3])

    def with_four(tensor: Tensor) -> Tensor:
        if tensor.dim() == 2:
            tensor = tensor[None]
        return tensor.expand(*leading, *tensor.shape[-3:]).reshape(-1, *tensor.shape[-3:])

    is_flat = max(query.dim(), key.dim(), value.dim()) == 3  # [batch, length, dim]: the batch is as good as heads
    if attn_mask is not None and attn_mask.dim() > 3:
        attn_mask = attn_mask.expand(*leading, *attn_mask.shape[-3:]).reshape(-1, *attn_mask.shape[-3:])
    four = [with_four(each) for each in (query, key, value)]
    if is_flat and four[1].shape[1] != four[0].shape[1]:
        four = [each.expand(-1, max(other.shape[1] for other in four), -1, -1) for each in four]
    o = scaled_dot_product_attention(four[0], four[1], four[2], attn_mask, dropout_p, is_causal, scale, enable_gqa)
    shape = (*leading, *o.shape[1:])
    return o.reshape(shape) if max(query.dim(), key.dim(), value.dim()) > 2 else o[0, 0]
