"""Random scores of exactly so many operations, the same ones for the same seed everywhere.

An expression of n operations is drawn from its root on.

- Of none: the score s, or a number (+-0.25 to +-2 by quarters), each as often.
- Of one to three, every fourth time: a position times a number (2^-12, 2^-10, 2^-8 or 2^-6): a query's or a key's (one
  operation), their difference (two), its absolute value (three).
- Else an operation, in 16 of them on average: addition 3, subtraction 2, multiplication 3, min 2, max 2, abs 1,
  selection by a comparison of two numbers 2 (these are two operations, and what is left of one is an addition), a
  function 1, which is tanh, sigmoid, exp, log or sqrt, each as often. What is left of the n operations falls to the
  operands in random shares.

Drawn again is, in the order of one stream of random numbers, what is not a score of n operations: where an operation
depends on neither score nor position, or has the same operand (or result) twice, s * s excepted; where the result does
not depend on the score; where, for scores from -8 to 8 and positions up to 16384, a value is not finite or is beyond
100, or a slope is. Nobody's time is asked.
"""

import math
import random

POSITIONS = (0, 1, 5, 127, 1000, 8192, 16383)
SCORES = [i / 4 for i in range(-32, 33)]
FUNCTIONS = ("tanh", "sigmoid", "exp", "log", "sqrt")
WEIGHTS = {"+": 3, "-": 2, "*": 3, "min": 2, "max": 2, "abs": 1, "select": 2, "function": 1}


class Expression:
    def __init__(self, seed, operations=10):
        self.random = random.Random(seed)
        self.tree = self.drawn(operations)
        while not self.is_score(self.tree):
            self.tree = self.drawn(operations)

    # Nodes are tuples: ("s",), ("number", x), ("position", name, x), (operation, operands...).

    def below(self, count):
        return self.random.getrandbits(32) % count

    def any_of(self, items):
        return items[self.below(len(items))]

    def shares(self, total, count):
        shares = [0] * count
        for _ in range(total):
            shares[self.below(count)] += 1
        return shares

    def drawn(self, n):
        if n == 0:
            return ("s",) if self.below(2) == 0 else ("number", (1 + self.below(8)) / 4 * self.any_of((1, -1)))
        if n <= 3 and self.below(4) == 0:
            factor = 2.0 ** self.any_of((-12, -10, -8, -6))
            name = {1: ("query", "key"), 2: ("query - key",), 3: ("abs(query - key)",)}[n]
            return ("position", self.any_of(name), factor)
        operation = self.any_of([name for name, weight in WEIGHTS.items() for _ in range(weight)])
        if operation == "select" and n == 1:
            operation = "+"
        if operation == "function":
            return (self.any_of(FUNCTIONS), self.drawn(n - 1))
        if operation == "abs":
            return ("abs", self.drawn(n - 1))
        if operation == "select":
            return ("select", *map(self.drawn, self.shares(n - 2, 4)))  # of x < y, then a or b
        return (operation, *map(self.drawn, self.shares(n - 1, 2)))

    def is_score(self, tree):
        if not self.depends(tree, ("s",)) or not all(map(self.is_operation, self.parts(tree))):
            return False
        try:
            for query in POSITIONS:
                for key in POSITIONS:
                    values = [value_of(tree, s, query, key, Python) for s in SCORES]
                    slopes = [4 * (b - a) for a, b in zip(values, values[1:])]
                    if not all(abs(x) <= 100 for x in values + slopes):
                        return False
        except (ValueError, OverflowError):  # log and sqrt of what has none
            return False
        return True

    @classmethod
    def is_operation(cls, tree):
        pairs = {"select": ((1, 2), (3, 4)), "*": (), "position": ()}.get(tree[0], ((1, 2),) if len(tree) == 3 else ())
        return cls.depends(tree, ("s", "position")) and all(tree[a] != tree[b] for a, b in pairs)

    @classmethod
    def depends(cls, tree, leaves):
        return tree[0] in leaves or any(cls.depends(x, leaves) for x in tree[1:] if isinstance(x, tuple))

    @classmethod
    def parts(cls, tree):
        """All that are operations"""
        if tree[0] in ("s", "number"):
            return []
        return [tree] + [part for x in tree[1:] if isinstance(x, tuple) for part in cls.parts(x)]

    def text(self):
        """In the textual form"""
        return f"score({text_of(self.tree)})"

    def scores(self, s, query, key):
        """Of tensors"""
        return value_of(self.tree, s, query, key, Torch)


def text_of(tree):
    name, *operands = tree
    if name == "s":
        return "s"
    if name == "number":
        return str(operands[0])
    if name == "position":
        return f"({operands[0]}) * {operands[1]}"
    texts = [text_of(operand) for operand in operands]
    if name in "+-*":
        return f"({texts[0]}) {name} ({texts[1]})"
    if name == "select":
        return f"select({texts[0]} < {texts[1]}, {texts[2]}, {texts[3]})"
    return f"{name}({', '.join(texts)})"


def value_of(tree, s, query, key, of):
    name, *operands = tree
    if name == "s":
        return s
    if name == "number":
        return operands[0]
    if name == "position":
        place = {"query": query, "key": key, "query - key": query - key, "abs(query - key)": abs(query - key)}
        return place[operands[0]] * operands[1]
    values = [value_of(operand, s, query, key, of) for operand in operands]
    if name == "+":
        return values[0] + values[1]
    if name == "-":
        return values[0] - values[1]
    if name == "*":
        return values[0] * values[1]
    return getattr(of, name)(*values)


class Python:
    min, max, abs, tanh, exp, log, sqrt = min, max, abs, math.tanh, math.exp, math.log, math.sqrt

    @staticmethod
    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    @staticmethod
    def select(x, y, a, b):
        return a if x < y else b


class Torch:
    """Of numbers and tensors"""

    @staticmethod
    def tensors(*values):
        import torch

        device = next(x.device for x in values if isinstance(x, torch.Tensor))
        return [torch.as_tensor(x, device=device, dtype=torch.float32) for x in values]

    @classmethod
    def select(cls, x, y, a, b):
        import torch

        x, y, a, b = cls.tensors(x, y, a, b)
        return torch.where(x < y, a, b)


def unary(name):
    def function(cls, x):
        import torch

        return getattr(torch, name)(*cls.tensors(x))

    return classmethod(function)


def binary(name):
    def function(cls, a, b):
        import torch

        return getattr(torch, name)(*cls.tensors(a, b))

    return classmethod(function)


for each in ("abs", *FUNCTIONS):
    setattr(Torch, each, unary(each))
for each, whole in (("min", "minimum"), ("max", "maximum")):
    setattr(Torch, each, binary(whole))
