"""ONNX's operators in torch: arithmetic and activations (shapes and reductions: shape_rules.py; convolutions, products
of matrices, norms, pools: linear_rules.py; quantized networks: quantized_rules.py).

To add an operator that torch has as a function of each number, or as a reduction, write one row of the tables in
graph/elementwise.py or graph/reductions.py. Any other has a rule here: a function of the graph, the node (its
attributes and the version of the operator set) and a `Value` for each input, None for one that is left out. It returns
what torch holds with its axes as in ONNX, `Permuted` where they are in another order, a `Value`, or a list of those
for several outputs. See `thresholded_relu` for a short one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph import reductions
from ..graph.batch_dims import check_batch_axis, dim
from ..graph.elementwise import applied, broadcast, cast, extreme, named
from ..graph.graph import BatchDim, Dim, Graph, ImportFailed, Shape, Step, Value
from ..graph.rules import Rule, Rules
from ..graph.shapes import ints, with_rank

RULES = Rules()
rule = RULES.rule


@dataclass(frozen=True, eq=False)
class Node:
    """One call of an operator.

    kind: of the operator, with its domain unless that is ONNX's own. outputs: names. version: of the set of
    operators. batch_size: of the images that the model takes, where it is fixed.
    """

    kind: str
    name: str
    attributes: dict[str, Any]
    outputs: list[str]
    version: int
    batch_size: int | None

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)


@dataclass(frozen=True, eq=False)
class DynamicDim:
    """Integers that depend on the batch size, such as dimensions: what they are for BATCH_SIZES images."""

    tensors: tuple[Tensor, Tensor]


def dims(value: Value | DynamicDim) -> list[Dim]:
    """A vector of integers, which may depend on the batch size."""
    if isinstance(value, DynamicDim):
        a, b = (t.reshape(-1).tolist() for t in value.tensors)
        return [dim(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    return list(ints(value))


def static_ints(node: Node, name: str, value: Any) -> list[int] | None:
    """Integers known at import: an attribute in older operator sets, an input in newer ones."""
    if value is not None:
        return ints(value)
    found = node.get(name)
    return None if found is None else [int(n) for n in (found if isinstance(found, (list, tuple)) else [found])]


def axis_of(x: Value, axis: int) -> int:
    """An axis counted from the front."""
    if not -x.ndim <= axis < max(1, x.ndim):
        raise ImportFailed(f"axis {axis} of a value with {x.ndim}")
    return axis % x.ndim


# Functions of each number.


def elementwise(function: Callable[..., Any]) -> Rule:
    """The rule of a function that torch has too; shapes are broadcast."""

    def of(g: Graph, node: Node, *values: Value) -> Value:
        return broadcast(g, function, *with_free_batch(g, node, values))

    return of


RULES.update({name: elementwise(function) for name, function in named("onnx").items()})


def with_free_batch(g: Graph, node: Node, values: Sequence[Value]) -> list[Value]:
    """Values of one rank; known ones that were written once for each image of a fixed batch, once for all."""
    rank = max(value.ndim for value in values)
    values = [with_rank(g, value, rank) for value in values]
    moving = [value for value in values if not value.known and value.ndim == rank]
    result = []
    for value in values:
        for axis in range(value.ndim if value.ndim == rank else 0):
            each = any(isinstance(other.shape[axis], BatchDim) for other in moving)
            if value.known and each and node.batch_size is None and value.shape[axis] not in (1, BatchDim(1)):
                raise ImportFailed(
                    f"the file says that it takes any number of images, but holds a constant for {value.shape[axis]} "
                    "of them: export it with x.shape[0] in place of len(x), or with a fixed number"
                )
            if value.known and each and value.shape[axis] == node.batch_size:
                assert isinstance(value.held, Tensor)
                row = value.held.narrow(value.axis(axis), 0, 1)
                if not torch.equal(row.expand_as(value.held), value.held):
                    raise ImportFailed("a constant of the model holds other numbers for each image of a batch")
                shape = (*value.shape[:axis], BatchDim(1), *value.shape[axis + 1 :])
                value = Value(row, shape, value.order)
        result.append(value)
    return result


@rule("Where")
def where(g: Graph, node: Node, condition: Value, a: Value, b: Value) -> Value:
    """One of two values; what a known condition takes at all places is that value."""
    known = condition.number()
    taken, other = (a, b) if known else (b, a)
    if known is not None and all(_inside(value.shape, taken.shape) for value in (condition, other)):
        return taken
    return broadcast(g, torch.where, *with_free_batch(g, node, (condition, a, b)))


def _inside(shape: Shape, whole: Shape) -> bool:
    """Whether a shape is broadcast to another."""
    pairs = zip(reversed(shape), reversed(whole), strict=False)
    return len(shape) <= len(whole) and all(n in (1, length) for n, length in pairs)


@rule("Div")
def div(g: Graph, node: Node, a: Value, b: Value) -> Value:
    place, eps = _length(a, b)
    if place is not None:
        return applied(g, F.normalize, a, 2.0, place, eps)
    whole = all(isinstance(v.held, Tensor) and not v.held.is_floating_point() for v in (a, b))
    function = functools.partial(torch.div, rounding_mode="trunc") if whole else torch.div
    return broadcast(g, function, *with_free_batch(g, node, (a, b)))


def _length(a: Value, b: Value) -> tuple[int | None, float]:
    """The one axis over which b is the length of a, as torch's normalize has it, and the least that it is."""
    step, eps = b.held, 0.0
    while isinstance(step, Step) and step.function in (Tensor.expand, torch.clamp):
        if step.function is torch.clamp:
            bounds = dict(zip(("min", "max"), step.args[1:], strict=False)) | dict(step.kwargs)
            if bounds.get("max") is not None:
                return None, eps
            eps = float(bounds.get("min") or 0.0)
        step = step.args[0]
    if not isinstance(step, Step) or step.function is not torch.sqrt or step.args[0].function is not torch.sum:
        return None, eps
    square, places = step.args[0].args
    if square.function is not torch.square or square.args[0] is not a.held or a.order != b.order:
        return None, eps
    return (places[0] if len(places) == 1 and step.args[0].kwargs.get("keepdim") else None), eps


