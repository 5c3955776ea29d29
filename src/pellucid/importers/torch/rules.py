"""Torch's functions as steps of a network: the axes followed, the many ways to call one function made one.

A function without a rule is called as it was, with its axes in torch's order: a rule only makes a network plainer. To
add a function of each number, write one row of the tables in graph/elementwise.py. Any other has a rule here, under its
plain name ("add" for torch.add, Tensor.add_ and +): a function of the graph and the `Call`, whose arguments hold a
`Value` for each tensor and whose `out` has the shapes of what it returns. It returns a `Value`, or a list of them for
several outputs. See `softmax` for a short one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph import reductions
from ..graph.batch_dims import check_batch_axis
from ..graph.elementwise import BROADCAST, TORCH_ONLY, UNARY, applied, by_name, cast, extreme
from ..graph.graph import BatchDim, Graph, ImportFailed, Shape, Value
from ..graph.products import contracted, matmul
from ..graph.rules import Rule, Rules
from ..graph.shapes import concatenated, flipped, with_padding, with_rank


@dataclass(eq=False)
class Call:
    """One call of a torch function in a layer. A rule is given one that holds values, and the shapes of what comes out.

    kind: of the numbers that its first argument holds.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    scope: tuple[str, ...] = ()
    kind: torch.dtype | None = None


RULES = Rules()
rule = RULES.rule
CURVES = by_name([*(row.function for row in UNARY), *TORCH_ONLY])
PAIRS = by_name([*(row.function for row in BROADCAST), torch.maximum, torch.minimum])
OTHER_NAMES = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "truediv": "div", "negative": "neg",
    "absolute": "abs", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "not_equal": "ne",
    "clip": "clamp", "and": "bitwise_and", "or": "bitwise_or",
}  # fmt: skip
SWAPPED = {"rsub": "sub", "rdiv": "div", "rtruediv": "div", "rpow": "pow", "radd": "add", "rmul": "mul"}
IN_PLACE = frozenset({
    *(f"{name}_" for name in (*CURVES, *PAIRS, *OTHER_NAMES)),
    *(f"__i{name}__" for name in (*PAIRS, *OTHER_NAMES)),
    "__setitem__", "copy_", "fill_", "zero_", "masked_fill_", "index_copy_", "scatter_",
})  # fmt: skip
LEAVES_TORCH = frozenset(
    ["__bool__", "__int__", "__float__", "__index__", "__array__", "item", "tolist", "numpy", "nonzero"]
)


def rule_of(function: Callable[..., Any]) -> Rule:
    """The rule of a torch function; by default it is called as it was."""
    name = plain_name(function)
    if name in RULES:
        return RULES[name]
    if name in CURVES:
        return curve
    return pair if name in PAIRS or name in SWAPPED else as_it_was


def plain_name(function: Callable[..., Any]) -> str:
    """One name for a function, its method, its operator and its twin that works in place."""
    name = getattr(function, "__name__", "")
    if name == "__get__":  # a property of a tensor
        name = getattr(getattr(function, "__self__", None), "__name__", "")
    if name.startswith("__i") and name in IN_PLACE:
        name = name.replace("__i", "", 1)
    name = name.strip("_")
    return OTHER_NAMES.get(name, name)


def as_it_was(g: Graph, call: Call) -> Any:
    """The call on what the network holds, with its axes in torch's order."""
    if call.function.__name__ in IN_PLACE:
        raise ImportFailed("what writes into a tensor has no rule: compute a new one")

    def held(value: Any) -> Any:
        if isinstance(value, Value):
            return g.plain(g.expanded(value))
        if isinstance(value, BatchDim):
            return g.length(value)
        if isinstance(value, slice) and any(isinstance(n, BatchDim) for n in (value.start, value.stop, value.step)):
            raise ImportFailed("it slices at an index that depends on the batch size")
        return type(value)(map(held, value)) if type(value) in (tuple, list) else value

    function, word = call.function, getattr(call.function, "__name__", "")
    if getattr(Tensor, word, None) is not function and not hasattr(function, "__module__"):
        raise ImportFailed("it has no rule")
    if word == "__getitem__":
        function = operator.getitem
    out = g.call(function, *map(held, call.args), **{key: held(value) for key, value in call.kwargs.items()})
    if len(call.out) == 1:
        return Value.of(out, call.out[0])
    return [Value.of(g.call(operator.getitem, out, place), shape) for place, shape in enumerate(call.out)]


def curve(g: Graph, call: Call) -> Value:
    """A function of each number by itself."""
    name = plain_name(call.function)
    x, *rest = call.args
    if any(isinstance(value, Value) for value in (*rest, *call.kwargs.values())):
        return as_it_was(g, call)  # type: ignore[no-any-return]
    options = {key: value for key, value in call.kwargs.items() if key != "inplace"}
    return applied(g, CURVES[name], x, *rest, **options)


