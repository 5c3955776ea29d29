"""Functions of each number by itself: what the frameworks call them, and the one rule for all of them.

To add one that torch has, write one row: every importer reads its own column of the tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .graph import Graph, Shape, Value
from .rules import Rule
from .shapes import with_rank

Function = Callable[..., Any]


class Row(NamedTuple):
    """A torch function and its names in other frameworks, several with a space between them; "" if there is none."""

    function: Function
    onnx: str
    tensorflow: str
    jax: str


# fmt: off
UNARY = (
    #   torch               ONNX           TensorFlow        JAX
    Row(torch.abs,          "Abs",         "Abs",            "abs"),
    Row(torch.neg,          "Neg",         "Neg",            "neg"),
    Row(torch.sign,         "Sign",        "Sign",           "sign"),
    Row(torch.exp,          "Exp",         "Exp",            "exp"),
    Row(torch.exp2,         "",            "",               "exp2"),
    Row(torch.expm1,        "",            "Expm1",          "expm1"),
    Row(torch.log,          "Log",         "Log",            "log"),
    Row(torch.log1p,        "",            "Log1p",          "log1p"),
    Row(torch.sqrt,         "Sqrt",        "Sqrt",           "sqrt"),
    Row(torch.rsqrt,        "",            "Rsqrt",          "rsqrt"),
    Row(torch.square,       "",            "Square",         "square"),
    Row(torch.reciprocal,   "Reciprocal",  "Reciprocal Inv", ""),
    Row(torch.sin,          "Sin",         "Sin",            "sin"),
    Row(torch.cos,          "Cos",         "Cos",            "cos"),
    Row(torch.tan,          "Tan",         "Tan",            "tan"),
    Row(torch.asin,         "Asin",        "Asin",           "asin"),
    Row(torch.acos,         "Acos",        "Acos",           "acos"),
    Row(torch.atan,         "Atan",        "Atan",           "atan"),
    Row(torch.sinh,         "Sinh",        "Sinh",           "sinh"),
    Row(torch.cosh,         "Cosh",        "Cosh",           "cosh"),
    Row(torch.tanh,         "Tanh",        "Tanh",           "tanh"),
    Row(torch.asinh,        "Asinh",       "Asinh",          "asinh"),
    Row(torch.acosh,        "Acosh",       "Acosh",          "acosh"),
    Row(torch.atanh,        "Atanh",       "Atanh",          "atanh"),
    Row(torch.sigmoid,      "Sigmoid",     "Sigmoid",        "logistic"),
    Row(torch.erf,          "Erf",         "Erf",            "erf"),
    Row(torch.erfc,         "",            "Erfc",           "erfc"),
    Row(torch.erfinv,       "",            "Erfinv",         "erf_inv"),
    Row(torch.lgamma,       "",            "Lgamma",         "lgamma"),
    Row(torch.digamma,      "",            "Digamma",        "digamma"),
    Row(torch.floor,        "Floor",       "Floor",          "floor"),
    Row(torch.ceil,         "Ceil",        "Ceil",           "ceil"),
    Row(torch.round,        "Round",       "Round Rint",     ""),
    Row(torch.isfinite,     "",            "IsFinite",       "is_finite"),
    Row(torch.isnan,        "IsNaN",       "IsNan",          ""),
    Row(torch.isinf,        "IsInf",       "IsInf",          ""),
    Row(torch.logical_not,  "Not",         "LogicalNot",     ""),
    Row(torch.bitwise_not,  "",            "",               "not"),
    Row(Tensor.detach,      "",            "",               "stop_gradient"),
    Row(F.relu,             "Relu",        "Relu",           ""),
    Row(F.relu6,            "",            "Relu6",          ""),
    Row(F.elu,              "",            "Elu",            ""),
    Row(F.selu,             "",            "Selu",           ""),
    Row(F.mish,             "Mish",        "",               ""),
    Row(F.softplus,         "Softplus",    "Softplus",       ""),
    Row(F.softsign,         "Softsign",    "Softsign",       ""),
    Row(F.hardswish,        "HardSwish",   "",               ""),
)
BROADCAST = (
    #   torch               ONNX              TensorFlow         JAX
    Row(torch.add,          "Add",            "Add AddV2",       "add"),
    Row(torch.sub,          "Sub",            "Sub",             "sub"),
    Row(torch.mul,          "Mul",            "Mul",             "mul"),
    Row(torch.div,          "",               "Div RealDiv",     ""),
    Row(torch.floor_divide, "",               "FloorDiv",        ""),
    Row(torch.remainder,    "",               "FloorMod",        ""),
    Row(torch.fmod,         "",               "",                "rem"),
    Row(torch.pow,          "Pow",            "Pow",             "pow"),
    Row(torch.atan2,        "",               "Atan2",           "atan2"),
    Row(torch.gt,           "Greater",        "Greater",         "gt"),
    Row(torch.ge,           "GreaterOrEqual", "GreaterEqual",    "ge"),
    Row(torch.lt,           "Less",           "Less",            "lt"),
    Row(torch.le,           "LessOrEqual",    "LessEqual",       "le"),
    Row(torch.eq,           "Equal",          "Equal",           "eq"),
    Row(torch.ne,           "",               "NotEqual",        "ne"),
    Row(torch.logical_and,  "And",            "LogicalAnd",      ""),
    Row(torch.logical_or,   "Or",             "LogicalOr",       ""),
    Row(torch.logical_xor,  "Xor",            "",                ""),
    Row(torch.bitwise_and,  "",               "",                "and"),
    Row(torch.bitwise_or,   "",               "",                "or"),
    Row(torch.bitwise_xor,  "",               "",                "xor"),
    Row(torch.where,        "",               "Select SelectV2", ""),
)
# fmt: on
# What the others write with attributes, or in other words: only the reader of torch calls these by name.
TORCH_ONLY = (
    torch.log2,
    torch.clamp,
    F.leaky_relu,
    F.celu,
    F.silu,
    F.gelu,
    F.hardsigmoid,
    F.hardtanh,
    F.hardshrink,
    F.softshrink,
    F.tanhshrink,
    F.logsigmoid,
    F.threshold,
)  # fmt: skip
TABLE = (*UNARY, *BROADCAST)


def named(framework: str, rows: Sequence[Row] = TABLE) -> dict[str, Function]:
    """The functions of a framework, a column of the tables, by its own names."""
    return {name: row.function for row in rows for name in getattr(row, framework).split()}


def by_name(functions: Iterable[Function]) -> dict[str, Function]:
    """Functions by torch's names."""
    return {function.__name__.strip("_"): function for function in functions}


