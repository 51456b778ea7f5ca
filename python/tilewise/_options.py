"""What a call says besides q, k and v, made into what the extension module takes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence as SequenceOf
from typing import Any, TypedDict

from tilewise import _core
from tilewise._errors import InvalidArgument
from tilewise._sequences import Sequences, sequences_of
from tilewise._typing import Array
from tilewise._variant import Variant


class CallOptions(TypedDict, total=False):
    """What a call may say besides q, k, v and the variant; `tilewise.attention` says what each means."""

    scale: float | None
    query_offset: int | SequenceOf[int] | None
    sequences: Sequences | None
    dropout: float | None
    layout: str
    tables: Mapping[str, Array] | None
    parameters: Mapping[str, Any] | None
    seed: int | None
    seed_offset: int | None
    deterministic: bool
    block_table: Array | None
    k_scales: Array | None
    v_scales: Array | None


LAYOUTS = {"bhsd": _core.Layout.bhsd, "bshd": _core.Layout.bshd}
PLAIN = Variant(_core.plain())
PLAIN_CALL = _core.PLAIN
_DROPOUT = Variant(_core.dropout(0.0))  # the call gives the probability


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Variant:
    return Variant(_core.parse(text))


def variant_of(variant: Variant | str | None) -> Variant:
    """A variant, also from its textual form; None is plain attention."""
    if variant is None:
        return PLAIN
    if isinstance(variant, str):
        return _parsed(variant)
    if not isinstance(variant, Variant):
        raise TypeError(f"variant: expected a tilewise.Variant, its textual form or None, not {type(variant).__name__}; "
                        "tilewise.keep() and tilewise.score() make one of a function")
    return variant


def layout_of(layout: str) -> _core.Layout:
    """The layout of that name."""
    found = LAYOUTS.get(layout)
    if found is None:
        raise InvalidArgument(f"layout is {layout!r}; expected 'bhsd', [batch, heads, length, dim], or 'bshd', "
                              "[batch, length, heads, dim]")
    return found


def options_of(
    variant: Variant,
    rank: int,
    *,
    scale: float | None = None,
    query_offset: int | SequenceOf[int] | None = None,
    sequences: Sequences | None = None,
    dropout: float | None = None,
    layout: str = "bhsd",
    tables: Mapping[str, Array] | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    seed_offset: int | None = None,
    deterministic: bool = False,
    block_table: Array | None = None,
    k_scales: Array | None = None,
    v_scales: Array | None = None,
) -> tuple[Variant, _core.Options]:
    """The variant to compute, and the options of the call. `rank` is q's: 3 where it is packed.

    Where nothing is said that matters, the options are `PLAIN_CALL` itself.
    """
    if (
        scale is None and query_offset is None and sequences is None and dropout is None and layout == "bhsd"
        and not deterministic and not tables and not parameters and block_table is None and k_scales is None
        and v_scales is None and not variant._needs
    ):
        return variant, PLAIN_CALL
    if dropout is not None and not variant.has_dropout:
        variant = variant & _DROPOUT
    options = _core.Options()
    options.layout = layout_of(layout)
    options.deterministic = deterministic
    options.seed = (seed or 0) & 0xFFFFFFFFFFFFFFFF  # PyTorch's seeds are signed
    options.seed_offset = seed_offset or 0
    if scale is not None:
        options.scale = float(scale)
    if isinstance(query_offset, int):
        options.query_offset = query_offset
    if sequences is not None or not (query_offset is None or isinstance(query_offset, int)):
        options.sequences = sequences_of(sequences or [], rank == 3, query_offset)
    if dropout is not None:
        options.dropout = float(dropout)
    if block_table is not None:
        options.block_table = block_table
    if k_scales is not None:
        options.k_scales = k_scales
    if v_scales is not None:
        options.v_scales = v_scales
    if variant._needs or tables or parameters:
        variant._bind(options, tables, parameters)
    return variant, options
