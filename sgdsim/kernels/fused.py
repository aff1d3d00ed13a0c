"""Products that are summed, rounded once: ``a*b + c`` becomes ``fma(a, b, c)`` in the texts that are compiled.

A compiler that is allowed to contract chooses the product of a sum that it fuses, by its version and by the processor:
the same formula had different last digits on each. Here the text decides, and compilers may not contract. So a result
has the same bits wherever a multiplication, an addition, a division and a root are rounded as IEEE 754 demands.
"""

from __future__ import annotations

import ast
import ctypes
import os
from typing import Any

import numpy as np


def fused(text: str) -> str:
    """A text with fused sums of products; indices, which are whole numbers, are left as they are.

    Of two products in a sum the left one is fused.

    Examples
    --------
    >>> fused("y[i*n + j] = p*z + c - r*s")
    'y[i * n + j] = fma(-r, s, fma(p, z, c))'
    >>> fused("total -= a*b")
    'total = fma(-a, b, total)'
    """
    return ast.unparse(_Fused().visit(ast.parse(text)))


class _Fused(ast.NodeTransformer):
    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, (ast.Add, ast.Sub)):
            return node
        minus = isinstance(node.op, ast.Sub)
        if (product := _factors(node.left)) is not None:
            return _fma(*product, _negative(node.right) if minus else node.right)
        if (product := _factors(node.right)) is not None:
            first, second = product
            return _fma(_negative(first) if minus else first, second, node.left)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        self.generic_visit(node)
        if not isinstance(node.op, (ast.Add, ast.Sub)) or (product := _factors(node.value)) is None:
            return node
        first, second = product
        before = ast.parse(ast.unparse(node.target), mode="eval").body
        value = _fma(_negative(first) if isinstance(node.op, ast.Sub) else first, second, before)
        return ast.Assign([node.target], value, lineno=node.lineno)


def _factors(node: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """The two factors of a product; None for other expressions."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return node.left, node.right
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and (product := _factors(node.operand)):
        return _negative(product[0]), product[1]
    return None


def _negative(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return node.operand
    return ast.UnaryOp(ast.USub(), node)


def _fma(first: ast.expr, second: ast.expr, third: ast.expr) -> ast.expr:
    return ast.Call(ast.Name("fma", ast.Load()), [first, second, third], [])


_library = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
_of_double, _of_single = _library.fma, _library.fmaf
_of_double.argtypes, _of_double.restype = [ctypes.c_double] * 3, ctypes.c_double
_of_single.argtypes, _of_single.restype = [ctypes.c_float] * 3, ctypes.c_float


def fma(a: Any, b: Any, c: Any) -> Any:
    """``a*b + c``, rounded once, by the C library, for targets that are not compiled.

    Examples
    --------
    >>> fma(1 + 2.0**-52, 1 - 2.0**-52, -1.0) == -(2.0**-104)
    np.True_
    """
    if isinstance(a, np.float32) and isinstance(b, np.float32) and isinstance(c, np.float32):
        return np.float32(_of_single(a, b, c))
    return np.float64(_of_double(a, b, c))
