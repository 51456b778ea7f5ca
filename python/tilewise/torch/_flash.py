"""The functions of the flash_attn package, their signatures and semantics: [batch, length, heads, dim]."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tilewise import _core, zoo
from tilewise._errors import InvalidArgument, Unsupported
from tilewise._options import PLAIN
from tilewise._recording import Table
from tilewise._variant import Variant
from tilewise.torch._attention import attention
from tilewise.torch._sequences import rows_of

_Make = Callable[[bool, tuple[int, int], float, int], Variant]
_at_once: Callable[[_Make], _Make] = torch.compiler.assume_constant_result


@_at_once  # torch.compile runs it, instead of tracing what cannot be traced
def _variant(causal: bool, window: tuple[int, int], softcap: float, slopes_rank: int) -> Variant:
    return _made(causal, window, softcap, slopes_rank)


@functools.lru_cache(maxsize=None)
def _made(causal: bool, window: tuple[int, int], softcap: float, slopes_rank: int) -> Variant:
    """In the package's order: the cap, ALiBi, then the mask, whose last query sits at the last key."""
    left, right = window
    if causal:
        right = 0
    made = PLAIN
    if left >= 0 and right >= 0:
        made = made & zoo.window_two_sided(left, right)
    elif right == 0:
        made = made & zoo.causal()
    elif right > 0:
        made = made & Variant(_core.keep(lambda at: at.key - at.query <= right))
    elif left >= 0:
        made = made & Variant(_core.keep(lambda at: at.query - at.key <= left))
    if softcap > 0.0:
        made = made & zoo.softcap(softcap)
    if slopes_rank:
        slopes = Table("alibi_slopes", "float32", slopes_rank)

        def biased(s: Any, at: _core.At) -> Any:
            slope = slopes[at.head] if slopes_rank == 1 else slopes[at.batch, at.head]
            return s - slope * abs(at.query - at.key)

        made = made & Variant(_core.score(biased))
    return made


def _call(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float, softmax_scale: float | None, causal: bool,
    window_size: tuple[int, int], softcap: float, alibi_slopes: Tensor | None, deterministic: bool, **more: Any,
) -> Any:
    variant = _variant(bool(causal), (window_size[0], window_size[1]), float(softcap), 0 if alibi_slopes is None else alibi_slopes.dim())
    tables = None if alibi_slopes is None else {"alibi_slopes": alibi_slopes}
    return attention(q, k, v, variant, scale=softmax_scale, dropout=dropout_p or None, layout="bshd", tables=tables,
                     deterministic=deterministic, **more)


def _refuse_probs(return_attn_probs: bool) -> None:
    if return_attn_probs:
        raise Unsupported("return_attn_probs: the weights are never stored, that is the point; tilewise.attention("
                          "return_lse=True) gives the logarithms of the denominators")


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Tensor:
    """As flash_attn.flash_attn_func: `q` [b, s_q, h_q, d], `k` and `v` [b, s_kv, h_kv, d]; masks are aligned so that the
    last query sees the last key. `alibi_slopes`: float32 [h_q] or [b, h_q]."""
    _refuse_probs(return_attn_probs)
    o: Tensor = _call(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic)
    return o


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Tensor:
    """As flash_attn.flash_attn_varlen_func: sequences one behind the other, `q` [tokens, h_q, d], `k` and `v` [tokens,
    h_kv, d], or with `block_table` paged, [pages, page_tokens, h_kv, d]. The lengths are those of `cu_seqlens_q` and
    `cu_seqlens_k`, int32 [b + 1]; the two maxima are not needed."""
    _refuse_probs(return_attn_probs)
    if cu_seqlens_q.shape != cu_seqlens_k.shape:
        raise InvalidArgument(f"cu_seqlens_q has {cu_seqlens_q.numel()} elements and cu_seqlens_k "
                              f"{cu_seqlens_k.numel()}; expected the batch and one more in both")
    sequences = rows_of(cu_seqlens_q.diff(), cu_seqlens_k.diff(), first_query_token=cu_seqlens_q[:-1],
                        first_key_token=cu_seqlens_k[:-1])
    o: Tensor = _call(q, k, v, dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic,
                      sequences=sequences, block_table=block_table)
    return o


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, interleaved: bool) -> Tensor:
    """Rotary embedding of `x` [b, s, h, d] at `positions` [b, s]; `cos`, `sin` [rows, rotary_dim / 2]."""
    half = cos.shape[-1]
    cos, sin = (each[positions][:, :, None].to(x.dtype) for each in (cos, sin))
    turned, rest = x[..., : 2 * half], x[..., 2 * half :]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else (turned[..., :half], turned[..., half:])
    pair = a * cos - b * sin, a * sin + b * cos
    joined = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([joined, rest], -1)


