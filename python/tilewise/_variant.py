"""Variant: what happens between scores and softmax, and the arrays and numbers that it was recorded with."""

from __future__ import annotations

import collections
import itertools
import math
import weakref
from collections.abc import Mapping
from typing import Any

import numpy

from tilewise import _core
from tilewise._errors import InvalidArgument
from tilewise._sequences import Sequence
from tilewise._show import TileMap
from tilewise._typing import Array

_ids = itertools.count()
BY_ID: weakref.WeakValueDictionary[str, Variant] = weakref.WeakValueDictionary()


class Variant:
    """A variant of attention: keeps and scores in order, with an optional sink and dropout. Immutable.

    `a & b` is first a, then b. `print(variant)` shows its mathematics in the textual form, which `tilewise.parse` reads.

    >>> import tilewise as tw
    >>> print(tw.zoo.causal() & tw.score(lambda s, at: 30 * tw.tanh(s / 30)))
    keep(query >= key) & score(30 * tanh(s / 30))
    """

    __slots__ = ("_arrays", "_composed", "_data", "_id", "_is_dropping", "_names", "_needs", "_recipe", "_values", "__weakref__")

    def __init__(
        self,
        recipe: _core.Recipe,
        arrays: tuple[tuple[_core.Table, Array], ...] = (),
        values: tuple[tuple[_core.Parameter, Any], ...] = (),
    ) -> None:
        self._recipe = recipe
        self._arrays = arrays  # what tables read, unless a call gives something else
        self._values = values  # of parameters, likewise
        self._composed: dict[int, tuple[Variant, Variant]] = {}
        tables = [table for table in recipe.tables if not table.is_frozen]
        self._needs = bool(tables) or bool(recipe.parameters) or recipe.has_dropout
        # In forms that PyTorch's compiler can read: the tables' names and data, and a name to find the variant by (a text,
        # since it would make a number that differs between calls symbolic).
        self._names = tuple(table.name for table in tables)
        self._is_dropping = recipe.has_dropout
        self._data = tuple(next((array for own, array in arrays if own == table), None) for table in tables)
        self._id = str(next(_ids))
        BY_ID[self._id] = self

    def __and__(self, other: Variant) -> Variant:
        if not isinstance(other, Variant):
            return NotImplemented
        # Kept, so that a composition written inside of a loop is planned once.
        known = self._composed.get(id(other))
        if known is not None:
            return known[1]
        # (Variants with arrays are not kept, lest these stay alive.)
        arrays = self._arrays + tuple(pair for pair in other._arrays if all(pair[0] != own for own, _ in self._arrays))
        values = self._values + tuple(pair for pair in other._values if all(pair[0] != own for own, _ in self._values))
        composed = Variant(_composed(self._recipe, other._recipe), arrays, values)
        if not arrays and not values:
            if len(self._composed) >= 64:
                self._composed.clear()
            self._composed[id(other)] = (other, composed)
        return composed

    @property
    def key(self) -> str:
        """The content key: 32 hexadecimal digits. It ignores the values of numbers, parameters and tables."""
        return self._recipe.key

    @property
    def literals(self) -> list[float]:
        """The numbers that each call could rebind, in the order of their slots."""
        return self._recipe.literals

    @property
    def tables(self) -> list[str]:
        """The names of the tables that are not part of the variant itself."""
        return [table.name for table in self._recipe.tables if not table.is_frozen]

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters."""
        return [parameter.name for parameter in self._recipe.parameters]

    @property
    def has_sink(self) -> bool:
        """Whether a sink joins the denominators."""
        return self._recipe.has_sink

    @property
    def has_dropout(self) -> bool:
        """Whether the variant names a dropout probability."""
        return self._recipe.has_dropout

    def __str__(self) -> str:
        return self._recipe.text()

    def __repr__(self) -> str:
        return f"<tilewise.Variant {self}>"

    def _repr_markdown_(self) -> str:
        return f"```\n{self}\n```"

    def __reduce__(self) -> tuple[Any, ...]:
        tables = self._recipe.tables
        given = {id_: array for id_, array in ((_place(tables, table), array) for table, array in self._arrays)}
        for index, table in enumerate(tables):
            data, shape = table.frozen_bytes(), table.shape
            if data is not None and shape is not None and math.prod(shape) > 64:  # the text holds no more
                given[index] = _Frozen(data, table.dtype, shape)
        values = {_place(self._recipe.parameters, parameter): value for parameter, value in self._values}
        return _restore, (str(self), given, values)

    def bind(
        self, tables: Mapping[str, Array] | None = None, parameters: Mapping[str, float] | None = None
    ) -> Variant:
        """The same variant with arrays for tables and values for parameters, by name, as calls would give them."""
        arrays, values = self._bound(tables or {}, parameters or {})
        return Variant(self._recipe, arrays, values)

    def _bound(
        self, tables: Mapping[str, Array], parameters: Mapping[str, Any]
    ) -> tuple[tuple[tuple[_core.Table, Array], ...], tuple[tuple[_core.Parameter, Any], ...]]:
        """The arrays and values of a call: those given, and this variant's own for the rest."""
        arrays = [(table, array) for table, array in self._arrays if table.name not in tables]
        for name, array in tables.items():
            arrays.append((_named(self._recipe.tables, name, "table"), array))
        values = [(parameter, value) for parameter, value in self._values if parameter.name not in parameters]
        for name, value in parameters.items():
            values.append((_named(self._recipe.parameters, name, "parameter"), value))
        return tuple(arrays), tuple(values)

    def _bind(
        self, options: _core.Options, tables: Mapping[str, Array] | None, parameters: Mapping[str, Any] | None
    ) -> None:
        """Hands the arrays and values of a call to its options."""
        arrays, values = self._bound(tables or {}, parameters or {})
        options.tables = list(arrays)
        options.set_parameters([(parameter, _number(value)) for parameter, value in values])

    def classify(
        self,
        queries: int,
        keys: int,
        *,
        tile: tuple[int, int] = (128, 128),
        heads: int = 1,
        kv_heads: int | None = None,
        head: int = 0,
        sequence: int = 0,
        query_offset: int | None = None,
        sequences: list[Sequence] | None = None,
        tables: Mapping[str, Array] | None = None,
        parameters: Mapping[str, float] | None = None,
    ) -> TileMap:
        """Which tiles of (queries, keys) the mask of one sequence and head leaves empty, partial or full.

        >>> import tilewise as tw
        >>> print(tw.zoo.window(256).classify(512, 512))
        ▒···
        █▒··
        ▒█▒·
        ·▒█▒
        """
        options = _core.Options()
        options.sequences = sequences or []
        options.query_offset = query_offset
        self._bind(options, tables, parameters)
        rows, columns, classes = _core.classify(
            self._recipe, options, heads, heads if kv_heads is None else kv_heads, queries, keys, tile, sequence, head
        )
        return TileMap(numpy.frombuffer(classes, numpy.uint8).reshape(rows, columns), tile)

    def show(self, queries: int = 1024, keys: int | None = None, *, file: str | None = None, **options: Any) -> TileMap:
        """The picture of the mask and its tiles: in a notebook as the cell's result, else as PNG in `file`.

        Other options are those of `classify`.
        """
        tiles = self.classify(queries, queries if keys is None else keys, **options)
        if file is not None:
            tiles.save(file)
        return tiles


