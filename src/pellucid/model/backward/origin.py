"""What the graph says of where a tensor comes from."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .nodes import FunctionNode, LinearCall, LinearNode, StopNode

FUNCTION: Any = FunctionNode._backward_cls
LINEAR: Any = LinearNode._backward_cls
STOP: Any = StopNode._backward_cls
WORDS = {
    "shaping": "View UnsafeView ReshapeAlias Clone Alias Expand Unsqueeze Squeeze Permute Transpose Slice Select Split "
    "Unbind T ToCopy",
    "keeping": "MaxPool1D MaxPool2D MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AvgPool2D AvgPool3D "
    "AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D Mean Sum Cat Add UpsampleNearest2D UpsampleBilinear2D",
    "nonnegative": "Relu Softmax Sigmoid Hardsigmoid Softplus",
    "gate": "Sigmoid Hardsigmoid Softmax Rsqrt Reciprocal",
}


def nodes(sort: str) -> frozenset[str]:
    """The names that autograd gives to the nodes of a sort of functions."""
    return frozenset(f"{word}Backward{number}" for word in WORDS[sort].split() for number in range(3))


SHAPING, NONNEGATIVE, GATE = nodes("shaping"), nodes("nonnegative"), nodes("gate")
KEEPING = SHAPING | nodes("keeping")
"""Their output has no negative values where their inputs have none."""


def is_nonnegative(x: Tensor) -> bool:
    """Whether x surely has no negative values: it comes out of a ReLU, by pooling, joining, reshaping or adding."""
    waiting = [x.grad_fn]
    for _ in range(256):
        if not waiting:
            return True
        node: Any = waiting.pop()
        if node is None:
            return False
        name = node.name()
        if name in NONNEGATIVE or (isinstance(node, FUNCTION) and node.marks is not None and node.marks.nonnegative):
            continue
        if name not in KEEPING or (name == "AddBackward0" and node._saved_alpha < 0):
            return False
        waiting += [before for before, _ in node.next_functions]
    return False


def is_gate(x: Tensor) -> bool:
    """Whether x comes out of a sigmoid, a softmax or a reciprocal: it says how much of something else goes on."""
    node = _behind(x, SHAPING)
    if isinstance(node, FUNCTION):
        return node.marks is not None and bool(node.marks.gate)
    return node is not None and node.name() in GATE


def is_stopped(x: Tensor) -> bool:
    """Whether x is computed from what a rule has made a constant."""
    waiting, seen = [x.grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if isinstance(node, STOP):
            return True
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return False


def source_of(x: Tensor) -> Any:
    """The node that made x, seen through copies."""
    return _behind(x, frozenset(("CloneBackward0", "ViewBackward0", "AliasBackward0")))


def linear_call(node: Any) -> LinearCall | None:
    """The linear map behind a node, if it is one that has a rule."""
    return node.call if isinstance(node, LINEAR) else None


def _behind(x: Tensor, through: frozenset[str]) -> Any:
    node: Any = x.grad_fn
    while node is not None and node.name() in through:
        node = node.next_functions[0][0]
    return node
