"""The autograd function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tilewise import _core
from tilewise._variant import Variant


class Attention(torch.autograd.Function):
    """o, and lse where it is asked for, of (variant, options, handles, return_lse, q, k, v, *extras).

    `handles` are the tables and parameters that the tensors in `extras` are the data of.
    """

    @staticmethod
    def forward(
        ctx: Any, variant: Variant, options: _core.Options, handles: tuple[Any, ...], return_lse: bool, q: Tensor,
        k: Tensor, v: Tensor, *extras: Tensor,
    ) -> Any:
        from tilewise.torch._attention import compute

        if q.stride(-1) != 1 or k.stride(-1) != 1 or v.stride(-1) != 1:
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        o, lse = compute(variant, options, q, k, v, True)
        ctx.save_for_backward(q, k, v, o, lse, *extras)
        ctx.call = (variant, options, handles)
        ctx.set_materialize_grads(False)
        return (o, lse) if return_lse else o

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_o: Tensor | None, d_lse: Tensor | None = None) -> Any:
        q, k, v, o, lse, *extras = ctx.saved_tensors
        variant, options, handles = ctx.call
        gradients = backward(variant, options, handles, q, k, v, o, lse, d_o, d_lse, extras, ctx.needs_input_grad[4:])
        return (None, None, None, None, *gradients)


def backward(
    variant: Variant, options: _core.Options, handles: tuple[Any, ...], q: Tensor, k: Tensor, v: Tensor, o: Tensor,
    lse: Tensor, d_o: Tensor | None, d_lse: Tensor | None, extras: list[Tensor], needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """The gradients of q, k, v and extras, where they are needed."""
    if d_o is None:
        d_o = torch.zeros_like(o)
    if d_o.stride(-1) != 1:
        d_o = d_o.contiguous()
    if d_lse is not None:
        d_lse = d_lse.to(lse.dtype).contiguous()
    # Rows of no sequence are not written.
    make = torch.zeros_like if options.sequences else torch.empty_like
    results: list[Tensor | None] = [make(each) if wanted else None for each, wanted in zip((q, k, v), needed)]
    asked = _core.Gradients()
    asked.d_q, asked.d_k, asked.d_v = results
    tables: list[Any] = []
    parameters: list[Any] = []
    for handle, extra, wanted in zip(handles, extras, needed[3:]):
        results.append(torch.empty(extra.shape, dtype=_sum_dtype(extra, q), device=extra.device) if wanted else None)
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


def _sum_dtype(extra: Tensor, q: Tensor) -> torch.dtype:
    return torch.float64 if q.dtype == torch.float64 else torch.float32
