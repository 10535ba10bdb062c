"""Expressions of the IR as expressions of torch."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from fibc.emit import syntax as py
from fibc.ir.expression import Call, Expr, Input, fold
from fibc.ir.functions import FUNCTIONS

_OPERATORS = frozenset("+-*/&|")
_COMPARISONS = frozenset({"<", "<="})


def torch_expression(
    expr: Expr, inputs: Sequence[ast.expr], param: Callable[[str], ast.expr]
) -> ast.expr:
    """The expression, of tensors `inputs` and 0-dim parameters; a tensor shaped like the first
    input."""
    written: ast.expr = fold(expr, param, lambda index: inputs[index], py.constant, _call)
    if _is_tensor(expr):
        return written
    # What has no input has no shape and no type. (Inputs that are not used may be numbers.)
    like = next(given for given in inputs if not isinstance(given, ast.Constant))
    return py.binary("+", written, py.call(py.dotted("torch", "zeros_like"), like))


def _is_tensor(expr: Expr) -> bool:
    """Whether an expression has the shape of its inputs by itself."""
    match expr:
        case Input():
            return True
        case Call("where", (condition, yes, no)):
            return _is_tensor(condition) or (_is_tensor(yes) and _is_tensor(no))
        case Call(_, arguments):
            return any(map(_is_tensor, arguments))
        case _:
            return False


def _call(function: str, arguments: list[ast.expr]) -> ast.expr:
    name = FUNCTIONS[function].torch
    if function == "stopgrad":
        return arguments[0]
    if function == "where":
        condition, yes, no = arguments
        if _is_number(yes) and _is_number(no):
            # Two numbers would be of the default type: the last parameter is a 0 of the right one.
            zero = py.item(py.name("params"), py.constant(-1))
            yes = py.binary("+", zero, yes)
        return py.call(py.dotted("torch", "where"), condition, yes, no)
    if name in _OPERATORS:
        return py.binary(name, *arguments)
    if name in _COMPARISONS:
        return py.compare(arguments[0], name, arguments[1])
    return py.call(py.dotted(*name.split(".")), *arguments)


def _is_number(tree: ast.expr) -> bool:
    match tree:
        case ast.Constant():
            return True
        case ast.UnaryOp(_, operand):
            return _is_number(operand)
        case ast.BinOp(left, _, right):
            return _is_number(left) and _is_number(right)
        case ast.Attribute(ast.Name("math"), "inf"):
            return True
        case _:
            return False
