"""ONNX's operators in torch, one small rule each: arithmetic and activations. To add one, write it here (shapes and
reductions: onnx_shapes.py; linear maps, norms and windows: onnx_linear.py).

A rule takes the graph, the node and a value for each input (None for one that is left out), and gives what torch holds,
or `Turned` where the axes are in another order than in ONNX. Where nothing depends on the images it computes at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.batch_lengths import length
from ..graph.graph import Graph, Held, ImportFailed, Length, Shape, Size, Step, Value
from ..graph.rule_parts import mixes_images, raised


@dataclass(frozen=True, eq=False)
class Node:
    """One call of an operator.

    kind: of the operator, with its domain where that is another than ONNX's. outputs: names. version: of the set of
    operators. count: how many images the model takes at once, where it says so.
    """

    kind: str
    name: str
    attributes: dict[str, Any]
    outputs: list[str]
    version: int
    count: int | None

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


@dataclass(frozen=True, eq=False)
class Counted:
    """Numbers that depend on how many images there are: what they are for COUNTS of them."""

    tensors: tuple[Tensor, Tensor]


class Turned(NamedTuple):
    """What torch holds; its axis i is axis order[i] in ONNX."""

    held: Held
    order: tuple[int, ...]


Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of some operators."""

    def put(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return put


def lengths(value: Value | Counted) -> list[Length]:
    """A vector of whole numbers, which may depend on how many images there are."""
    if isinstance(value, Counted):
        a, b = (t.reshape(-1).tolist() for t in value.tensors)
        return [length(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    return list(numbers(value))


def numbers(value: Any) -> list[int]:
    """A known vector of whole numbers."""
    if isinstance(value, Value) and isinstance(value.held, Tensor):
        return [int(n) for n in value.held.reshape(-1).tolist()]
    raise ImportFailed("its lengths, axes or places depend on the images")


def told(node: Node, name: str, value: Any) -> list[int] | None:
    """Whole numbers that are an attribute in older sets of operators, and an input in newer ones."""
    if value is not None:
        return numbers(value)
    found = node.get(name)
    return None if found is None else [int(n) for n in (found if isinstance(found, (list, tuple)) else [found])]


def axis_of(x: Value, axis: int) -> int:
    """An axis counted from the front."""
    if not -x.ndim <= axis < max(1, x.ndim):
        raise ImportFailed(f"axis {axis} of a value with {x.ndim}")
    return axis % x.ndim


def product(shape: Sequence[Length]) -> Length:
    """How many numbers a shape has."""
    open_ = [n for n in shape if isinstance(n, Size)]
    rest = math.prod(n for n in shape if isinstance(n, int))
    if not open_:
        return rest
    if len(open_) > 1 or open_[0].rest:
        raise ImportFailed("it does not keep the images of a batch apart")
    return Size(open_[0].per * rest)


# Functions of each number.


def elementwise(function: Callable[..., Any]) -> Rule:
    """The rule of a function that torch has too; shapes are broadcast."""

    def of(g: Graph, node: Node, *values: Value) -> Turned:
        rank = max(value.ndim for value in values)
        held, order = g.aligned(same_count(node, [raised(g, value, rank) for value in values]))
        return Turned(g.call(function, *held), order)

    return of


def same_count(node: Node, values: Sequence[Value]) -> list[Value]:
    """Known values that were written once for each image of a batch of one size, once for all."""
    rank = max(value.ndim for value in values)
    moving = [value for value in values if not value.known and value.ndim == rank]
    result = []
    for value in values:
        for axis in range(value.ndim if value.ndim == rank else 0):
            each = any(isinstance(other.shape[axis], Size) for other in moving)
            if value.known and each and node.count is None and value.shape[axis] not in (1, Size(1)):
                raise ImportFailed(
                    f"the file says that it takes any number of images, but holds a constant for {value.shape[axis]} "
                    "of them: export it with x.shape[0] in place of len(x), or with a fixed number"
                )
            if value.known and each and value.shape[axis] == node.count:
                assert isinstance(value.held, Tensor)
                row = value.held.narrow(value.axis(axis), 0, 1)
                if not torch.equal(row.expand_as(value.held), value.held):
                    raise ImportFailed("a constant of the model holds other numbers for each image of a batch")
                shape = (*value.shape[:axis], Size(1), *value.shape[axis + 1 :])
                value = Value(row, shape, value.order)
        result.append(value)
    return result


SAME: dict[str, Callable[..., Any]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Neg": torch.neg, "Exp": torch.exp, "Log": torch.log,
    "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "Erf": torch.erf, "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal,
    "Abs": torch.abs, "Sign": torch.sign, "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Asin": torch.asin,
    "Acos": torch.acos, "Atan": torch.atan, "Sinh": torch.sinh, "Cosh": torch.cosh, "Asinh": torch.asinh,
    "Acosh": torch.acosh, "Atanh": torch.atanh, "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round,
    "Pow": torch.pow, "Greater": torch.gt, "Less": torch.lt, "Equal": torch.eq, "GreaterOrEqual": torch.ge,
    "LessOrEqual": torch.le, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
    "Not": torch.logical_not, "IsNaN": torch.isnan, "IsInf": torch.isinf, "Relu": F.relu,
    "Softplus": F.softplus, "Softsign": F.softsign, "Mish": F.mish, "HardSwish": F.hardswish,
}  # fmt: skip
RULES.update({name: elementwise(function) for name, function in SAME.items()})


@rule("Where")
def where(g: Graph, node: Node, condition: Value, a: Value, b: Value) -> Any:
    """One of two values; what a known condition takes at all places is that value."""
    known = condition.number()
    taken, other = (a, b) if known else (b, a)
    if known is not None and all(_inside(value.shape, taken.shape) for value in (condition, other)):
        return Turned(taken.held, taken.order)
    return elementwise(torch.where)(g, node, condition, a, b)


def _inside(shape: Shape, whole: Shape) -> bool:
    """Whether a shape is broadcast to another."""
    pairs = zip(reversed(shape), reversed(whole), strict=False)
    return len(shape) <= len(whole) and all(n in (1, length) for n, length in pairs)


@rule("Div")
def div(g: Graph, node: Node, a: Value, b: Value) -> Turned:
    whole = all(isinstance(v.held, Tensor) and not v.held.is_floating_point() for v in (a, b))
    function = functools.partial(torch.div, rounding_mode="trunc") if whole else torch.div
    place, eps = _length(a, b)
    if place is not None:
        return Turned(g.call(F.normalize, a.held, 2.0, place, eps), a.order)
    return elementwise(function)(g, node, a, b)  # type: ignore[no-any-return]


def _length(a: Value, b: Value) -> tuple[int | None, float]:
    """The one axis over which b is the length of a, as torch's normalize has it, and the least that it is."""
    step, eps = b.held, 0.0
    while isinstance(step, Step) and step.function in (Tensor.expand, torch.clamp):
        if step.function is torch.clamp:
            told = dict(zip(("min", "max"), step.args[1:], strict=False)) | dict(step.kwargs)
            if told.get("max") is not None:
                return None, eps
            eps = float(told.get("min") or 0.0)
        step = step.args[0]
    if not isinstance(step, Step) or step.function is not torch.sqrt or step.args[0].function is not torch.sum:
        return None, eps
    square, places = step.args[0].args
    if square.function is not torch.square or square.args[0] is not a.held or a.order != b.order:
        return None, eps
    return (places[0] if len(places) == 1 and step.args[0].kwargs.get("keepdim") else None), eps


@rule("Mod")
def mod(g: Graph, node: Node, a: Value, b: Value) -> Turned:
    return elementwise(torch.fmod if node.get("fmod") else torch.remainder)(g, node, a, b)  # type: ignore[no-any-return]


@rule("Sum", "Mean")
def total(g: Graph, node: Node, *values: Value) -> Turned:
    rank = max(value.ndim for value in values)
    held, order = g.aligned(same_count(node, [raised(g, value, rank) for value in values]))
    out = functools.reduce(lambda a, b: g.call(torch.add, a, b), held)
    return Turned(g.call(torch.div, out, len(values)) if node.kind == "Mean" else out, order)


@rule("Max", "Min")
def extreme(g: Graph, node: Node, *values: Value) -> Turned:
    """The largest or smallest of several values; of one and numbers it is a clamp."""
    moving = [value for value in values if value.number() is None]
    limits = [number for value in values if (number := value.number()) is not None]
    rank = max(value.ndim for value in values)
    if not moving or moving[0].ndim < rank:
        moving, limits = list(values), []
    held, order = g.aligned(same_count(node, [raised(g, value, rank) for value in moving]))
    largest = node.kind == "Max"
    out = functools.reduce(lambda a, b: g.call(torch.maximum if largest else torch.minimum, a, b), held)
    if limits:
        limit = {"min": max(limits)} if largest else {"max": min(limits)}
        out = g.call(torch.clamp, out, **limit)
    return Turned(out, order)


def activation(function: Callable[..., Any], **options: tuple[str, float]) -> Rule:
    """The rule of an activation of torch whose numbers are attributes, each with its name and default."""

    def of(g: Graph, node: Node, x: Value) -> Turned:
        given = {name: float(node.get(theirs, default)) for name, (theirs, default) in options.items()}
        return Turned(g.call(function, x.held, **given), x.order)

    return of


RULES |= {
    "LeakyRelu": activation(F.leaky_relu, negative_slope=("alpha", 0.01)),
    "Elu": activation(F.elu, alpha=("alpha", 1.0)),
    "Celu": activation(F.celu, alpha=("alpha", 1.0)),
}


@rule("Selu")
def selu(g: Graph, node: Node, x: Value) -> Turned:
    alpha, gamma = (
        float(node.get("alpha", 1.67326319217681884765625)),
        float(node.get("gamma", 1.05070102214813232421875)),
    )
    if math.isclose(alpha, 1.6732632, rel_tol=1e-6) and math.isclose(gamma, 1.050701, rel_tol=1e-6):
        return Turned(g.call(F.selu, x.held), x.order)
    return Turned(g.call(torch.mul, g.call(F.elu, x.held, alpha=alpha), gamma), x.order)


@rule("Gelu")
def gelu(g: Graph, node: Node, x: Value) -> Turned:
    return Turned(g.call(F.gelu, x.held, approximate=node.get("approximate", "none")), x.order)


@rule("HardSigmoid")
def hard_sigmoid(g: Graph, node: Node, x: Value) -> Turned:
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return Turned(g.call(F.hardsigmoid, x.held), x.order)
    line = g.call(torch.add, g.call(torch.mul, x.held, alpha), beta)
    return Turned(g.call(torch.clamp, line, 0.0, 1.0), x.order)


@rule("ThresholdedRelu")
def thresholded_relu(g: Graph, node: Node, x: Value) -> Turned:
    return Turned(g.call(F.threshold, x.held, float(node.get("alpha", 1.0)), 0.0), x.order)


@rule("PRelu")
def prelu(g: Graph, node: Node, x: Value, slope: Value) -> Turned:
    channel = [i for i, n in enumerate(slope.shape) if n != 1]
    known = slope.held
    if isinstance(known, Tensor) and (not channel or slope.ndim - channel[0] == x.ndim - 1) and len(channel) <= 1:
        return Turned(g.call(F.prelu, g.plain(x), known.reshape(-1)), tuple(range(x.ndim)))
    bent = elementwise(torch.mul)(g, node, x, slope)
    upper = elementwise(torch.ge)(g, node, x, Value(torch.tensor(0.0), (), ()))
    held = [g.ordered(Value(t.held, x.shape, t.order), x.order) for t in (upper, bent)]
    return Turned(g.call(torch.where, held[0], x.held, held[1]), x.order)


@rule("Clip")
def clip(g: Graph, node: Node, x: Value, *ends: Value | None) -> Turned:
    """A ReLU is not told from other clamps at zero, which also guard variances; ReLU6 is."""
    low, high = (node.get(name) for name in ("min", "max"))
    if node.version >= 11:
        low, high = (None if end is None else end.number() for end in (*ends, None, None)[:2])
        if any(end is not None and not end.known for end in ends):
            raise ImportFailed("it clips at numbers that depend on the images")
    low, high = (None if end is None or abs(end) >= 3e38 else float(end) for end in (low, high))
    if (low, high) == (0.0, 6.0):
        return Turned(g.call(F.relu6, x.held), x.order)
    return Turned(x.held if low is high is None else g.call(torch.clamp, x.held, low, high), x.order)


@rule("Identity", "Dropout", "Cast", "CastLike")
def same(g: Graph, node: Node, x: Value, *more: Value | None) -> Any:
    """Floating numbers stay of one kind throughout: the one of the weights."""
    if node.kind == "Dropout":
        training = more[1].number() if len(more) > 1 and more[1] is not None else node.get("is_test", 1) == 0
        if training is not False and training != 0:
            raise ImportFailed("dropout is on: export the network in evaluation mode")
        return [Turned(x.held, x.order)] * len(node.outputs)
    wanted = node.get("to")
    if node.kind in ("Identity", "CastLike") or wanted in FLOATING:
        floating = not isinstance(x.held, Tensor) or x.held.is_floating_point()
        held = x.held if node.kind != "Cast" or (x.known and floating) else g.call(Tensor.to, x.held, g.dtype)
        return Turned(held, x.order)
    if wanted not in WHOLE and wanted != BOOL:
        raise ImportFailed("it casts to numbers that torch has not")
    return Turned(g.call(Tensor.to, x.held, torch.bool if wanted == BOOL else torch.int64), x.order)


FLOATING, WHOLE, BOOL = (1, 10, 11, 16), (2, 3, 4, 5, 6, 7, 12, 13), 9  # as TensorProto.DataType numbers them


@rule("Softmax", "LogSoftmax")
def softmax(g: Graph, node: Node, x: Value) -> Any:
    function = F.softmax if node.kind == "Softmax" else F.log_softmax
    axis = axis_of(x, node.get("axis", -1 if node.version >= 13 else 1))
    mixes_images(x, [axis], node.kind)
    if node.version >= 13 or all(n == 1 for n in x.shape[axis + 1 :]):
        return Turned(g.call(function, x.held, x.axis(axis)), x.order)
    last = tuple(range(axis, x.ndim))  # over all the axes from this one on, as if they were one
    mixes_images(x, last, node.kind)
    flat = g.call(torch.flatten, g.plain(x), axis)
    return g.reshaped(g.call(function, flat, axis), x.shape)
