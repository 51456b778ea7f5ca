"""tilewise.attention on PyTorch's tensors: eager, with gradients, and under torch.compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as SequenceOf
from typing import Any

import torch
from torch import Tensor

from tilewise import _core
from tilewise._options import Sequences, options_of, variant_of
from tilewise._typing import Array
from tilewise._variant import Variant
from tilewise.torch._function import Attention
from tilewise.torch._operators import attention_in_graph

_forward = _core.forward
_NO_OPTIONS = _core.PLAIN
_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_empty_like = torch.empty_like


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    variant: Variant | str | None = None,
    *,
    scale: float | None = None,
    query_offset: int | SequenceOf[int] | None = None,
    sequences: Sequences | None = None,
    dropout: float | None = None,
    return_lse: bool = False,
    layout: str = "bhsd",
    tables: Mapping[str, Array] | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    seed_offset: int | None = None,
    block_table: Array | None = None,
    k_scales: Array | None = None,
    v_scales: Array | None = None,
) -> Any:
    """tilewise.attention, which calls this for tensors.

    Gradients reach q, k, v, and tables and parameters that are tensors and ask for them; lse may be part of the loss.
    Second derivatives are not there. Without `seed`, dropout draws one from PyTorch's generator of the processor.
    """
    if _is_compiling():
        return attention_in_graph(q, k, v, variant, scale, query_offset, sequences, dropout, return_lse, layout, tables,
                                  parameters, seed, seed_offset, block_table, k_scales, v_scales)
    made = variant if type(variant) is Variant else variant_of(variant)
    if (
        scale is None and query_offset is None and sequences is None and dropout is None and layout == "bhsd"
        and tables is None and parameters is None and block_table is None and k_scales is None and v_scales is None
        and not made._needs and not made._recipe.has_dropout
    ):
        options = _NO_OPTIONS
    else:
        if seed is None and (dropout is not None or made.has_dropout):
            seed = draw_seed()
        made, options = options_of(
            made, q.dim(), scale=scale, query_offset=query_offset, sequences=sequences, dropout=dropout, layout=layout,
            tables=tables, parameters=parameters, seed=seed or 0, seed_offset=seed_offset or 0, block_table=block_table,
            k_scales=k_scales, v_scales=v_scales,
        )
    if not isinstance(k, Tensor) or not isinstance(v, Tensor):
        raise TypeError(f"q is a tensor, k a {type(k).__name__} and v a {type(v).__name__}; expected three tensors")
    if options is _NO_OPTIONS:
        if _is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            return Attention.apply(made, options, (), return_lse, q, k, v)
        return compute(made, options, q, k, v, return_lse)
    return with_options(made, options, return_lse, q, k, v, parameters)


def draw_seed() -> int:
    """A seed of dropout's bits from PyTorch's generator, so that torch.manual_seed() repeats them."""
    return int(torch.randint(-(2**63), 2**63 - 1, ()).item())


def with_options(
    variant: Variant, options: _core.Options, return_lse: bool, q: Tensor, k: Tensor, v: Tensor,
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    """Computes with tables and parameters, through the autograd function where something asks for gradients."""
    tables = options.tables
    values = variant._bound({}, parameters or {})[1] if variant._recipe.parameters else ()
    if _is_grad_enabled():
        extras: list[tuple[Any, Tensor]]
        extras = [(table, each) for table, each in tables if isinstance(each, Tensor) and each.requires_grad]
        extras += [(each, value) for each, value in values if isinstance(value, Tensor) and value.requires_grad]
        if extras or q.requires_grad or k.requires_grad or v.requires_grad:
            handles = tuple(handle for handle, _ in extras)
            return Attention.apply(variant, options, handles, return_lse, q, k, v, *(each for _, each in extras))
    return compute(variant, options, q, k, v, return_lse)


def compute(variant: Variant, options: _core.Options, q: Tensor, k: Tensor, v: Tensor, return_lse: bool) -> Any:
    """o, or (o, lse)."""
    o = empty_outputs(q, v, options)
    lse = empty_lse(q, options) if return_lse else None
    if not _forward(variant._recipe, q, k, v, o, lse, options):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        o = empty_outputs(q, v, options)
        _forward(variant._recipe, q, k, v, o, lse, options)
    return (o, lse) if return_lse else o


def empty_outputs(q: Tensor, v: Tensor, options: _core.Options) -> Tensor:
    """Memory for o; zeros where sequences may leave rows out."""
    if options is _NO_OPTIONS and q.shape[-1] == v.shape[-1]:
        return _empty_like(q, requires_grad=False)
    make = torch.zeros if options.sequences else torch.empty
    return make((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=q.device)


def empty_lse(q: Tensor, options: _core.Options) -> Tensor:
    """Memory for lse, in the library's own order of axes."""
    shape = q.shape[:-1]
    if options.layout == _core.Layout.bshd:
        shape = torch.Size((*shape[:-2], shape[-1], shape[-2]))
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return torch.full(shape, -torch.inf, dtype=dtype, device=q.device)