_KEPT = 256
_recipes: collections.OrderedDict[tuple[int, int], tuple[_core.Recipe, ...]] = collections.OrderedDict()


def _composed(a: _core.Recipe, b: _core.Recipe) -> _core.Recipe:
    """a & b, the same one for the same two, since a recipe has plans; the variants may have other arrays."""
    key = id(a), id(b)
    known = _recipes.get(key)
    if known is None:
        known = _recipes[key] = (a, b, a & b)
        if len(_recipes) > _KEPT:
            _recipes.popitem(last=False)
    return known[2]


class _Frozen:
    """A frozen table's data, pickled beside the text."""

    def __init__(self, data: bytes, dtype: str, shape: tuple[int, ...]) -> None:
        self.data, self.dtype, self.shape = data, dtype, shape


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)


def _place(handles: list[Any], handle: Any) -> int:
    return next(index for index, each in enumerate(handles) if each == handle)


def _named(handles: list[Any], name: str, kind: str) -> Any:
    found = [handle for handle in handles if handle.name == name]
    if len(found) != 1:
        names = ", ".join(repr(handle.name) for handle in handles) or "none"
        raise InvalidArgument(f"{kind}s: the variant has {len(found)} {kind}s named {name!r}; its {kind}s are {names}")
    return found[0]


def _restore(text: str, arrays: dict[int, Any], values: dict[int, Any]) -> Variant:
    recipe = _core.parse(text)
    tables, parameters = recipe.tables, recipe.parameters
    bound = []
    for index, array in arrays.items():
        bound.append((tables[index], _thawed(array) if isinstance(array, _Frozen) else array))
    return Variant(recipe, tuple(bound), tuple((parameters[index], value) for index, value in values.items()))


def _thawed(frozen: _Frozen) -> Array:
    if frozen.dtype == "bfloat16":  # NumPy has no name for it
        return _core.RawArray(frozen.data, frozen.dtype, frozen.shape)
    return numpy.frombuffer(frozen.data, dtype=frozen.dtype).reshape(frozen.shape)
