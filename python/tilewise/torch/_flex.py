"""FlexAttention's flex_attention: the user's score_mod and mask_mod as they are."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tilewise import _core
from tilewise._errors import InvalidArgument, Unsupported
from tilewise._recording import record
from tilewise._variant import Variant
from tilewise.torch._attention import attention

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _make_score(function: Any) -> _core.Recipe:
    return _core.score(lambda s, at: function(s, at.batch, at.head, at.query_index, at.key_index))


def _make_keep(function: Any) -> _core.Recipe:
    return _core.keep(lambda at: function(at.batch, at.head, at.query_index, at.key_index))


def variant_of_mods(score_mod: ScoreMod | None, mask_mod: MaskMod | None) -> Variant | None:
    """The variant of these functions; tensors that they capture are tables, whose reads are clamped."""
    # Removed entries need no score, so the mask comes first.
    made = None if mask_mod is None else record(_make_keep, mask_mod, clamp=True, form="mask_mod")
    if score_mod is None:
        return made
    scored = record(_make_score, score_mod, clamp=True, form="score_mod")
    return scored if made is None else made & scored


class _Blocks:
    """What a BlockMask says of each block: 0 is masked, 1 asks mask_mod, 2 is kept whole."""

    def __init__(self, block_mask: Any) -> None:
        rows = block_mask.kv_indices.shape[-2]
        columns = -(-block_mask.seq_lengths[1] // block_mask.BLOCK_SIZE[1])
        self.kinds = torch.zeros(*block_mask.kv_indices.shape[:-2], rows, columns, dtype=torch.uint8,
                                 device=block_mask.kv_indices.device)
        self._mark(block_mask.kv_num_blocks, block_mask.kv_indices, 1)
        if block_mask.full_kv_num_blocks is not None:
            self._mark(block_mask.full_kv_num_blocks, block_mask.full_kv_indices, 2)

    def _mark(self, counts: Tensor, indices: Tensor, kind: int) -> None:
        columns = self.kinds.shape[-1]
        # Indices behind a row's count are arbitrary: those go to a column that is cut off again.
        place = torch.arange(indices.shape[-1], device=indices.device)
        inside = torch.where(place < counts[..., None], indices.long(), columns)
        marked = torch.zeros(*self.kinds.shape[:-1], columns + 1, dtype=torch.uint8, device=indices.device)
        marked.scatter_(-1, inside.clamp(max=columns), 1)
        self.kinds = torch.where(marked[..., :columns] == 1, kind, self.kinds)


_blocks: weakref.WeakKeyDictionary[Any, Tensor] = weakref.WeakKeyDictionary()


def _mask_of(block_mask: Any) -> MaskMod:
    """mask_mod, and the blocks beside it."""
    kinds = _blocks.get(block_mask)
    if kinds is None:
        kinds = _blocks[block_mask] = _Blocks(block_mask).kinds
    blocks = kinds
    rows_of, columns_of = block_mask.BLOCK_SIZE
    mask_mod = block_mask.mask_mod
    has_batch, has_head = blocks.shape[0] > 1, blocks.shape[1] > 1

    def mask(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
        kind = blocks[b if has_batch else 0, h if has_head else 0, q_idx // rows_of, kv_idx // columns_of]
        return (kind == 2) | ((kind == 1) & mask_mod(b, h, q_idx, kv_idx))

    return mask


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    return_aux: Any = None,
) -> Any:
    """As torch.nn.attention.flex_attention.flex_attention, without compiling anything.

    `query` [b, h_q, s_q, d], `key` [b, h_kv, s_kv, d], `value` [b, h_kv, s_kv, d_v]. The functions run once, on symbolic
    positions; tensors that they capture may be indexed by these, and have gradients. `kernel_options` choose among
    FlexAttention's own kernels, and mean nothing here.
    """
    if query.dim() != 4 or key.dim() != 4 or value.dim() != 4:
        raise ValueError("expected query, key and value of 4 axes, [batch, heads, length, dim]")
    if not enable_gqa and query.shape[1] != key.shape[1]:
        raise ValueError(f"query has {query.shape[1]} heads and key {key.shape[1]}; enable_gqa=True lets query heads "
                         "share a key head")
    if return_aux is not None and return_lse:
        raise ValueError("return_lse and return_aux exclude each other")
    wants_lse = return_lse or bool(getattr(return_aux, "lse", False))
    if getattr(return_aux, "max_scores", False):
        raise Unsupported("return_aux: the maximum of the scores is not computed here; lse is")
    mask_mod = None
    if block_mask is not None:
        lengths = (query.shape[2], key.shape[2])
        if lengths[0] > block_mask.seq_lengths[0] or lengths[1] > block_mask.seq_lengths[1]:
            raise InvalidArgument(f"block_mask is for lengths {tuple(block_mask.seq_lengths)}; query and key have "
                                  f"{lengths}")
        mask_mod = _mask_of(block_mask)
    if key.shape[0] != query.shape[0]:
        key, value = (each.expand(query.shape[0], -1, -1, -1) for each in (key, value))
    variant = variant_of_mods(score_mod, mask_mod)
    result = attention(query, key, value, variant, scale=scale, return_lse=wants_lse)
    if return_aux is None:
        return result
    from torch.nn.attention.flex_attention import AuxOutput

    o, lse = result if wants_lse else (result, None)
    return o, AuxOutput(lse=lse)