@rule("Mod")
def mod(g: Graph, node: Node, a: Value, b: Value) -> Value:
    return broadcast(g, torch.fmod if node.get("fmod") else torch.remainder, *with_free_batch(g, node, (a, b)))


@rule("Sum", "Mean")
def total(g: Graph, node: Node, *values: Value) -> Value:
    out = functools.reduce(lambda a, b: broadcast(g, torch.add, a, b), with_free_batch(g, node, values))
    return applied(g, torch.div, out, len(values)) if node.kind == "Mean" else out


@rule("Max", "Min")
def max_or_min(g: Graph, node: Node, *values: Value) -> Value:
    return extreme(g, node.kind == "Max", *with_free_batch(g, node, values))


def activation(function: Callable[..., Any], **options: tuple[str, float]) -> Rule:
    """The rule of an activation of torch whose numbers are attributes, each with its name and default."""

    def of(g: Graph, node: Node, x: Value) -> Value:
        given = {name: float(node.get(theirs, default)) for name, (theirs, default) in options.items()}
        return applied(g, function, x, **given)

    return of


RULES.update({
    "LeakyRelu": activation(F.leaky_relu, negative_slope=("alpha", 0.01)),
    "Elu": activation(F.elu, alpha=("alpha", 1.0)),
    "Celu": activation(F.celu, alpha=("alpha", 1.0)),
})  # fmt: skip


@rule("Selu")
def selu(g: Graph, node: Node, x: Value) -> Value:
    alpha, gamma = float(node.get("alpha", 1.6732632423543772)), float(node.get("gamma", 1.0507010221481323))
    if math.isclose(alpha, 1.6732632, rel_tol=1e-6) and math.isclose(gamma, 1.050701, rel_tol=1e-6):
        return applied(g, F.selu, x)
    return applied(g, torch.mul, applied(g, F.elu, x, alpha=alpha), gamma)


