"""What a Python function captures: its closure, its defaults, the globals that its code names, and so on inside."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

Array = Any
# Makes what stands for a captured array: of the array, its number, and a name for it.
StandIn = Callable[[Array, int, str], Any]

_ATOMS = (type(None), bool, int, float, str, bytes)


def is_array(value: Any) -> bool:
    """An array of any library, a traced one of JAX included."""
    return (
        hasattr(value, "shape")
        and hasattr(value, "dtype")
        and hasattr(value, "ndim")
        and hasattr(value, "__getitem__")
        and not isinstance(value, (numpy.generic, type))
    )


def _names_of(code: types.CodeType) -> Iterator[str]:
    """The global and attribute names of some code, functions inside of it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_of(constant)


class _Unknown(Exception):
    """Something whose later changes could not be seen, so that no recording may be kept."""


class Captures:
    """A function's captures; `key` tells two functions apart that could be recorded differently, or is None."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.arrays: list[Array] = []
        self.kept: list[Any] = []
        self._slots: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self.key: Any
        try:
            self.key = self._key_of(function)
        except _Unknown:
            self.key = None

    def _slot(self, array: Array) -> int:
        slot = self._slots.setdefault(id(array), len(self.arrays))
        if slot == len(self.arrays):
            self.arrays.append(array)
        return slot

    def _key_of(self, value: Any) -> Any:
        if isinstance(value, _ATOMS):
            return type(value), value
        if isinstance(value, types.FunctionType):
            return self._key_of_function(value)
        if isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType, numpy.ufunc)) or (
            hasattr(value, "__tilewise__")
        ):
            self.kept.append(value)
            return "identity", id(value)
        if isinstance(value, numpy.generic):
            return type(value), value.item()
        if is_array(value):
            if value.ndim == 0 and str(value.dtype).endswith("bool"):
                return "bool", bool(value)
            return "array", self._slot(value), str(value.dtype), value.ndim
        if isinstance(value, (tuple, list)):
            return type(value), tuple(self._key_of(each) for each in value)
        if isinstance(value, dict):
            return "dict", tuple((self._key_of(name), self._key_of(each)) for name, each in value.items())
        if isinstance(value, functools.partial):
            return "partial", self._key_of(value.func), self._key_of(value.args), self._key_of(value.keywords)
        raise _Unknown

    def _key_of_function(self, function: types.FunctionType) -> Any:
        if id(function) in self._seen:
            return "again", self._seen[id(function)]
        self._seen[id(function)] = len(self._seen)
        parts: list[Any] = [function.__code__]
        for cell in function.__closure__ or ():
            try:
                parts.append(self._key_of(cell.cell_contents))
            except ValueError:  # not filled yet
                parts.append("empty")
        parts.append(self._key_of(function.__defaults__))
        parts.append(self._key_of(function.__kwdefaults__))
        for name in self._globals_of(function):
            parts.append((name, self._key_of(function.__globals__[name])))
        return tuple(parts)

    def _globals_of(self, function: types.FunctionType) -> list[str]:
        return [name for name in dict.fromkeys(_names_of(function.__code__)) if name in function.__globals__]

    def substituted(self, stand_in: StandIn) -> Callable[..., Any]:
        """The function, with what `stand_in` makes in place of the arrays that it captures."""
        result: Callable[..., Any] = _Substitution(self._slot, stand_in).of(self.function, "table")
        return result


class _Substitution:
    def __init__(self, slot: Callable[[Array], int], stand_in: StandIn) -> None:
        self._slot, self._stand_in = slot, stand_in
        self._made: dict[int, Any] = {}
        self._kept: list[Any] = []

    def of(self, value: Any, name: str) -> Any:
        if isinstance(value, (*_ATOMS, types.ModuleType, type, types.BuiltinFunctionType, numpy.generic, numpy.ufunc)):
            return value
        if id(value) not in self._made:
            self._kept.append(value)
            self._made[id(value)] = value  # while it is under way, for functions that name themselves
            self._made[id(value)] = self._made_of(value, name)
        return self._made[id(value)]

    def _made_of(self, value: Any, name: str) -> Any:
        if hasattr(value, "__tilewise__"):
            return value
        if is_array(value):
            return self._stand_in(value, self._slot(value), name)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self.of(value.__func__, name), self.of(value.__self__, name))
        if isinstance(value, functools.partial):
            arguments = [self.of(each, name) for each in value.args]
            named = {key: self.of(each, key) for key, each in value.keywords.items()}
            return functools.partial(self.of(value.func, name), *arguments, **named)
        if type(value) in (tuple, list):
            parts = [self.of(each, name) for each in value]
            return value if _are_same(parts, value) else type(value)(parts)
        if type(value) is dict:
            parts = [self.of(each, str(key)) for key, each in value.items()]
            return value if _are_same(parts, value.values()) else dict(zip(value, parts))
        if hasattr(value, "__dict__"):
            return _Attributes(value, self)
        return value

    def _function(self, function: types.FunctionType) -> Callable[..., Any]:
        """The same function where it captures no array."""
        code = function.__code__
        cells = function.__closure__ or ()
        closure = [self._cell(cell, name) for cell, name in zip(cells, code.co_freevars)]
        named = {name: function.__globals__[name] for name in _names_of(code) if name in function.__globals__}
        replaced = {name: self.of(value, name) for name, value in named.items()}
        changed = {name: value for name, value in replaced.items() if value is not named[name]}
        defaults = self.of(function.__defaults__, "default")
        by_name = self.of(function.__kwdefaults__, "default")
        if not changed and _are_same(closure, cells) and _are_same(
            (defaults, by_name), (function.__defaults__, function.__kwdefaults__)
        ):
            return function
        scope = {**function.__globals__, **changed} if changed else function.__globals__
        made = types.FunctionType(code, scope, function.__name__, defaults, tuple(closure))
        made.__kwdefaults__ = by_name
        made.__dict__.update(function.__dict__)
        return made

    def _cell(self, cell: types.CellType, name: str) -> types.CellType:
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        replaced = self.of(value, name)
        return cell if replaced is value else types.CellType(replaced)


def _are_same(a: Iterable[Any], b: Iterable[Any]) -> bool:
    return all(x is y for x, y in zip(a, b))


class _Attributes:
    """An object of the caller's whose attributes are substituted as they are read: `self.bias[at.head]`."""

    def __init__(self, value: Any, substitution: _Substitution) -> None:
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "_substitution", substitution)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._value, name)
        if isinstance(value, types.MethodType) and value.__self__ is self._value:
            return types.MethodType(self._substitution.of(value.__func__, name), self)
        return self._substitution.of(value, name)

    def __getitem__(self, key: Any) -> Any:
        return self._substitution.of(self._value[key], "table")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        function = self._substitution.of(type(self._value).__call__, "call")
        return function(self, *arguments, **named)
