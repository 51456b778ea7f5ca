"""The forward and the backward pass on tensors, into new ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tilewise import _core
from tilewise._options import PLAIN_CALL
from tilewise._variant import Variant

_forward = _core.forward
_empty_like = torch.empty_like


def forward(
    variant: Variant, options: _core.Options, q: Tensor, k: Tensor, v: Tensor, return_lse: bool,
    gradients_follow: bool = False,
) -> Any:
    """o, or (o, lse). `gradients_follow`: on a GPU the kernels of backward() are compiled beside those of this pass."""
    o = _empty_outputs(q, v, options)
    lse = _empty_lse(q, options) if return_lse else None
    if not _forward(variant._recipe, q, k, v, o, lse, options, gradients_follow):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        o = _empty_outputs(q, v, options)
        _forward(variant._recipe, q, k, v, o, lse, options, gradients_follow)
    return (o, lse) if return_lse else o


def _empty_outputs(q: Tensor, v: Tensor, options: _core.Options) -> Tensor:
    """Memory for o, its axes in the order of q's; zeros where sequences may leave rows out."""
    has_gaps = options is not PLAIN_CALL and options.sequences
    # Of heads behind tokens, as projections leave them, o is joined to rows of all heads without a copy: PyTorch keeps the
    # order of axes of what it makes like something else, in a third of the time that an empty tensor with a dtype takes.
    if q.shape[-1] == v.shape[-1]:
        return torch.zeros_like(q) if has_gaps else _empty_like(q)
    make = torch.zeros if has_gaps else torch.empty
    *outer, y, x, _ = q.shape
    if q.stride(-3) < q.stride(-2):
        return make((*outer, x, y, v.shape[-1]), dtype=q.dtype, device=q.device).transpose(-3, -2)
    return make((*outer, y, x, v.shape[-1]), dtype=q.dtype, device=q.device)


def _empty_lse(q: Tensor, options: _core.Options) -> Tensor:
    """Memory for lse, in the library's own order of axes; -inf where sequences may leave rows out."""
    shape = q.shape[:-1]
    if options is PLAIN_CALL:
        return torch.empty(shape, dtype=_sum_dtype(q), device=q.device)
    if options.layout == _core.Layout.bshd:
        shape = torch.Size((*shape[:-2], shape[-1], shape[-2]))
    if options.sequences:
        return torch.full(shape, -torch.inf, dtype=_sum_dtype(q), device=q.device)
    return torch.empty(shape, dtype=_sum_dtype(q), device=q.device)


def backward(
    variant: Variant, options: _core.Options, handles: tuple[Any, ...], q: Tensor, k: Tensor, v: Tensor, o: Tensor,
    lse: Tensor, d_o: Tensor | None, d_lse: Tensor | None, extras: list[Tensor], needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """The gradients of q, k, v and extras, the data of `handles`, where they are needed."""
    if d_o is None:
        d_o = torch.zeros_like(o)
    if d_o.stride(-1) != 1:
        d_o = d_o.contiguous()
    if d_lse is not None:
        d_lse = d_lse.to(lse.dtype).contiguous()
    # Rows of no sequence are not written.
    make = torch.zeros_like if options is not PLAIN_CALL and options.sequences else torch.empty_like
    results: list[Tensor | None] = [make(each) if wanted else None for each, wanted in zip((q, k, v), needed)]
    asked = _core.Gradients()
    asked.d_q, asked.d_k, asked.d_v = results
    tables: list[Any] = []
    parameters: list[Any] = []
    for handle, extra, wanted in zip(handles, extras, needed[3:]):
        results.append(torch.empty(extra.shape, dtype=_sum_dtype(q), device=extra.device) if wanted else None)
        if wanted:
            (tables if isinstance(handle, _core.Table) else parameters).append((handle, results[-1]))
    if tables:
        asked.tables = tables
    if parameters:
        asked.parameters = parameters
    _core.backward(variant._recipe, q, k, v, o, lse, d_o, d_lse, options, asked)
    for index, extra in enumerate(extras, start=3):
        gradient = results[index]
        if gradient is not None and gradient.dtype != extra.dtype:
            results[index] = gradient.to(extra.dtype)
    return results


def _sum_dtype(q: Tensor) -> torch.dtype:
    """Of lse, and of what gradients of tables and parameters are summed up in."""
    return torch.float64 if q.dtype == torch.float64 else torch.float32