def pair(g: Graph, call: Call) -> Value:
    """A function of tensors that are broadcast to each other."""
    name = plain_name(call.function)
    args = list(call.args)
    if name in SWAPPED:
        name, args = SWAPPED[name], args[::-1]
    if call.kwargs or isinstance(call.out[0], list):
        return as_it_was(g, call)  # type: ignore[no-any-return]
    rank = len(call.out[0])
    values = [with_rank(g, value, rank) for value in args if isinstance(value, Value)]
    if name in ("maximum", "minimum"):
        return extreme(g, name == "maximum", *values)
    held, order = g.aligned(values)
    rest = iter(held)
    made = g.call(PAIRS[name], *(next(rest) if isinstance(value, Value) else value for value in args))
    return Value(made, call.out[0], order)


# What changes nothing but the axes.


@rule("contiguous", "clone", "cuda", "cpu", "float", "double", "half", "bfloat16", "to", "type", "type_as", "detach",
      "data")  # fmt: skip
def same(g: Graph, call: Call) -> Value:
    x: Value = call.args[0]
    kind = next((v for v in (*call.args[1:], *call.kwargs.values()) if isinstance(v, torch.dtype)), None)
    if plain_name(call.function) in ("float", "double", "half", "bfloat16"):
        kind = g.dtype
    return x if kind is None else cast(g, x, kind, call.kind is not None and call.kind.is_floating_point)


@rule("permute", "transpose", "swapaxes", "movedim", "moveaxis", "T", "mT", "t")
def permuted(_g: Graph, call: Call) -> Value:
    x, *where = call.args
    rank, name = x.ndim, plain_name(call.function)
    where += list(call.kwargs.values())
    axes = list(range(rank))
    if name == "permute":
        given = where[0] if len(where) == 1 and isinstance(where[0], (tuple, list)) else where
        axes = [int(axis) % rank for axis in given]
    elif name in ("movedim", "moveaxis"):
        axes = _moved(rank, *where)
    else:
        a, b = (rank - 2, rank - 1) if name == "mT" else (0, 1) if name == "t" else tuple(n % rank for n in where)
        axes[a], axes[b] = axes[b], axes[a]
    return x.transposed(axes)  # type: ignore[no-any-return]


def _moved(rank: int, source: Any, destination: Any) -> list[int]:
    """The axes after a movedim."""
    pairs = zip(*((v if isinstance(v, (tuple, list)) else (v,)) for v in (source, destination)), strict=True)
    placed = {int(to) % rank: int(axis) % rank for axis, to in pairs}
    left = iter(axis for axis in range(rank) if axis not in placed.values())
    return [placed[place] if place in placed else next(left) for place in range(rank)]


@rule("reshape", "view", "flatten", "unsqueeze", "squeeze", "unflatten", "expand_dims", "atleast_2d")
def reshape(g: Graph, call: Call) -> Value:
    x, shape = call.args[0], call.out[0]
    if any(isinstance(value, torch.dtype) for value in call.args):
        return as_it_was(g, call)  # type: ignore[no-any-return]
    if shape == x.shape:
        return x  # type: ignore[no-any-return]
    return Value.of(g.reshaped(g.plain(x), shape), shape)


@rule("flip")
def flip(g: Graph, call: Call) -> Value:
    x, *where = call.args
    where += list(call.kwargs.values())
    axes = where[0] if isinstance(where[0], (tuple, list)) else where
    return flipped(g, x, [axis % x.ndim for axis in axes], "flip")


@rule("getitem")
def part(g: Graph, call: Call) -> Value:
    x, index = call.args
    listed = index if isinstance(index, tuple) else (index,)
    if ... in listed or not all(isinstance(item, slice) for item in listed):
        return as_it_was(g, call)  # type: ignore[no-any-return]
    listed += (slice(None),) * (x.ndim - len(listed))
    placed = tuple(listed[axis] for axis in x.order)
    if any(isinstance(n, BatchDim) for item in placed for n in (item.start, item.stop)):
        raise ImportFailed("it slices at an index that depends on the batch size")
    return Value(g.call(operator.getitem, x.held, placed), call.out[0], x.order)


@rule("cat", "concat", "concatenate")
def join(g: Graph, call: Call) -> Value:
    values, *where = call.args
    axis = (where or [call.kwargs.get("dim", call.kwargs.get("axis", 0))])[0] % len(call.out[0])
    return concatenated(g, values, axis)


@rule("pad")
def pad(g: Graph, call: Call) -> Value:
    x, amounts, *more = call.args
    mode = call.kwargs.get("mode", more[0] if more else "constant")
    if mode != "constant":
        return as_it_was(g, call)  # type: ignore[no-any-return]
    number = call.kwargs.get("value", more[1] if len(more) > 1 else None) or 0.0
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    ends = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    return with_padding(g, x, ends, float(number))


# Reductions.


