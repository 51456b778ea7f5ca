"""Recording: a Python function runs once on symbolic values, and what it computed becomes a variant."""

from __future__ import annotations

import collections
import math
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from tilewise import _core
from tilewise._captures import Captures, is_array
from tilewise._typing import Array
from tilewise._variant import Variant

Expr = _core.Expr
At = _core.At


class _Recordings(threading.local):
    """The tables and parameters that the recordings at hand have used, the innermost last."""

    def __init__(self) -> None:
        self.used: list[list[Table | Parameter]] = []


_recordings = _Recordings()


def _note(used: Table | Parameter) -> None:
    if _recordings.used:
        _recordings.used[-1].append(used)


def _dtype_name(data: Array) -> str:
    return str(data.dtype).rpartition(".")[2]


class Table:
    """An array that a variant reads: `table[i, j]` is the element at symbolic positions.

    Arrays that a recorded function captures become tables by themselves; `tilewise.table(array)` is for those that it
    reaches in other ways, and `Table(name, dtype, rank)` for data that each call gives by name. Reads must be provably
    inside for every entry that is kept; `table.clamped[i, j]` clamps each index instead.
    """

    __slots__ = ("_clamp", "_data", "_handle")

    def __init__(self, name: str, dtype: str, rank: int) -> None:
        self._handle = _core.Table(name, dtype, rank)
        self._data: Array | None = None
        self._clamp = False

    @classmethod
    def _of(cls, handle: _core.Table, data: Array | None, clamp: bool = False) -> Table:
        made = cls.__new__(cls)
        made._handle, made._data, made._clamp = handle, data, clamp
        return made

    @property
    def name(self) -> str:
        """The name by which calls give its data."""
        return self._handle.name

    @property
    def clamped(self) -> Table:
        """The same table, each index of a read clamped to its axis."""
        return Table._of(self._handle, self._data, True)

    def values_in(self, low: float, high: float) -> Table:
        """The same table with its values declared to lie in [low, high]; data outside is refused."""
        return Table._of(self._handle.values_in(low, high), self._data, self._clamp)

    def __getitem__(self, index: Any) -> Any:
        return self._at(index if isinstance(index, tuple) else (index,))

    def _at(self, index: tuple[Any, ...]) -> Any:
        if len(index) < self._handle.rank:  # table[i][j] is table[i, j]
            return _PartialRead(self, index)
        _note(self)
        return self._handle.read(*index, clamped=self._clamp)

    def __tilewise__(self) -> Any:
        raise TypeError(f"table {self.name!r} is an array: index it with all of its {self._handle.rank} indices")

    def __len__(self) -> int:
        raise TypeError(f"table {self.name!r} has extents only once a call gives its data")

    def _binding(self) -> tuple[tuple[_core.Table, Array], ...]:
        return () if self._data is None else ((self._handle, self._data),)


class _PartialRead:
    """A table with its first indices given."""

    def __init__(self, table_: Table, index: tuple[Any, ...]) -> None:
        self._table, self._index = table_, index

    def __getitem__(self, index: Any) -> Any:
        return self._table._at(self._index + (index if isinstance(index, tuple) else (index,)))

    def __tilewise__(self) -> Any:
        return self._table.__tilewise__()


def table(data: Array, *, name: str = "table", frozen: bool = False) -> Table:
    """An array as a table of the variants that read it. `frozen` copies it now and makes it part of the variant."""
    if isinstance(data, Table):  # an array that a recorded function captures is one by then
        if frozen:
            raise TypeError(f"table {data.name!r}: freeze an array outside of the function that is recorded")
        return data
    if frozen:
        return Table._of(_core.Table.frozen(name, data), None)
    return Table._of(_core.Table(name, _dtype_name(data), data.ndim), data)


class Parameter:
    """A number that each call gives: `parameters={"name": value}`, or `value` where it gives none.

    Its declared range lets masks be decided for whole tiles; values outside are refused. Where `integer` it is an int32.
    """

    __slots__ = ("_handle", "_value")

    def __init__(
        self,
        name: str,
        low: float = -math.inf,
        high: float = math.inf,
        *,
        value: Any = None,
        integer: bool = False,
    ) -> None:
        if integer:
            bounds = {} if low == -math.inf else {"low": int(low)}
            bounds |= {} if high == math.inf else {"high": int(high)}
            self._handle = _core.Parameter.integer(name, **bounds)
        else:
            self._handle = _core.Parameter(name, low, high)
        self._value = value

    @property
    def name(self) -> str:
        """The name by which calls give its value."""
        return self._handle.name

    def __tilewise__(self) -> Expr:
        _note(self)
        return self._handle.expression()

    def __repr__(self) -> str:
        return f"Parameter({self.name!r})"

    def __bool__(self) -> bool:
        return bool(self.__tilewise__())


def _forward_operator(name: str) -> None:
    def operator(self: Parameter, *others: Any) -> Any:
        return getattr(self.__tilewise__(), name)(*others)

    setattr(Parameter, name, operator)


