"""What the functions of tilewise.zoo have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tilewise import _core
from tilewise._recording import Table, table
from tilewise._typing import Array
from tilewise._variant import Variant


def named(name: str, *arguments: Any) -> Variant:
    """The named variant; the same object for the same arguments, so that its plans are kept."""
    return _made(name, tuple(tuple(each) if not isinstance(each, (int, float)) else each for each in arguments))


@functools.lru_cache(maxsize=256)
def _made(name: str, arguments: tuple[Any, ...]) -> Variant:
    given = [list(each) if isinstance(each, tuple) else each for each in arguments]
    return Variant(_core.named(name, *given))


def with_table(make: Callable[..., _core.Recipe], name: str, data: Table | Array, *arguments: Any) -> Variant:
    """A named variant that reads an array."""
    handle = data if isinstance(data, Table) else table(data, name=name)
    return Variant(make(handle._handle, *arguments), handle._binding())
