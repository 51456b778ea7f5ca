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
) -> Tensor | None:
    """Sequences as an operator takes them, read in no way that torch.compile could not trace. A tensor has rows as above,
    or lengths [b]."""
    is_for_all = query_offset is None or isinstance(query_offset, int)
    if sequences is None and is_for_all:
        return None
    if isinstance(sequences, Tensor):
        if not is_for_all:
            raise Unsupported("query_offset: one int under torch.compile where sequences are a tensor")
        if sequences.dim() == 2:
            return sequences
        first = sequences.cumsum(0) - sequences if is_packed else None
        return rows_of(sequences, sequences, first_query_token=first, first_key_token=first)
    fields: list[Any] = []
    for each in sequences_of([] if sequences is None else sequences, is_packed, query_offset):
        fields += (each.s_q, each.s_kv, each.first_query_position, *each[3:])
    return torch.tensor(fields, dtype=torch.int64).view(-1, 7)


def sequences_in(rows: Tensor) -> list[Sequence]:
    """The sequences of `rows` [b, 7]."""
    return [Sequence(*row) for row in rows.tolist()]
