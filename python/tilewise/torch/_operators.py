"""The custom operators tilewise::attention and tilewise::attention_backward, by which torch.compile keeps one graph.

An operator takes tensors, numbers and texts, so a variant is a name, its number among all variants of the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as SequenceOf
from typing import Any

import torch
from torch import Tensor

from tilewise import _core
from tilewise._errors import InvalidArgument, Unsupported
from tilewise._options import PLAIN, options_of
from tilewise._typing import Array
from tilewise._variant import BY_ID, Variant
from tilewise.torch._compute import backward, forward

_PLAIN_ID = PLAIN._id
_compiled: dict[str, Variant] = {}  # those that graphs name


def attention_in_graph(
    q: Tensor, k: Tensor, v: Tensor, variant: Variant | str | None, return_lse: bool, *, scale: float | None = None,
    query_offset: int | SequenceOf[int] | None = None, dropout: float | None = None, layout: str = "bhsd",
    tables: Mapping[str, Array] | None = None, parameters: Mapping[str, Any] | None = None, seed: int | None = None,
    seed_offset: int | None = None, deterministic: bool = False, **refused: Any,
) -> Any:
    """tilewise.attention while torch.compile traces it."""
    for name, value in refused.items():
        if value is not None:
            raise Unsupported(f"{name} is not for compiled graphs yet; call attention outside of torch.compile, or under "
                              "torch.compiler.disable")
    if query_offset is not None and not isinstance(query_offset, int):
        raise Unsupported("query_offset: one int under torch.compile")
    if isinstance(variant, str):
        raise InvalidArgument("variant: under torch.compile give a tilewise.Variant made outside of the function")
    identity = _PLAIN_ID if variant is None else variant._id
    data: list[Tensor] = []
    if variant is not None:
        for name, own in zip(variant._names, variant._data):
            given = own if tables is None or name not in tables else tables[name]
            if isinstance(given, Tensor):
                data.append(given)
    values: list[Tensor] = []
    names: list[str] = []
    for name, value in (parameters or {}).items():
        names.append(name)
        values.append(value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64))
    seed_tensor = torch.randint(-(2**63), 2**63 - 1, ()) if seed is None else torch.tensor(seed)
    o, lse = torch.ops.tilewise.attention(
        q, k, v, data, values, seed_tensor, identity, ",".join(names), scale, query_offset, dropout, seed_offset or 0,
        layout, deterministic,
    )
    return (o, lse) if return_lse else o


def _options(
    q: Tensor, data: list[Tensor], values: list[Tensor], seed: Tensor, identity: str, names: str, scale: float | None,
    query_offset: int | None, dropout: float | None, seed_offset: int, layout: str, deterministic: bool,
) -> tuple[Variant, _core.Options, tuple[Any, ...]]:
    """The variant and options of an operator's arguments, and the handles that data and values belong to."""
    variant = BY_ID[identity]
    remaining = iter(data)
    tables = {name: next(remaining) if own is None or isinstance(own, Tensor) else own
              for name, own in zip(variant._names, variant._data)}
    given = dict(zip(names.split(","), values)) if names else {}
    is_dropping = dropout is not None or variant.has_dropout
    made, options = options_of(variant, q.dim(), layout=layout, scale=scale, query_offset=query_offset, dropout=dropout,
                               tables=tables, parameters=given, seed=int(seed.item()) if is_dropping else 0,
                               seed_offset=seed_offset, deterministic=deterministic)
    handles: list[Any] = [table for table, array in options.tables if isinstance(array, Tensor)]
    handles += [next(each for each in made._recipe.parameters if each.name == name) for name in given]
    return made, options, tuple(handles)


@torch.library.custom_op("tilewise::attention", mutates_args=())
def _attention(
    q: Tensor, k: Tensor, v: Tensor, data: list[Tensor], values: list[Tensor], seed: Tensor, identity: str, names: str,
    scale: float | None, query_offset: int | None, dropout: float | None, seed_offset: int, layout: str,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    made, options, _ = _options(q, data, values, seed, identity, names, scale, query_offset, dropout, seed_offset,
                                layout, deterministic)
    o, lse = forward(made, options, q, k, v, True)
    return o.contiguous(), lse


@_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, data: list[Tensor], values: list[Tensor], seed: Tensor, identity: str, names: str,
    scale: float | None, query_offset: int | None, dropout: float | None, seed_offset: int, layout: str,
    deterministic: bool,
) -> tuple[Tensor, Tensor]:
    _compiled[identity] = BY_ID[identity]
    rows = q.shape[:-1] if layout == "bhsd" else (*q.shape[:-3], q.shape[-2], q.shape[-3])
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(rows, dtype=dtype)


@torch.library.custom_op("tilewise::attention_backward", mutates_args=())
def _attention_backward(
    d_o: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, data: list[Tensor],
    values: list[Tensor], seed: Tensor, identity: str, names: str, scale: float | None, query_offset: int | None,
    dropout: float | None, seed_offset: int, layout: str, deterministic: bool, needed: list[bool],
) -> list[Tensor]:
    made, options, handles = _options(q, data, values, seed, identity, names, scale, query_offset, dropout, seed_offset,
                                      layout, deterministic)
    q, k, v = (each if each.stride(-1) == 1 else each.contiguous() for each in (q, k, v))
    extras = [*data, *values]
    results = backward(made, options, handles, q, k, v, o, lse, d_o, d_lse, extras, (True, True, True, *needed))
    return [torch.zeros_like(like) if each is None else each.contiguous()
            for each, like in zip(results, (q, k, v, *extras))]


@_attention_backward.register_fake
def _(
    d_o: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, data: list[Tensor],
    values: list[Tensor], seed: Tensor, identity: str, names: str, scale: float | None, query_offset: int | None,
    dropout: float | None, seed_offset: int, layout: str, deterministic: bool, needed: list[bool],
) -> list[Tensor]:
    return [each.new_empty(each.shape) for each in (q, k, v, *data, *values)]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, data, values, seed, *rest = inputs
    ctx.save_for_backward(q, k, v, *output, seed, *data, *values)
    ctx.counts = len(data), len(values)
    ctx.needed = [each.requires_grad and each.is_floating_point() for each in (*data, *values)]
    ctx.rest = rest


def _backward(ctx: Any, d_o: Tensor | None, d_lse: Tensor | None) -> Any:
    q, k, v, o, lse, seed, *extras = ctx.saved_tensors
    data, values = extras[: ctx.counts[0]], extras[ctx.counts[0] :]
    d_o = torch.zeros_like(o) if d_o is None else d_o
    d_lse = torch.zeros_like(lse) if d_lse is None else d_lse
    d_q, d_k, d_v, *d_extras = torch.ops.tilewise.attention_backward(
        d_o, d_lse, q, k, v, o, lse, data, values, seed, *ctx.rest, ctx.needed
    )
    wanted = [gradient if needed else None for gradient, needed in zip(d_extras, ctx.needed)]
    return d_q, d_k, d_v, wanted[: len(data)], wanted[len(data) :], *(None for _ in range(1 + len(ctx.rest)))


_attention.register_autograd(_backward, setup_context=_keep_for_backward)
