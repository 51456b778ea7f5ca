"""tilewise.attention for arrays of any library, and what computes it on NumPy's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy

from tilewise import _core
from tilewise._options import PLAIN_CALL, CallOptions, options_of, variant_of
from tilewise._typing import ArrayT
from tilewise._variant import Variant

if TYPE_CHECKING:
    from typing_extensions import Unpack

_forward = _core.forward


@overload
def attention(
    q: ArrayT, k: ArrayT, v: ArrayT, variant: Variant | str | None = None, *, return_lse: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> ArrayT: ...


@overload
def attention(
    q: ArrayT, k: ArrayT, v: ArrayT, variant: Variant | str | None = None, *, return_lse: Literal[True],
    **options: Unpack[CallOptions],
) -> tuple[ArrayT, ArrayT]: ...


def attention(
    q: Any, k: Any, v: Any, variant: Variant | str | None = None, *, return_lse: bool = False,
    **options: Unpack[CallOptions],
) -> Any:
    """softmax(variant(scale * q k^T)) v, exactly, without a matrix of scores.

    The options are scale, query_offset, sequences, dropout, layout, tables, parameters, seed, seed_offset, deterministic,
    block_table, k_scales and v_scales.

    `q` [b, h_q, s_q, d_qk], `k` [b, h_kv, s_kv, d_qk], `v` [b, h_kv, s_kv, d_v]; h_kv divides h_q. With layout="bshd"
    heads and lengths change places. With `sequences`, q may be packed, [h_q, tokens, d_qk] ("bshd": [tokens, h_q,
    d_qk]), and k and v likewise, or paged, [pages, h_kv, page_tokens, d], with an int32 `block_table` [b, pages of a
    sequence]. Arrays are read in place; one whose last axis is not contiguous is copied first.

    `variant`: what happens to the scores; also in its textual form. `scale`: 1 / sqrt(d_qk) by default.
    `query_offset`: the position of the first query, by default such that the last query and the last key share one.
    `sequences`: lengths and places, `tilewise.Sequence`s or lengths of queries and keys alike. `dropout`: the
    probability with which weights are dropped, by `seed` and `seed_offset` (for PyTorch from its generator).
    `deterministic`: gradients on a GPU have the same bits every time, as they always have on the processor.
    `tables`, `parameters`: by name, what the variant leaves open. `k_scales`, `v_scales`: of int8 k and v.

    Returns o [b, h_q, s_q, d_v], an array of q's kind, on its device; with `return_lse` also the logarithms of the
    softmax's denominators [b, h_q, s_q], float32 (float64 for float64), in that order of axes for either layout. Rows
    of no sequence are 0, and -inf in lse. Gradients flow for PyTorch's and JAX's arrays.

    Raises InvalidArgument (a ValueError) or TypeError on arguments that do not fit, and Unsupported where nothing
    computes what is asked for.

    >>> import numpy as np, tilewise as tw
    >>> q = k = v = np.ones((1, 2, 5, 8), np.float32)
    >>> tw.attention(q, k, v, tw.zoo.causal()).shape
    (1, 2, 5, 8)
    """
    if type(q) is not numpy.ndarray:
        compute_on = _by_type.get(type(q)) or _of_type(type(q))
        return compute_on(q, k, v, variant, return_lse=return_lse, **options)
    made, call = options_of(variant if type(variant) is Variant else variant_of(variant), q.ndim, **options)
    return compute(made, call, q, k, v, return_lse, numpy)


def compute(
    variant: Variant, options: _core.Options, q: Any, k: Any, v: Any, return_lse: bool, library: Any
) -> Any:
    """o, and lse where it is asked for, in arrays of `library`."""
    d_v = getattr(v, "shape", (0,))[-1]
    has_gaps = options is not PLAIN_CALL and bool(options.sequences)  # rows of no sequence, which are not written
    make = library.zeros if has_gaps else library.empty
    o = make((*q.shape[:-1], d_v), dtype=q.dtype)
    lse = None
    if return_lse:
        lse = library.full(lse_shape(q.shape, options), -numpy.inf,
                           dtype=library.float64 if str(q.dtype).endswith("float64") else library.float32)
    if not _forward(variant._recipe, q, k, v, o, lse, options):
        q, k, v = (numpy.ascontiguousarray(each) for each in (q, k, v))
        _forward(variant._recipe, q, k, v, o, lse, options)
    return (o, lse) if return_lse else o


def lse_shape(q_shape: Any, options: _core.Options) -> tuple[int, ...]:
    """[b, h_q, s_q] or [h_q, tokens], from q's shape in the layout of the call."""
    shape = tuple(q_shape[:-1])
    return (*shape[:-2], shape[-1], shape[-2]) if options.layout == _core.Layout.bshd else shape


_by_type: dict[type, Callable[..., Any]] = {}


def compute_by(kind: type, function: Callable[..., Any]) -> None:
    """From now on attention of arrays of that very type is the function's."""
    _by_type[kind] = function


def _of_type(kind: type) -> Callable[..., Any]:
    """What computes on arrays of that type; subclasses of another library's may be defined anywhere."""
    libraries = {each.__module__.partition(".")[0] for each in kind.__mro__}
    found: Callable[..., Any] = _of_dlpack
    if "torch" in libraries:
        from tilewise.torch._attention import attention as found
    elif libraries & {"jax", "jaxlib"}:
        from tilewise.jax import attention as found
    elif "numpy" in libraries:
        found = _of_subclass
    if len(_by_type) < 64:
        _by_type[kind] = found
    return found


def _of_subclass(q: Any, k: Any, v: Any, variant: Any, **options: Any) -> Any:
    return attention(numpy.asarray(q), k, v, variant, **options)


def _of_dlpack(q: Any, k: Any, v: Any, variant: Any, *, return_lse: bool, **options: Unpack[CallOptions]) -> Any:
    if not hasattr(q, "__dlpack__") or not hasattr(q, "shape"):
        raise TypeError(f"q: a {type(q).__name__} is no array; expected one of NumPy, PyTorch, JAX or another library "
                        "with __dlpack__()")
    if hasattr(q, "__array_namespace__"):
        library = q.__array_namespace__()
    else:
        library = importlib.import_module(type(q).__module__.partition(".")[0])
    made, call = options_of(variant_of(variant), len(q.shape), **options)
    return compute(made, call, q, k, v, return_lse, library)