def elementwise(function: Function) -> Rule:
    """The rule of a function that torch has too; shapes are broadcast."""

    def of(g: Graph, _call: Any, *values: Value) -> Value:
        return broadcast(g, function, *values)

    return of


def broadcast(g: Graph, function: Function, *values: Value) -> Value:
    """A function of each number, or of several at the same place."""
    rank = max(value.ndim for value in values)
    wide = [with_rank(g, value, rank) for value in values]
    held, order = g.aligned(wide)
    return Value(g.call(function, *held), _shape(wide, rank), order)


def _shape(values: Sequence[Value], rank: int) -> Shape:
    full = [value.shape for value in values if len(value.shape) == rank]
    return tuple(next((n for n in dims if n != 1), 1) for dims in zip(*full, strict=True))


def applied(g: Graph, function: Function, x: Value, *args: Any, **kwargs: Any) -> Value:
    """A function of each number, with arguments that are no values."""
    return Value(g.call(function, x.held, *args, **kwargs), x.shape, x.order)


def extreme(g: Graph, largest: bool, *values: Value) -> Value:
    """The largest or smallest of several values at each place; with a number it is a clamp.

    A ReLU is known by its name, not as max(x, 0), which also guards variances.
    """
    moving = [value for value in values if value.number() is None]
    limits = [number for value in values if (number := value.number()) is not None]
    if not moving or moving[0].ndim < max(value.ndim for value in values):
        moving, limits = list(values), []
    out = moving[0]
    for other in moving[1:]:
        out = broadcast(g, torch.maximum if largest else torch.minimum, out, other)
    limits = [number for number in limits if number != (-math.inf if largest else math.inf)]
    if limits:
        out = applied(g, torch.clamp, out, **({"min": max(limits)} if largest else {"max": min(limits)}))
    return out


def cast(g: Graph, x: Value, dtype: torch.dtype, floating: bool) -> Value:
    """Other numbers. Floating ones are of one dtype throughout, the one of the weights.

    Args:
        floating: whether x is known to hold such.
    """
    if dtype.is_floating_point and floating and not x.known:
        return x
    return applied(g, Tensor.to, x, g.dtype if dtype.is_floating_point else dtype)