@rule("Gelu")
def gelu(g: Graph, node: Node, x: Value) -> Value:
    return applied(g, F.gelu, x, approximate=node.get("approximate", "none"))


@rule("HardSigmoid")
def hard_sigmoid(g: Graph, node: Node, x: Value) -> Value:
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return applied(g, F.hardsigmoid, x)
    return applied(g, torch.clamp, applied(g, torch.add, applied(g, torch.mul, x, alpha), beta), 0.0, 1.0)


@rule("ThresholdedRelu")
def thresholded_relu(g: Graph, node: Node, x: Value) -> Value:
    return applied(g, F.threshold, x, float(node.get("alpha", 1.0)), 0.0)


@rule("PRelu")
def prelu(g: Graph, node: Node, x: Value, slope: Value) -> Any:
    channel = [i for i, n in enumerate(slope.shape) if n != 1]
    known = slope.held
    if isinstance(known, Tensor) and (not channel or slope.ndim - channel[0] == x.ndim - 1) and len(channel) <= 1:
        return g.call(F.prelu, g.plain(x), known.reshape(-1))
    bent = broadcast(g, torch.mul, *with_free_batch(g, node, (x, slope)))
    return broadcast(g, torch.where, applied(g, torch.ge, x, 0.0), x, bent)


@rule("Clip")
def clip(g: Graph, node: Node, x: Value, *ends: Value | None) -> Value:
    """A ReLU cannot be distinguished from other clamps at zero, which also guard variances; ReLU6 is."""
    low, high = (node.get(name) for name in ("min", "max"))
    if node.version >= 11:
        low, high = (None if end is None else end.number() for end in (*ends, None, None)[:2])
        if any(end is not None and not end.known for end in ends):
            raise ImportFailed("it clips at numbers that depend on the images")
    low, high = (None if end is None or abs(end) >= 3e38 else float(end) for end in (low, high))
    if (low, high) == (0.0, 6.0):
        return applied(g, F.relu6, x)
    return x if low is high is None else applied(g, torch.clamp, x, low, high)


@rule("Identity", "Dropout", "Cast", "CastLike")
def same(g: Graph, node: Node, x: Value, *more: Value | None) -> Any:
    """Floating-point numbers stay of one kind throughout: the one of the weights."""
    if node.kind == "Dropout":
        training = more[1].number() if len(more) > 1 and more[1] is not None else node.get("is_test", 1) == 0
        if training is not False and training != 0:
            raise ImportFailed("dropout is on: export the network in evaluation mode")
        return [x] * len(node.outputs)
    wanted = node.get("to")
    if node.kind in ("Identity", "CastLike"):
        return x
    if wanted not in (*FLOATING, *WHOLE, BOOL):
        raise ImportFailed("it casts to a type that torch does not have")
    return cast(g, x, torch.bool if wanted == BOOL else g.dtype if wanted in FLOATING else torch.int64, False)


FLOATING, WHOLE, BOOL = (1, 10, 11, 16), (2, 3, 4, 5, 6, 7, 12, 13), 9  # as TensorProto.DataType numbers them


@rule("Softmax", "LogSoftmax")
def softmax(g: Graph, node: Node, x: Value) -> Any:
    axis, logarithm = axis_of(x, node.get("axis", -1 if node.version >= 13 else 1)), node.kind == "LogSoftmax"
    if node.version >= 13 or all(n == 1 for n in x.shape[axis + 1 :]):
        return reductions.softmax(g, x, axis, logarithm=logarithm, name=node.kind)
    check_batch_axis(x, range(axis, x.ndim), node.kind)  # over all the axes from this one on, as if they were one
    flat = g.call(torch.flatten, g.plain(x), axis)
    return g.reshaped(g.call(F.log_softmax if logarithm else F.softmax, flat, axis), x.shape)
