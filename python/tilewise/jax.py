"""Tilewise for JAX: attention under jit, grad and vmap, on the processor.

>>> import jax, jax.numpy as jnp, tilewise as tw, tilewise.jax
>>> q, k, v = (jax.random.normal(jax.random.key(i), (1, 4, 128, 64)) for i in range(3))
>>> o = jax.jit(lambda q, k, v: tw.attention(q, k, v, tw.zoo.causal()))(q, k, v)
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy

from tilewise import _core
from tilewise._errors import InvalidArgument, Unsupported
from tilewise._options import CallOptions, layout_of, options_of, variant_of
from tilewise._sequences import Sequence, sequences_of
from tilewise._typing import Array
from tilewise._variant import Variant

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["attention"]

_FORWARD, _BACKWARD = "tilewise_forward", "tilewise_backward"
jax.ffi.register_ffi_target(_FORWARD, _core.xla_forward(), platform="cpu")
jax.ffi.register_ffi_target(_BACKWARD, _core.xla_backward(), platform="cpu")


class _Program:
    """Everything of a call but its arrays; the compiled program holds its number."""

    def __init__(self, variant: Variant, call: _Call) -> None:
        self.call = call
        recipe = variant._recipe
        fixed = []
        self.tables = []
        for table, name, own in zip((t for t in recipe.tables if not t.is_frozen), variant._names, variant._data):
            if own is None or name in call.names:
                self.tables.append(table)
            else:
                data = numpy.ascontiguousarray(own)
                fixed.append((table, _core.RawArray(data.tobytes(), str(data.dtype), data.shape)))
        self.parameters = [each for each in recipe.parameters if each.name in call.names]
        for each, value in variant._values:
            if isinstance(value, _Traced) and each.name not in call.names:
                self.parameters.append(each)
        options = _core.Options()
        options.layout = layout_of(call.layout)
        options.scale, options.query_offset, options.dropout = call.scale, call.query_offset, call.dropout
        options.seed, options.seed_offset = call.seed & 0xFFFFFFFFFFFFFFFF, call.seed_offset
        options.sequences = list(call.sequences)
        options.set_parameters([(each, float(value)) for each, value in variant._values
                                if all(each != other for other in self.parameters)])
        self.number = _core.xla_program(recipe, options, call.rank, call.has_pages, call.has_scales, fixed, self.tables,
                                        self.parameters)


@dataclasses.dataclass(frozen=True)
class _Call:
    """What a call says besides arrays, by value, so that calls that say the same share a program."""

    rank: int  # of q
    layout: str
    scale: float | None
    query_offset: int | None
    dropout: float | None
    seed: int
    seed_offset: int
    sequences: tuple[Sequence, ...]
    has_pages: bool
    has_scales: bool
    names: tuple[str, ...]  # of the tables and parameters that the call gives


_program = functools.lru_cache(maxsize=256)(_Program)


_Result: Any = jax.ShapeDtypeStruct  # not annotated there


def _lse_shape(q: Any, layout: str) -> Any:
    *b, x, y, _ = q.shape
    shape = (*b, x, y) if layout == "bhsd" else (*b, y, x)
    return _Result(shape, _sum_dtype(q))


def _sum_dtype(q: Any) -> Any:
    """Of lse, and of what gradients of tables and parameters are summed up in."""
    return jnp.float64 if q.dtype == jnp.float64 else jnp.float32


def _forward(program: _Program, q: Any, k: Any, v: Any, extras: tuple[Any, ...]) -> tuple[Any, Any]:
    results = (_Result((*q.shape[:-1], v.shape[-1]), q.dtype), _lse_shape(q, program.call.layout))
    call = jax.ffi.ffi_call(_FORWARD, results, vmap_method="broadcast_all")
    o, lse = call(q, k, v, *extras, program=numpy.int64(program.number))
    return o, lse


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(program: _Program, q: Any, k: Any, v: Any, extras: tuple[Any, ...]) -> tuple[Any, Any]:
    return _forward(program, q, k, v, extras)


def _with_residuals(program: _Program, q: Any, k: Any, v: Any, extras: tuple[Any, ...]) -> Any:
    o, lse = _forward(program, q, k, v, extras)
    return (o, lse), (q, k, v, o, lse, extras)


def _gradients(program: _Program, residuals: Any, cotangents: Any) -> Any:
    q, k, v, o, lse, extras = residuals
    d_o, d_lse = cotangents
    if program.call.has_scales:
        raise Unsupported("int8 keys and values have no gradients")
    wanted = [jnp.issubdtype(each.dtype, jnp.floating) for each in extras]
    results = [_Result(each.shape, each.dtype) for each in (q, k, v)]
    results += [_Result(each.shape, _sum_dtype(q)) for each, is_wanted in zip(extras, wanted) if is_wanted]
    call = jax.ffi.ffi_call(_BACKWARD, results, vmap_method="broadcast_all")
    d_q, d_k, d_v, *rest = call(q, k, v, o, lse, d_o, d_lse, *extras, program=numpy.int64(program.number))
    remaining = iter(rest)
    d_extras = tuple(next(remaining).astype(each.dtype) if is_wanted else numpy.zeros(each.shape, jax.dtypes.float0)
                     for each, is_wanted in zip(extras, wanted))
    return d_q, d_k, d_v, d_extras


_attention.defvjp(_with_residuals, _gradients)


def attention(
    q: Array, k: Array, v: Array, variant: Variant | str | None = None, *, return_lse: bool = False,
    **given: Unpack[CallOptions],
) -> Any:
    """tilewise.attention, which calls this for JAX's arrays, traced ones included.

    Gradients reach q, k, v, and tables and parameters that are JAX's arrays. `seed` is a Python int, since JAX has no
    hidden generator; `sequences` and `query_offset` are Python's, too, while `block_table`, `k_scales` and `v_scales`
    are arrays, which may be traced.
    """
    made = variant_of(variant)
    tables, parameters = given.get("tables") or {}, given.get("parameters") or {}
    for name in tables:
        if name not in made._names:
            raise InvalidArgument(f"tables: the variant has no table named {name!r}; its tables are {made._names}")
    beside = _beside(given.get("block_table"), given.get("k_scales"), given.get("v_scales"))
    call = _call_of(q, made, given, (*tables, *parameters))
    _check_shapes(q, k, v, call)
    if call.dropout is not None:
        made, _ = options_of(made, call.rank, dropout=call.dropout)
    # The arrays of a variant are arguments of the program, not part of it, so that they can be traced.
    own = dict(zip(made._names, made._data))
    own |= {each.name: value for each, value in made._values}
    program = _program(_without_arrays(made), call)
    extras = tuple(jnp.asarray(tables.get(each.name, own.get(each.name))) for each in program.tables)
    extras += tuple(_number(parameters.get(each.name, own.get(each.name))) for each in program.parameters)
    o, lse = _attention(program, q, k, v, beside + extras)
    return (o, lse) if return_lse else o


def _beside(block_table: Any, k_scales: Any, v_scales: Any) -> tuple[Any, ...]:
    """The arrays beside q, k and v, in the order in which a program takes them."""
    if (k_scales is None) != (v_scales is None):
        raise InvalidArgument("k_scales and v_scales: expected both or none")
    return tuple(jnp.asarray(each) for each in (block_table, k_scales, v_scales) if each is not None)


def _call_of(q: Any, variant: Variant, given: CallOptions, names: tuple[str, ...]) -> _Call:
    dropout, seed = given.get("dropout"), given.get("seed")
    if (dropout is not None or variant.has_dropout) and seed is None:
        raise InvalidArgument("dropout needs a seed: JAX has no hidden generator to draw one from")
    scale, query_offset, sequences = given.get("scale"), given.get("query_offset"), given.get("sequences")
    found = [] if sequences is None else sequences_of(sequences, q.ndim == 3)
    if query_offset is not None and not isinstance(query_offset, int):
        raise Unsupported("query_offset: one int for JAX's arrays; a tilewise.Sequence says it of one sequence")
    return _Call(
        q.ndim, given.get("layout", "bhsd"), None if scale is None else float(scale), query_offset, dropout, seed or 0,
        given.get("seed_offset") or 0,
        tuple(found),
        given.get("block_table") is not None, given.get("k_scales") is not None, tuple(sorted(names)),
    )


def _check_shapes(q: Any, k: Any, v: Any, call: _Call) -> None:
    """What can be told while tracing, as an exception of Python's; an error inside of a compiled program is XLA's."""
    layout_of(call.layout)
    if not 3 <= q.ndim <= 4 or not 3 <= k.ndim <= 4 or v.ndim != k.ndim:
        raise InvalidArgument(f"q, k and v have {q.ndim}, {k.ndim} and {v.ndim} axes; expected 4, or 3 where sequences "
                              "are packed")
    heads = -3 if call.layout == "bhsd" else -2
    if q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1] or (not call.sequences and q.shape[0] != k.shape[0]):
        raise InvalidArgument(f"q, k and v have the shapes {q.shape}, {k.shape} and {v.shape}; expected one batch, one "
                              "d_qk of q and k, and one length and one number of heads of k and v")
    if k.shape[heads] == 0 or q.shape[heads] % k.shape[heads] != 0:
        raise InvalidArgument(f"q has {q.shape[heads]} heads and k {k.shape[heads]}, which does not divide them")
    for name, each in (("q", q), ("k", k), ("v", v)):
        if not jnp.issubdtype(each.dtype, jnp.floating) and not (call.has_scales and name != "q"):
            raise TypeError(f"{name} is of {each.dtype}; expected float64, float32, float16 or bfloat16")


def _number(value: Any) -> Any:
    if isinstance(value, jax.Array):
        return value
    return jnp.asarray(value, jnp.int32 if isinstance(value, int) else jnp.float32)


def _without_arrays(variant: Variant) -> Variant:
    """The variant without JAX's arrays, which may be traced and must not outlive their trace; one for each recipe."""
    is_traced = any(isinstance(each, jax.Array) for each in variant._data)
    is_traced |= any(isinstance(value, jax.Array) for _, value in variant._values)
    if not is_traced:
        return variant
    known = _bare.get(id(variant._recipe))
    if known is None:
        arrays = tuple(pair for pair in variant._arrays if not isinstance(pair[1], jax.Array))
        values = tuple((each, _Traced()) if isinstance(value, jax.Array) else (each, value)
                       for each, value in variant._values)
        known = _bare[id(variant._recipe)] = Variant(variant._recipe, arrays, values)
    return known


_bare: dict[int, Variant] = {}


class _Traced:
    """In place of a parameter's traced value."""
