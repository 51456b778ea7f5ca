"""The autograd function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tilewise import _core
from tilewise._variant import Variant
from tilewise.torch._compute import backward, forward


class Attention(torch.autograd.Function):
    """o, and lse where it is asked for, of (variant, options, handles, return_lse, q, k, v, *extras).

    `handles` are the tables and parameters that the tensors in `extras` are the data of.
    """

    @staticmethod
    def forward(
        ctx: Any, variant: Variant, options: _core.Options, handles: tuple[Any, ...], return_lse: bool, q: Tensor,
        k: Tensor, v: Tensor, *extras: Tensor,
    ) -> Any:
        if q.stride(-1) != 1 or k.stride(-1) != 1 or v.stride(-1) != 1:
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        o, lse = forward(variant, options, q, k, v, True, gradients_follow=True)
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
