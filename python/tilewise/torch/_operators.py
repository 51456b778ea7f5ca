"""The custom operators tilewise::attention and tilewise::attention_backward, by which torch.compile keeps one graph.

An operator takes tensors, numbers and texts, so a variant is a name, its number among all variants of the process, and
sequences are a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as SequenceOf
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tilewise import _core
from tilewise._errors import InvalidArgument, Unsupported
from tilewise._options import PLAIN, options_of
from tilewise._sequences import Sequences
from tilewise._typing import Array
from tilewise._variant import BY_ID, Variant
from tilewise.torch._compute import backward, forward
from tilewise.torch._sequences import rows_in_graph, sequences_in

_PLAIN_ID = PLAIN._id
_compiled: dict[str, Variant] = {}  # those that graphs name


def attention_in_graph(
    q: Tensor, k: Tensor, v: Tensor, variant: Variant | str | None, return_lse: bool, *, scale: float | None = None,
    query_offset: int | SequenceOf[int] | None = None, sequences: Sequences | None = None, dropout: float | None = None,
    layout: str = "bhsd", tables: Mapping[str, Array] | None = None, parameters: Mapping[str, Any] | None = None,
    seed: int | None = None, seed_offset: int | None = None, deterministic: bool = False,
    block_table: Tensor | None = None, k_scales: Tensor | None = None, v_scales: Tensor | None = None,
) -> Any:
    """tilewise.attention while torch.compile traces it."""
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
    # What no call needs is not in the graph: inductor would make code for the processor of it, which takes minutes where
    # it has not looked at that processor before, and without which a GPU's graph is captured whole.
    drawn = None
    if dropout is not None or (variant is not None and variant._is_dropping):
        drawn = torch.randint(-(2**63), 2**63 - 1, ()) if seed is None else torch.tensor(seed)
    rows, fields = rows_in_graph(sequences, q.dim() == 3, query_offset)
    o, lse = torch.ops.tilewise.attention(
        q, k, v, data, values, drawn, rows, block_table, k_scales, v_scales, identity, ",".join(names), fields, scale,
        query_offset if isinstance(query_offset, int) else None, dropout, seed_offset or 0, layout, deterministic,
    )
    return (o, lse) if return_lse else o


_REST = """Tensor[] data, Tensor[] values, Tensor? seed, Tensor? sequences, Tensor? block_table, Tensor? k_scales,
    Tensor? v_scales, str identity, str names, SymInt[] fields, float? scale, SymInt? query_offset, float? dropout,
    SymInt seed_offset, str layout, bool deterministic"""


class _Rest(NamedTuple):
    """An operator's arguments behind q, k and v, in the order of _REST."""

    data: list[Tensor]
    values: list[Tensor]
    seed: Tensor | None
    sequences: Tensor | None  # [b, 7], the fields of each Sequence
    block_table: Tensor | None
    k_scales: Tensor | None
    v_scales: Tensor | None
    identity: str
    names: str
    fields: list[int]  # [1 + 7 b], likewise where they are numbers, behind how many sequences those are
    scale: float | None
    query_offset: int | None
    dropout: float | None
    seed_offset: int
    layout: str
    deterministic: bool

    def options(self, rank: int) -> tuple[Variant, _core.Options, tuple[Any, ...]]:
        """The variant and options that they stand for, and the handles that data and values belong to."""
        variant = BY_ID[self.identity]
        remaining = iter(self.data)
        tables = {name: next(remaining) if own is None or isinstance(own, Tensor) else own
                  for name, own in zip(variant._names, variant._data)}
        given = dict(zip(self.names.split(","), self.values)) if self.names else {}
        made, options = options_of(
            variant, rank, layout=self.layout, scale=self.scale, query_offset=self.query_offset, dropout=self.dropout,
            sequences=sequences_in(self.sequences, self.fields), tables=tables, parameters=given,
            seed=0 if self.seed is None else int(self.seed.item()), seed_offset=self.seed_offset,
            deterministic=self.deterministic, block_table=self.block_table, k_scales=self.k_scales,
            v_scales=self.v_scales,
        )
        handles: list[Any] = [table for table, array in options.tables if isinstance(array, Tensor)]
        handles += [next(each for each in made._recipe.parameters if each.name == name) for name in given]
        return made, options, tuple(handles)


@torch.library.custom_op(
    "tilewise::attention", mutates_args=(), schema=f"(Tensor q, Tensor k, Tensor v, {_REST}) -> (Tensor, Tensor)"
)
def _attention(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    made, options, _ = _Rest(*rest).options(q.dim())
    o, lse = forward(made, options, q, k, v, True)
    return o.contiguous(), lse


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    call = _Rest(*rest)
    _compiled[call.identity] = BY_ID[call.identity]
    rows = q.shape[:-1] if call.layout == "bhsd" else (*q.shape[:-3], q.shape[-2], q.shape[-3])
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(rows, dtype=dtype)


@torch.library.custom_op(
    "tilewise::attention_backward", mutates_args=(),
    schema=f"(Tensor d_o, Tensor d_lse, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, {_REST}, bool[] needed)"
           " -> Tensor[]",
)
def _attention_backward(
    d_o: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, *rest: Any
) -> list[Tensor]:
    call, needed = _Rest(*rest[:-1]), rest[-1]
    made, options, handles = call.options(q.dim())
    q, k, v = (each if each.stride(-1) == 1 else each.contiguous() for each in (q, k, v))
    extras = [*call.data, *call.values]
    results = backward(made, options, handles, q, k, v, o, lse, d_o, d_lse, extras, (True, True, True, *needed))
    return [torch.zeros_like(like) if each is None else each.contiguous()
            for each, like in zip(results, (q, k, v, *extras))]


@_attention_backward.register_fake
def _(
    d_o: Tensor, d_lse: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, data: list[Tensor],
    values: list[Tensor], *_: Any,
) -> list[Tensor]:
    return [each.new_empty(each.shape) for each in (q, k, v, *data, *values)]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *given = inputs
    call = _Rest(*given)
    extras = (*call.data, *call.values)
    ctx.save_for_backward(q, k, v, *output, call.seed, call.sequences, call.block_table, call.k_scales, call.v_scales,
                          *extras)
    ctx.counts = len(call.data), len(call.values)
    ctx.needed = [each.requires_grad and each.is_floating_point() for each in extras]
    ctx.rest = call[7:]  # what is no tensor


def _backward(ctx: Any, d_o: Tensor | None, d_lse: Tensor | None) -> Any:
    q, k, v, o, lse, seed, *beside = ctx.saved_tensors
    if not k.is_floating_point():
        raise Unsupported("int8 keys and values have no gradients; call attention under torch.no_grad()")
    beside, extras = beside[:4], beside[4:]
    data, values = extras[: ctx.counts[0]], extras[ctx.counts[0] :]
    d_o = torch.zeros_like(o) if d_o is None else d_o
    d_lse = torch.zeros_like(lse) if d_lse is None else d_lse
    d_q, d_k, d_v, *d_extras = torch.ops.tilewise.attention_backward(
        d_o, d_lse, q, k, v, o, lse, data, values, seed, *beside, *ctx.rest, ctx.needed
    )
    wanted = [gradient if needed else None for gradient, needed in zip(d_extras, ctx.needed)]
    nothing = (None for _ in (seed, *beside, *ctx.rest))
    return d_q, d_k, d_v, wanted[: len(data)], wanted[len(data) :], *nothing


_attention.register_autograd(_backward, setup_context=_keep_for_backward)
