"""Sequences as a tensor: what torch.compile's graphs hold, and what lengths on a GPU become without waiting for each."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Any

import torch
from torch import Tensor

from tilewise._errors import Unsupported
from tilewise._sequences import Sequence, Sequences, sequences_of


def rows_of(
    s_q: Tensor, s_kv: Tensor, *, key_start: Tensor | None = None, first_query_token: Tensor | None = None,
    first_key_token: Tensor | None = None,
) -> Tensor:
    """int64 [b, 7], the fields of each Sequence, of these fields, integers [b]; the last query and the last key share a
    position."""
    none = torch.zeros_like(s_q)
    given = (none if each is None else each for each in (key_start, first_query_token, first_key_token))
    return torch.stack([each.long() for each in (s_q, s_kv, s_kv - s_q, none, *given)], dim=1)


def rows_in_graph(
    sequences: Sequences | Tensor | None, is_packed: bool, query_offset: int | SequenceOf[int] | None
) -> tuple[Tensor | None, list[int]]:
    """Sequences as an operator takes them, read in no way that torch.compile could not trace: rows as above, or how many
    there are and then the fields of each (a list that is never empty: PyTorch takes empty ones for lists of tensors). A
    tensor has rows, or lengths [b]."""
    is_for_all = query_offset is None or isinstance(query_offset, int)
    if isinstance(sequences, Tensor):
        if not is_for_all:
            raise Unsupported("query_offset: one int under torch.compile where sequences are a tensor")
        if sequences.dim() == 2:
            return sequences, [0]
        first = sequences.cumsum(0) - sequences if is_packed else None
        return rows_of(sequences, sequences, first_query_token=first, first_key_token=first), [0]
    if sequences is None and is_for_all:
        return None, [0]
    found = sequences_of([] if sequences is None else sequences, is_packed, query_offset)
    fields: list[Any] = [len(found)]
    for each in found:
        fields += (each.s_q, each.s_kv, each.first_query_position, *each[3:])
    return None, fields


def sequences_in(rows: Tensor | None, fields: list[int]) -> list[Sequence] | None:
    """The sequences of what the function above returned."""
    if rows is not None:
        return [Sequence(*row) for row in rows.tolist()]
    return [Sequence(*fields[i : i + 7]) for i in range(1, len(fields), 7)] or None
