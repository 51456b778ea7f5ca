"""Exact attention, tile by tile: every variant of attention from an ordinary function.

>>> import numpy as np, tilewise as tw
>>> q, k, v = (np.random.default_rng(0).standard_normal((1, 4, 256, 64), np.float32) for _ in range(3))
>>> mine = tw.keep(lambda at: at.query - at.key < 128) & tw.zoo.causal() & tw.score(lambda s, at: 30 * tw.tanh(s / 30))
>>> o = tw.attention(q, k, v, mine)
"""

from tilewise import _symbolic, zoo
from tilewise._attention import attention
from tilewise._core import (
    At,
    Expr,
    abs,
    constant,
    cos,
    erf,
    exp,
    exp2,
    floor,
    log,
    log2,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    rsqrt,
    sigmoid,
    sin,
    sqrt,
    tanh,
    to_int,
    to_real,
    where,
)
from tilewise._errors import DeviceError, Error, FileError, InvalidArgument, OutOfMemory, ParseError, Unsupported
from tilewise._model import Generation, Model
from tilewise._plan import Plan
from tilewise._recording import Parameter, Table, clip, dropout, keep, parse, score, sink, table
from tilewise._sequences import Sequence, packed
from tilewise._show import TileMap
from tilewise._variant import Variant

__version__ = "0.1.0"

__all__ = [
    "At", "DeviceError", "Error", "Expr", "FileError", "Generation", "InvalidArgument", "Model", "OutOfMemory", "Parameter", "ParseError",
    "Plan", "Sequence", "Table", "TileMap", "Unsupported", "Variant", "abs", "attention", "clip", "constant", "cos",
    "dropout", "erf", "exp", "exp2", "floor", "keep", "log", "log2", "logical_and", "logical_not", "logical_or",
    "maximum", "minimum", "packed", "parse", "rsqrt", "score", "sigmoid", "sin", "sink", "sqrt", "table", "tanh",
    "to_int", "to_real", "where", "zoo",
]

_symbolic.install()
