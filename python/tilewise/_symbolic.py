"""What lets functions written for tensors run on symbolic values: methods, and the functions of NumPy and PyTorch."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from tilewise import _core

Function = Callable[..., Any]


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:  # noqa: A002: the names that callers use
    if min is not None:
        x = _core.maximum(x, min)
    return x if max is None else _core.minimum(x, max)


def _logical_xor(a: Any, b: Any) -> Any:
    return a ^ b


def _zeros_like(x: Any, **_: Any) -> Any:
    return {"bool": False, "int": 0, "real": 0.0}[x.type]


def _ones_like(x: Any, **_: Any) -> Any:
    return {"bool": True, "int": 1, "real": 1.0}[x.type]


def _full_like(x: Any, fill_value: Any, **_: Any) -> Any:
    return fill_value


FUNCTIONS: dict[str, Function] = {
    name: getattr(_core, name)
    for name in ("abs", "floor", "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin", "cos",
                 "where", "minimum", "maximum", "logical_and", "logical_or", "logical_not")
}
FUNCTIONS |= {
    "absolute": _core.abs,
    "expit": _core.sigmoid,
    "invert": operator.invert,
    "bitwise_not": operator.invert,
    "negative": operator.neg,
    "neg": operator.neg,
    "add": operator.add,
    "subtract": operator.sub,
    "sub": operator.sub,
    "rsub": lambda a, b: b - a,
    "multiply": operator.mul,
    "mul": operator.mul,
    "divide": operator.truediv,
    "div": operator.truediv,
    "true_divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "mod": operator.mod,
    "power": operator.pow,
    "pow": operator.pow,
    "float_power": operator.pow,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / x,
    "left_shift": operator.lshift,
    "right_shift": operator.rshift,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "logical_xor": _logical_xor,
    "equal": operator.eq,
    "eq": operator.eq,
    "not_equal": operator.ne,
    "ne": operator.ne,
    "less": operator.lt,
    "lt": operator.lt,
    "less_equal": operator.le,
    "le": operator.le,
    "greater": operator.gt,
    "gt": operator.gt,
    "greater_equal": operator.ge,
    "ge": operator.ge,
    "clamp": _clamp,
    "clip": _clamp,
    "relu": lambda x: _core.maximum(x, 0.0),
    "zeros_like": _zeros_like,
    "ones_like": _ones_like,
    "full_like": _full_like,
}

_REVERSED = {f"__{name}__": function for name, function in (
    ("add", operator.add), ("sub", operator.sub), ("mul", operator.mul), ("truediv", operator.truediv),
    ("floordiv", operator.floordiv), ("mod", operator.mod), ("and", operator.and_), ("or", operator.or_),
    ("xor", operator.xor), ("lt", operator.lt), ("le", operator.le), ("gt", operator.gt), ("ge", operator.ge),
    ("eq", operator.eq), ("ne", operator.ne))}


def _call(library: str, name: str, arguments: Any, named: Any) -> Any:
    name = name.removeprefix("special_")
    function = FUNCTIONS.get(name) or _REVERSED.get(name)
    if function is None:
        known = ", ".join(sorted(FUNCTIONS))
        raise TypeError(f"{library}'s {name}() has no meaning for a symbolic value while a variant is recorded; those "
                        f"that have one are {known}")
    named = {key: value for key, value in named.items() if not (key == "out" and value is None)}
    return function(*(_number(each) for each in arguments), **named)


def _number(value: Any) -> Any:
    """An array of one element as a number."""
    is_array = hasattr(value, "dtype") and hasattr(value, "item") and not isinstance(value, _core.Expr)
    return value.item() if is_array else value


def _torch_function(cls: Any, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
    return _call("PyTorch", getattr(function, "__name__", str(function)), arguments, named or {})


def _array_ufunc(self: Any, ufunc: Any, method: str, *arguments: Any, **named: Any) -> Any:
    return _call("NumPy", ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}", arguments, named)


def _array_function(self: Any, function: Any, types: Any, arguments: Any, named: Any) -> Any:
    return _call("NumPy", function.__name__, arguments, named)


def _to(self: Any, kind: Any, *_: Any, **__: Any) -> Any:
    """A conversion: to real, int or bool, as the dtype's name says; a device changes nothing."""
    name = str(kind)
    if "float" in name or "double" in name or "half" in name:
        return _core.where(self, 1.0, 0.0) if self.type == "bool" else _core.to_real(self)
    if "int" in name or "long" in name:
        if self.type == "bool":
            return _core.where(self, 1, 0)
        return _core.to_int(self) if self.type == "real" else self
    if "bool" in name:
        return self if self.type == "bool" else self != 0
    return self


def _filled(number: int, dtype: Any) -> Any:
    if "bool" in str(dtype):
        return _core.logical_not(number == 0)
    return _core.constant(number if "int" in str(dtype) else float(number))


def _method(function: Function) -> Function:
    """A function of C as one of Python, which binds `self`."""
    return lambda self, *arguments, **named: function(self, *arguments, **named)


_METHODS: dict[str, Any] = {
    name: _method(FUNCTIONS[name])
    for name in ("abs", "floor", "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin", "cos",
                 "logical_and", "logical_or", "logical_not", "logical_xor", "minimum", "maximum", "clamp", "clip", "pow",
                 "square", "reciprocal", "relu", "neg", "add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge",
                 "remainder", "floor_divide", "bitwise_and", "bitwise_or", "bitwise_not")
}
_METHODS |= {
    "to": _to,
    "type_as": lambda self, other: _to(self, {"real": "float", "int": "int", "bool": "bool"}[other.type]),
    "astype": _to,
    "float": lambda self: _to(self, "float"),
    "double": lambda self: _to(self, "float"),
    "int": lambda self: _to(self, "int"),
    "long": lambda self: _to(self, "int"),
    "bool": lambda self: _to(self, "bool"),
    "new_ones": lambda self, *_, dtype=None, **__: _filled(1, dtype),
    "new_zeros": lambda self, *_, dtype=None, **__: _filled(0, dtype),
    "device": None,  # every device is the right one
    "__torch_function__": classmethod(_torch_function),
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
}


def install() -> None:
    """Gives symbolic values these methods."""
    for name, function in _METHODS.items():
        setattr(_core.Expr, name, function)
