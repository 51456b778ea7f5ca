"""Sequences of a batch that differ in their lengths, positions or places in storage."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import NamedTuple, TypeAlias, cast

from tilewise._errors import InvalidArgument


class Sequence(NamedTuple):
    """One sequence of a batch.

    >>> import tilewise as tw
    >>> tw.Sequence(1, 100).first_query_position  # the last query and the last key share a position
    99
    """

    s_q: int
    """Queries."""
    s_kv: int
    """Keys."""
    query_offset: int | None = None
    """The position of the first query; by default key_offset + s_kv - s_q."""
    key_offset: int = 0
    """The position of the first key."""
    key_start: int = 0
    """The first key that is valid: what is before is padding."""
    first_query_token: int = 0
    """The row of the first query in storage that all sequences share."""
    first_key_token: int = 0
    """The row of the first key in storage that all sequences share."""

    @property
    def first_query_position(self) -> int:
        """The given query_offset, or the default."""
        return self.key_offset + self.s_kv - self.s_q if self.query_offset is None else self.query_offset


Sequences: TypeAlias = SequenceOf[Sequence] | SequenceOf[int]


def packed(queries: SequenceOf[int], keys: SequenceOf[int] | None = None) -> list[Sequence]:
    """Sequences of these lengths, one behind the other in packed storage."""
    result = []
    first_query = first_key = 0
    for s_q, s_kv in zip(queries, queries if keys is None else keys, strict=True):
        result.append(Sequence(int(s_q), int(s_kv), first_query_token=first_query, first_key_token=first_key))
        first_query += int(s_q)
        first_key += int(s_kv)
    return result


def sequences_of(
    sequences: Sequences, is_packed: bool, query_offset: int | SequenceOf[int] | None = None
) -> list[Sequence]:
    """Sequences as they are given: themselves, or lengths of queries and keys alike; with a query offset for each where
    there are several."""
    if all(isinstance(each, Sequence) for each in sequences):
        result = list(cast("SequenceOf[Sequence]", sequences))
    else:
        lengths = [int(each) for each in cast("SequenceOf[int]", sequences)]
        result = packed(lengths) if is_packed else [Sequence(length, length) for length in lengths]
    if query_offset is None or isinstance(query_offset, int):
        return result
    offsets = [int(each) for each in query_offset]
    if len(result) != len(offsets):
        raise InvalidArgument(f"query_offset has {len(offsets)} elements for {len(result)} sequences; give one int, or "
                              "`sequences` and as many offsets")
    return [each._replace(query_offset=offset) for each, offset in zip(result, offsets)]