@rule("mean", "sum", "amax", "amin", "prod", "max", "min")
def reduction(g: Graph, call: Call) -> Any:
    x, *rest = call.args
    name = plain_name(call.function)
    axes = call.kwargs.get("dim", call.kwargs.get("axis", rest[0] if rest else None))
    keep = call.kwargs.get("keepdim", call.kwargs.get("keepdims", rest[1] if len(rest) > 1 else False))
    if axes is None or isinstance(axes, Value) or len(call.out) > 1 or "dtype" in call.kwargs or name == "prod":
        if name in ("max", "min") and isinstance(axes, Value):
            return pair(g, Call(getattr(torch, f"{name}imum"), call.args, {}, call.out))
        over = range(x.ndim) if axes is None else [axes] if isinstance(axes, int) else ()
        check_batch_axis(x, [axis % x.ndim for axis in over], name)
        return as_it_was(g, call)
    over = [axis % x.ndim for axis in (axes if isinstance(axes, (tuple, list)) else [axes])]
    return reductions.reduced(g, getattr(torch, name), x, over, keep=bool(keep), name=name)


@rule("softmax", "log_softmax")
def softmax(g: Graph, call: Call) -> Value:
    x, *rest = call.args
    axis, name = call.kwargs.get("dim", call.kwargs.get("axis", rest[0] if rest else -1)), plain_name(call.function)
    return reductions.softmax(g, x, axis, logarithm=name == "log_softmax", name=name)


# Linear maps, norms and windows: their arguments in one order, all given.

ORDERS: dict[str, tuple[Callable[..., Any], tuple[tuple[str, Any], ...]]] = {
    **{f"conv{n}d": (getattr(F, f"conv{n}d"), (
        ("input", None), ("weight", None), ("bias", None), ("stride", 1), ("padding", 0), ("dilation", 1),
        ("groups", 1))) for n in (1, 2, 3)},
    "linear": (F.linear, (("input", None), ("weight", None), ("bias", None))),
    "layer_norm": (F.layer_norm, (("input", None), ("normalized_shape", None), ("weight", None), ("bias", None),
                                  ("eps", 1e-5))),
    "group_norm": (F.group_norm, (("input", None), ("num_groups", None), ("weight", None), ("bias", None),
                                  ("eps", 1e-5))),
    "batch_norm": (F.batch_norm, (
        ("input", None), ("running_mean", None), ("running_var", None), ("weight", None), ("bias", None),
        ("training", False), ("momentum", 0.1), ("eps", 1e-5))),
    "avg_pool2d": (F.avg_pool2d, (
        ("input", None), ("kernel_size", None), ("stride", None), ("padding", 0), ("ceil_mode", False),
        ("count_include_pad", True), ("divisor_override", None))),
}  # fmt: skip


@rule(*ORDERS)
def ordered(g: Graph, call: Call) -> Any:
    name = plain_name(call.function)
    function, order = ORDERS[name]
    given = dict(zip((word for word, _ in order), call.args, strict=False)) | call.kwargs
    args = [given.get(word, usual) for word, usual in order]
    if name == "batch_norm" and args[5]:
        raise ImportFailed("the batch norm takes the statistics of the batch: import the network as it predicts")
    if name.startswith(("conv", "avg")):
        sides = len(call.out[0]) - 2
        for place in (3, 4, 5) if name.startswith("conv") else (1, 2, 3):
            if isinstance(args[place], int):
                args[place] = (args[place],) * sides
            elif isinstance(args[place], list):
                args[place] = tuple(args[place])
        if name == "avg_pool2d" and not args[2]:
            args[2] = args[1]
    if name == "layer_norm":
        args[1] = tuple(args[1])
    made = as_it_was(g, Call(function, tuple(args), {}, call.out))
    return _as_before(g, made, args[0]) if name in ("linear", "layer_norm") else made


def _as_before(g: Graph, made: Value, x: Value) -> Value:
    """What takes its channels last, with its axes as what it was made of has them: a feature map stays one."""
    if made.ndim != x.ndim or made.order == x.order:
        return made
    return Value(g.ordered(made, x.order), made.shape, x.order)


@rule("matmul", "mm", "bmm")
def product(g: Graph, call: Call) -> Any:
    a, b = call.args
    if b.known and b.ndim == 2 and not a.known:
        return _as_before(g, Value.of(matmul(g, g.plain(a), g.plain(b)), call.out[0]), a)
    return as_it_was(g, Call(torch.matmul, call.args, {}, call.out))


@rule("addmm")
def product_and_bias(g: Graph, call: Call) -> Any:
    bias, a, b = call.args
    if call.kwargs or a.known or not b.known or not bias.known or bias.ndim != 1:
        return as_it_was(g, call)
    weight = g.plain(b)
    assert isinstance(weight, Tensor)
    return Value(g.call(F.linear, g.plain(a), weight.T.contiguous(), bias.held), call.out[0], (0, 1))


@rule("einsum")
def einsum(g: Graph, call: Call) -> Any:
    equation, *values = call.args
    given: Sequence[Value] = values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values
    shape: Shape = call.out[0]
    return Value.of(contracted(g, equation.replace(" ", ""), given, shape), shape)