for _operator in ("add", "sub", "mul", "truediv", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift"):
    _forward_operator(f"__{_operator}__")
    _forward_operator(f"__r{_operator}__")
for _operator in ("lt", "le", "gt", "ge", "neg", "abs", "pow", "invert"):
    _forward_operator(f"__{_operator}__")


class _Recorded:
    """A recording that is kept: the recipe, and which handle stands for the function's n-th captured array."""

    def __init__(self, recipe: _core.Recipe, used: list[Table | Parameter], slots: dict[int, int], kept: Any) -> None:
        self.recipe = recipe
        self.kept = kept  # what the key refers to by identity
        self.by_slot: list[tuple[int, Any]] = []
        self.own: list[Table | Parameter] = []
        for each in used:
            if id(each) in slots:
                self.by_slot.append((slots[id(each)], each._handle))
            else:
                self.own.append(each)
        self.variant: Variant | None = None
        self.arrays: list[Any] = []

    def with_arrays(self, arrays: list[Any]) -> Variant:
        if self.variant is not None and all(a is b for a, b in zip(arrays, self.arrays, strict=True)):
            return self.variant
        recipe = self.recipe
        data: dict[Any, Any] = {handle: arrays[slot] for slot, handle in self.by_slot if isinstance(handle, _core.Table)}
        values = {handle.name: (handle, arrays[slot]) for slot, handle in self.by_slot
                  if not isinstance(handle, _core.Table)}
        for each in self.own:
            if isinstance(each, Table) and each._data is not None:
                data[each._handle] = each._data
            elif isinstance(each, Parameter) and each._value is not None:
                values[each.name] = (each._handle, each._value)
        variant = Variant(
            recipe,
            tuple((handle, data[handle]) for handle in recipe.tables if handle in data),
            tuple(values[handle.name] for handle in recipe.parameters if handle.name in values),
        )
        if not arrays:  # nothing of the caller's is kept alive
            self.variant = variant
        return variant


_KEPT = 256
_kept: collections.OrderedDict[Any, _Recorded] = collections.OrderedDict()


def record(make: Callable[[Callable[..., Any]], _core.Recipe], function: Callable[..., Any], *, clamp: bool = False,
           form: Any = None) -> Variant:
    """What `make` records of `function`, whose captured arrays become tables.

    A recording is kept by the function's code and by what it captures: numbers by value, arrays by dtype and rank.
    """
    if not callable(function):
        raise TypeError(f"expected a function of symbolic positions, not {type(function).__name__}")
    captures = Captures(function)
    key = None if captures.key is None else (make, form, clamp, captures.key)
    known = None if key is None else _kept.get(key)
    if known is not None:
        _kept.move_to_end(key)
        return known.with_arrays(captures.arrays)
    slots: dict[int, int] = {}

    def stand_in(array: Array, slot: int, name: str) -> Any:
        made: Table | Parameter
        if array.ndim == 0:
            kind = _dtype_name(array)
            if kind == "bool":
                return bool(array)
            made = Parameter(name, value=array, integer="int" in kind)
        else:
            made = Table._of(_core.Table(name, _dtype_name(array), array.ndim), array, clamp)
        slots[id(made)] = slot
        return made

    _recordings.used.append([])
    try:
        recipe = make(captures.substituted(stand_in))
    finally:
        used = _recordings.used.pop()
    recorded = _Recorded(recipe, used, slots, (captures.kept, used))
    if key is not None:
        _kept[key] = recorded
        if len(_kept) > _KEPT:
            _kept.popitem(last=False)
    return recorded.with_arrays(captures.arrays)


def keep(function: Callable[[At], Any]) -> Variant:
    """Entries for which `function(at)` is false are removed.

    >>> import tilewise as tw
    >>> print(tw.keep(lambda at: (at.query >= at.key) & (at.query - at.key < 1024)))
    keep(query >= key and query - key < 1024)
    """
    return record(_core.keep, function)


def score(function: Callable[[Expr, At], Any]) -> Variant:
    """The score s = scale * q.k becomes `function(s, at)`; -inf removes the entry.

    >>> import numpy as np, tilewise as tw
    >>> slopes = np.array([0.5, 0.25], np.float32)
    >>> print(tw.score(lambda s, at: s - slopes[at.head] * abs(at.query - at.key)))
    table slopes: float32[?]; score(s - slopes[head] * abs(query - key))
    """
    return record(_core.score, function)


def sink(function: Callable[[At], Any]) -> Variant:
    """Adds exp(function(at)) to each row's denominator only; it may read batch, heads and lengths, no positions."""
    return record(_core.sink, function)


def dropout(probability: float) -> Variant:
    """Drops weights with that probability, or with the one that the call gives."""
    return Variant(_core.dropout(probability))


def parse(text: str) -> Variant:
    """The variant that a text in the textual form stands for.

    >>> import tilewise as tw
    >>> print(tw.parse("window(1024) & softcap(30)"))
    keep(query >= key and query - key < 1024) & score(30 * tanh(s / 30))
    """
    return Variant(_core.parse(text))


def clip(x: Any, low: Any, high: Any) -> Expr:
    """min(max(x, low), high)."""
    return _core.minimum(_core.maximum(x, low), high)