def _append(cache: Tensor, new: Tensor, rows: Tensor, positions: Tensor, block_table: Tensor | None) -> None:
    """Writes `new` [b, s, h, d] to positions [b, s] of cache rows [b], or of the pages of a block table."""
    if block_table is None:
        cache[rows[:, None], positions] = new
    else:
        page_tokens = cache.shape[1]
        pages = torch.gather(block_table.long(), 1, positions // page_tokens)
        cache[pages, positions % page_tokens] = new


def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    rotary_cos: Tensor | None = None,
    rotary_sin: Tensor | None = None,
    cache_seqlens: int | Tensor | None = None,
    cache_batch_idx: Tensor | None = None,
    cache_leftpad: Tensor | None = None,
    block_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Tensor | None = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Any:
    """As flash_attn.flash_attn_with_kvcache: `q` [b, s_q, h_q, d] attends to a cache [rows, length, h_kv, d], or with
    `block_table` [b, pages] to pages [pages, page_tokens, h_kv, d].

    New `k` and `v` [b, s_new, h_kv, d] are first written into the cache, at `cache_seqlens`. `rotary_cos` and
    `rotary_sin` [rows, rotary_dim / 2] turn q and the new k. Row i of the batch uses the cache's row
    `cache_batch_idx[i]`, read in place. Keys before `cache_leftpad` [b] do not exist. `num_splits` chooses among that
    package's kernels and means nothing here. No gradients. Returns o, and with `return_softmax_lse` (o, lse).
    """
    b, s_q = q.shape[:2]
    if cache_batch_idx is not None and block_table is not None:
        raise InvalidArgument("cache_batch_idx and block_table exclude each other: a block table names every row's pages")
    if (k is None) != (v is None) or (rotary_cos is None) != (rotary_sin is None):
        raise InvalidArgument("k and v, rotary_cos and rotary_sin: expected both of a pair or none")
    capacity = k_cache.shape[1] * (block_table.shape[1] if block_table is not None else 1)
    lengths = torch.as_tensor(capacity if cache_seqlens is None else cache_seqlens, device=q.device).expand(b).long()
    rows = torch.arange(b, device=q.device) if cache_batch_idx is None else cache_batch_idx.long()
    with torch.no_grad():
        if k is not None and v is not None:
            positions = lengths[:, None] + torch.arange(k.shape[1], device=q.device)
            # In a graph, where nothing can be looked at, PyTorch's own write refuses the place.
            if not torch.compiler.is_compiling() and int(lengths.max()) + k.shape[1] > capacity:
                raise InvalidArgument(f"cache_seqlens: {int(lengths.max())} tokens and {k.shape[1]} new ones exceed the "
                                      f"cache's {capacity}")
            if rotary_cos is not None and rotary_sin is not None:
                k = _rotated(k, rotary_cos, rotary_sin, positions, rotary_interleaved)
            _append(k_cache, k, rows, positions, block_table)
            _append(v_cache, v, rows, positions, block_table)
        if rotary_cos is not None and rotary_sin is not None:
            # Without a mask every query turns as the first new token does, as in the package.
            is_local = causal or window_size[0] >= 0 or window_size[1] >= 0
            steps = torch.arange(s_q, device=q.device) if is_local else torch.zeros(s_q, device=q.device, dtype=torch.long)
            q = _rotated(q, rotary_cos, rotary_sin, lengths[:, None] + steps, rotary_interleaved)
        if k is not None:
            lengths = lengths + k.shape[1]
        sequences = rows_of(torch.full_like(lengths, s_q), lengths, key_start=cache_leftpad)
        if cache_batch_idx is not None:  # a row of the cache is one long page
            block_table = rows.to(torch.int32)[:, None]
        return _call(q, k_cache, v_cache, 0.0, softmax_scale, causal, window_size, softcap, alibi_slopes, False,
                     sequences=sequences, block_table=block_table, return_lse=return_softmax_lse)
