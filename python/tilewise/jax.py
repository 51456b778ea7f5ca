"""Tilewise for JAX: attention under jit, grad and vmap, on the processor.

>>> import jax, jax.numpy as jnp, tilewise as tw, tilewise.jax
>>> q, k, v = (jax.random.normal(jax.random.key(i), (1, 4, 128, 64)) for i in range(3))
>>> o = jax.jit(lambda q, k, v: tw.attention(q, k, v, tw.zoo.causal()))(q, k, v)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy

from tilewise import _core
from tilewise._errors import InvalidArgument, Unsupported
from tilewise._options import layout_of, options_of, variant_of
from tilewise._typing import Array
from tilewise._variant import Variant

__all__ = ["attention"]

_FORWARD, _BACKWARD = "tilewise_forward", "tilewise_backward"
jax.ffi.register_ffi_target(_FORWARD, _core.xla_forward(), platform="cpu")
jax.ffi.register_ffi_target(_BACKWARD, _core.xla_backward(), platform="cpu")


class _Program:
    """Everything of a call but its arrays; the compiled program holds its number."""

    def __init__(self, variant: Variant, layout: str, key: tuple[Any, ...], names: tuple[str, ...], recipe: Any) -> None:
        scale, query_offset, dropout, seed, seed_offset = key
        self.layout = layout
        self.variant = variant
        fixed = []
        self.tables = []
        for table, name, own in zip((t for t in recipe.tables if not t.is_frozen), variant._names, variant._data):
            if own is None or name in names:
                self.tables.append(table)
            else:
                data = numpy.ascontiguousarray(own)
                fixed.append((table, _core.RawArray(data.tobytes(), str(data.dtype), data.shape)))
        given = [each for each in recipe.parameters if each.name in names]
        for each, value in variant._values:
            if isinstance(value, _Traced) and each.name not in names:
                given.append(each)
        self.parameters = given
        options = _core.Options()
        options.layout = {"bhsd": _core.Layout.bhsd, "bshd": _core.Layout.bshd}[layout]
        options.scale, options.query_offset, options.dropout = scale, query_offset, dropout
        options.seed, options.seed_offset = seed & 0xFFFFFFFFFFFFFFFF, seed_offset
        options.set_parameters([(each, float(value)) for each, value in variant._values
                                if all(each != other for other in given)])
        self.number = _core.xla_program(recipe, options, fixed, self.tables, self.parameters)


@functools.lru_cache(maxsize=256)
def _program(variant: Variant, layout: str, key: tuple[Any, ...], names: tuple[str, ...]) -> _Program:
    recipe = variant._recipe
    return _Program(variant, layout, key, names, recipe)


_Result: Any = jax.ShapeDtypeStruct  # not annotated there


def _lse_shape(q: Any, layout: str) -> Any:
    b, x, y, _ = q.shape
    shape = (b, x, y) if layout == "bhsd" else (b, y, x)
    return _Result(shape, jnp.float64 if q.dtype == jnp.float64 else jnp.float32)


def _forward(program: _Program, q: Any, k: Any, v: Any, extras: tuple[Any, ...]) -> tuple[Any, Any]:
    results = (_Result((*q.shape[:-1], v.shape[-1]), q.dtype), _lse_shape(q, program.layout))
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
    reals = [jnp.issubdtype(each.dtype, jnp.floating) for each in extras]
    sums = jnp.float64 if q.dtype == jnp.float64 else jnp.float32
    results = [_Result(each.shape, each.dtype) for each in (q, k, v)]
    results += [_Result(each.shape, sums) for each, is_real in zip(extras, reals) if is_real]
    call = jax.ffi.ffi_call(_BACKWARD, results, vmap_method="broadcast_all")
    d_q, d_k, d_v, *rest = call(q, k, v, o, lse, d_o, d_lse, *extras, program=numpy.int64(program.number))
    remaining = iter(rest)
    d_extras = tuple(next(remaining).astype(each.dtype) if is_real else numpy.zeros(each.shape, jax.dtypes.float0)
                     for each, is_real in zip(extras, reals))
    return d_q, d_k, d_v, d_extras


_attention.defvjp(_with_residuals, _gradients)


def attention(
    q: Array,
    k: Array,
    v: Array,
    variant: Variant | str | None = None,
    *,
    scale: float | None = None,
    query_offset: int | None = None,
    sequences: Any = None,
    dropout: float | None = None,
    return_lse: bool = False,
    layout: str = "bhsd",
    tables: Mapping[str, Array] | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    seed_offset: int | None = None,
    block_table: Any = None,
    k_scales: Any = None,
    v_scales: Any = None,
) -> Any:
    """tilewise.attention, which calls this for JAX's arrays, traced ones included.

    Gradients reach q, k, v, and tables and parameters that are JAX's arrays. `seed` is a Python int, since JAX has no
    hidden generator. Sequences, pages and int8 caches are not for JAX.
    """
    if sequences is not None or block_table is not None or k_scales is not None or v_scales is not None:
        raise Unsupported("sequences, block_table, k_scales and v_scales are not for JAX's arrays; pass NumPy's")
    _check_shapes(q, k, v, layout)
    made = variant_of(variant)
    if (dropout is not None or made.has_dropout) and seed is None:
        raise InvalidArgument("dropout needs a seed: JAX has no hidden generator to draw one from")
    made, _ = options_of(made, 4, layout=layout, dropout=dropout) if dropout is not None else (made, None)
    given_tables, given_values = tables or {}, parameters or {}
    for name in given_tables:
        if name not in made._names:
            raise InvalidArgument(f"tables: the variant has no table named {name!r}; its tables are {made._names}")
    names = tuple(sorted([*given_tables, *given_values]))
    # The arrays of a variant are arguments of the program, not part of it, so that they can be traced.
    key = (None if scale is None else float(scale), query_offset, dropout, seed or 0, seed_offset or 0)
    own = dict(zip(made._names, made._data))
    own |= {each.name: value for each, value in made._values}
    bare = _without_arrays(made)
    program = _program(bare, layout, key, names)
    extras = tuple(jnp.asarray(given_tables.get(each.name, own.get(each.name))) for each in program.tables)
    extras += tuple(_number(given_values.get(each.name, own.get(each.name))) for each in program.parameters)
    o, lse = _attention(program, q, k, v, extras)
    return (o, lse) if return_lse else o


def _check_shapes(q: Any, k: Any, v: Any, layout: str) -> None:
    """What can be told while tracing, as an exception of Python's; an error inside of a compiled program is XLA's."""
    layout_of(layout)
    if not q.ndim == k.ndim == v.ndim == 4:
        raise InvalidArgument(f"q, k and v have {q.ndim}, {k.ndim} and {v.ndim} axes; expected 4 for JAX's arrays")
    heads = 1 if layout == "bhsd" else 2
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or k.shape[:3] != v.shape[:3]:
        raise InvalidArgument(f"q, k and v have the shapes {q.shape}, {k.shape} and {v.shape}; expected one batch, one "
                              "d_qk of q and k, and one length and one number of heads of k and v")
    if k.shape[heads] == 0 or q.shape[heads] % k.shape[heads] != 0:
        raise InvalidArgument(f"q has {q.shape[heads]} heads and k {k.shape[heads]}, which does not divide them")
    for name, each in (("q", q), ("k", k), ("v", v)):
        if not jnp.issubdtype(each.dtype, jnp.floating):
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
