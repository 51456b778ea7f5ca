"""tilewise.attention on PyTorch's tensors: eager, with gradients, and under torch.compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tilewise import _core
from tilewise._options import PLAIN_CALL, CallOptions, options_of, variant_of
from tilewise._variant import Variant
from tilewise.torch._compute import forward
from tilewise.torch._function import Attention
from tilewise.torch._operators import attention_in_graph
from tilewise.torch._sequences import sequences_in

if TYPE_CHECKING:
    from typing_extensions import Unpack

_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_must_be_deterministic = torch.are_deterministic_algorithms_enabled


def attention(
    q: Tensor, k: Tensor, v: Tensor, variant: Variant | str | None = None, *, return_lse: bool = False,
    **given: Unpack[CallOptions],
) -> Any:
    """tilewise.attention, which calls this for tensors.

    Gradients reach q, k, v, and tables and parameters that are tensors and ask for them; lse may be part of the loss.
    Second derivatives are not there. Without `seed`, dropout draws one from PyTorch's generator of the processor. Where
    PyTorch is told to use deterministic algorithms, `deterministic` is set.
    """
    if _must_be_deterministic():
        given["deterministic"] = True
    if _is_compiling():
        return attention_in_graph(q, k, v, variant, return_lse, **given)
    made = variant if type(variant) is Variant else variant_of(variant)
    options = PLAIN_CALL
    if given or made._needs:
        if given.get("seed") is None and (given.get("dropout") is not None or made.has_dropout):
            given["seed"] = draw_seed()
        sequences = given.get("sequences")
        if isinstance(sequences, Tensor) and sequences.dim() == 2:
            given["sequences"] = sequences_in(sequences, [])
        made, options = options_of(made, q.dim(), **given)
    if not isinstance(k, Tensor) or not isinstance(v, Tensor):
        raise TypeError(f"q is a tensor, k a {type(k).__name__} and v a {type(v).__name__}; expected three tensors")
    if _is_grad_enabled():
        extras = [] if options is PLAIN_CALL else _differentiable(made, options, given.get("parameters"))
        if extras or q.requires_grad or k.requires_grad or v.requires_grad:
            handles = tuple(handle for handle, _ in extras)
            return Attention.apply(made, options, handles, return_lse, q, k, v, *(each for _, each in extras))
    return forward(made, options, q, k, v, return_lse)


def draw_seed() -> int:
    """A seed of dropout's bits from PyTorch's generator, so that torch.manual_seed() repeats them."""
    return int(torch.randint(-(2**63), 2**63 - 1, ()).item())


def _differentiable(
    variant: Variant, options: _core.Options, parameters: Mapping[str, Any] | None
) -> list[tuple[Any, Tensor]]:
    """The tables and parameters whose data are tensors that ask for gradients, with these."""
    values = variant._bound({}, parameters or {})[1] if variant._recipe.parameters else ()
    return [(handle, each) for handle, each in (*options.tables, *values)
            if isinstance(each, Tensor) and each.requires_grad]
