"""A variant's textual form as Python source over tilewise's recording functions.

The textual form's operators are Python's. What differs is rewritten in the syntax tree: `and`, `or` and `not`, names of
coordinates and functions, numbers that are baked in, tables' reads, and `let`.
"""

import ast
import re

import numpy
import tilewise as tw

COORDINATES = {"query", "key", "query_index", "key_index", "query_token", "key_token", "queries", "keys", "batch",
               "head", "kv_head"}
FUNCTIONS = {"min": "minimum", "max": "maximum", "select": "where", "real": "to_real", "int": "to_int"}


class _Rewriter(ast.NodeTransformer):
    def visit_BoolOp(self, node):
        self.generic_visit(node)
        operator = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
        result = node.values[0]
        for value in node.values[1:]:
            result = ast.BinOp(result, operator, value)
        return result

    def visit_BinOp(self, node):
        """Python would compute 32 - 7 by itself, where C++ records it."""
        self.generic_visit(node)
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            literal = ast.Attribute(ast.Attribute(ast.Name("tw", ast.Load()), "_core", ast.Load()), "literal", ast.Load())
            node.left = ast.Call(literal, [node.left], [])
        return node

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        return ast.UnaryOp(ast.Invert(), node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Call(self, node):
        name = node.func.id
        node.args = [self.visit(each) for each in node.args]
        node.func = ast.Attribute(ast.Name("tw", ast.Load()), FUNCTIONS.get(name, name), ast.Load())
        return node

    def visit_Name(self, node):
        if node.id in COORDINATES:
            return ast.Attribute(ast.Name("at", ast.Load()), node.id, ast.Load())
        return {"true": ast.Constant(True), "false": ast.Constant(False),
                "inf": ast.Call(ast.Name("float", ast.Load()), [ast.Constant("inf")], [])}.get(node.id, node)


def _python(expression):
    tree = _Rewriter().visit(ast.parse(expression.strip(), mode="eval"))
    return ast.unparse(ast.fix_missing_locations(tree))


def _split(text, separator):
    """The parts between separators that no bracket encloses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


DECLARED = re.compile(r"table (\w+): (\w+)\[([^\]]*)\](?: in \[([^,]*), ([^\]]*)\])?(?: = \[(.*)\])?$", re.DOTALL)


def _table(declaration):
    name, dtype, extents, low, high, values = DECLARED.match(declaration).groups()
    if values is None:
        made = tw.Table(name, dtype, extents.count(",") + 1)
        return name, made if low is None else made.values_in(float(low), float(high))
    numbers = [{"true": 1, "false": 0}.get(each.strip()) if each.strip() in ("true", "false") else float(each)
               for each in values.split(",") if each.strip()]
    shape = [int(each) for each in extents.split(",")]
    return name, tw.table(numpy.array(numbers).astype(dtype).reshape(shape), name=name, frozen=True)


def transcribed(text):
    """The variant of a text without parameters, recorded from Python functions."""
    *declarations, stages = _split(text, ";")
    tables = dict(_table(each) for each in declarations)
    result = None
    for stage in _split(stages, "&"):
        kind, body = re.match(r"(\w+)\((.*)\)$", stage, re.DOTALL).groups()
        *lets, expression = _split(body, ";")
        arguments = "s, at" if kind == "score" else "at"
        lines = [f"def function({arguments}):"]
        for let in lets:
            name, value = let.removeprefix("let ").split("=", 1)
            lines.append(f"    {name.strip()} = {_python(value)}")
        lines.append(f"    return {_python(expression)}")
        scope = {"tw": tw, **tables}
        exec("\n".join(lines), scope)  # noqa: S102: of the library's own text
        made = getattr(tw, kind)(scope["function"])
        result = made if result is None else result & made
    return result
